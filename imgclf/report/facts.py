"""What the report shows, as plain values. May import evaluation/ and what else is plain.

Whoever builds the facts knows the run, whoever renders them only writes.
A later section of the page is one more field here and one more row in `imgclf.report.page.SECTIONS`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgclf.evaluation.metrics import Metrics
from imgclf.evaluation.slices import Slice
from imgclf.report.learning_curve import LearningCurve
from imgclf.report.sureness import Sureness


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One epoch.

    Attributes:
        stage: "head" (only the new layers), "fine-tune" (also part of the backbone; "fine-tune 2" for the second of an
            ensemble), "average" (of an ensemble), "training" (from scratch).
        epoch: number within its stage, from 1.
        loss: on the training images.
        accuracy: on the training images, 0..1.
        val_loss: on the validation images; None without any.
        val_accuracy: on the validation images, 0..1; None without any.
        learning_rate: at the end of the epoch; None where there is no such thing (a head fitted in closed form).
        seconds: time the epoch took; None if unknown.
        kept: whether these weights are the model's; at most one row of a history.
    """

    stage: str
    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    learning_rate: float | None = None
    seconds: float | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """One test image and what the model said of it.

    Attributes:
        path: a file to read the thumbnail from (the staged image or the user's).
        shown_path: the path to show, as the user knows it.
        true_label: the class of its folder.
        predicted_label: the class that was predicted.
        probability: of the predicted class, 0..1.
        true_probability: of the true class, 0..1.
        second_label: the class that came second.
        second_probability: of that class, 0..1.
    """

    path: Path
    shown_path: str
    true_label: str
    predicted_label: str
    probability: float
    true_probability: float
    second_label: str = ""
    second_probability: float = 0.0

    @property
    def right(self) -> bool:
        """Whether the model named it correctly."""
        return self.true_label == self.predicted_label

    @property
    def margin(self) -> float:
        """By how much the best class is ahead of the second, 0..1; the model is unsure where it is small."""
        return self.probability - self.second_probability


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One exported model file and how well it agrees with the Keras model.

    Attributes:
        name: the file's path within the run folder.
        format: what it is, for people ("float16", "Keras").
        bytes: size of the file.
        agreement: share of the compared images with the same most probable class, 0..1; None if not compared.
        max_difference: largest difference of any probability; None if not compared.
        n: number of images compared.
        accuracy: of the file on those images, 0..1; None if not compared.
        drop: by how much that is below the Keras model, 0..1.
        mediapipe: as agreement, by MediaPipe from the original files; None if it was not asked.
        milliseconds: one image through LiteRT on one thread of this computer; None if not measured.
        fault: why the file is not to be shipped; "" where it may be.
        suggested: whether it is the file to ship.
    """

    name: str
    format: str
    bytes: int
    agreement: float | None = None
    max_difference: float | None = None
    n: int = 0
    accuracy: float | None = None
    drop: float = 0.0
    mediapipe: float | None = None
    milliseconds: float | None = None
    fault: str = ""
    suggested: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file with what it shows, in a few words and in a sentence."""

    path: Path
    title: str
    caption: str


@dataclass(frozen=True, slots=True)
class Samples:
    """Training images as the training varied them.

    Attributes:
        path: a JPEG of a row per image: first as it is, then varied.
        rows: number of images.
        readings: how often each is drawn varied.
        augment: name of the recipe.
    """

    path: Path
    rows: int
    readings: int
    augment: str


@dataclass(frozen=True)
class ReportFacts:
    """Everything on the page.

    Attributes:
        title: the page's title ("clothing").
        run_name: name of the run folder.
        created: date and time, ISO 8601.
        command: the command line that repeats the run.
        classes: class names in the order of the model's outputs.
        counts: part ("train", "val", "test") to class to number of images.
        data_notes: what was found in the data ("3 unreadable files were left out: ..."), a sentence each.
        backbone: title of the backbone ("MobileNetV2 1.0").
        image_size: height and width of the model's input in pixels.
        parameters: number of weights of the whole model.
        plan: what was decided for this run and why, a sentence each.
        metrics: on the test images.
        history: every epoch in the order of training; may be empty.
        tested: every test image with its prediction, in any order; may be empty where nothing is known of them.
        exports: the model files; may be empty.
        settings: every setting and its value.
        versions: library to version.
        seed: the run's seed.
        fingerprint: hash of the data.
        layers: what the network sees, layer by layer; may be empty.
        folds: accuracy in each fold of a cross-validation, 0..1; empty where a test part was measured on.
        run_path: the run folder, as commands may name it.
        data_path: the images, likewise.
        sureness: what was done to the probabilities, and what a gate is worth; None where there is neither.
        slices: how the model fares on groups of the test images, weak ones first; empty where nothing can be compared.
        heat: of some mistakes, by `shown_path` and the class that is explained: a JPEG of what spoke for it.
        samples: training images as they are and as the training varied them, drawn side by side; None without.
        learning: what more training images would bring; None where that is not known.
    """

    title: str
    run_name: str
    created: str
    command: str
    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    data_notes: Sequence[str]
    backbone: str
    image_size: tuple[int, int]
    parameters: int
    plan: Sequence[str]
    metrics: Metrics
    history: tuple[HistoryRow, ...]
    tested: tuple[Answered, ...]
    exports: tuple[ExportRow, ...]
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    seed: int
    fingerprint: str
    layers: tuple[Picture, ...] = ()
    folds: tuple[float, ...] = ()
    run_path: str = "RUN"
    data_path: str = "DATA"
    sureness: Sureness | None = None
    slices: tuple[Slice, ...] = ()
    heat: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    samples: Samples | None = None
    learning: LearningCurve | None = None

    @property
    def kept(self) -> HistoryRow | None:
        """The epoch whose weights the model has; None where the history does not say."""
        return next((row for row in self.history if row.kept), None)

    @property
    def tuned(self) -> bool:
        """Whether a network was fine-tuned after its head."""
        stages = {row.stage for row in self.history}
        return "head" in stages and len(stages) > 1

    @property
    def mistakes(self) -> tuple[Answered, ...]:
        """The test images that were named wrongly, the ones that the model was surest of first."""
        return worst_of(self.tested)

    def images_of(self, part: str) -> int:
        """How many images a part ("train", "val", "test") has."""
        return sum(self.counts.get(part, {}).values())


def worst_of(tested: Iterable[Answered]) -> tuple[Answered, ...]:
    """Those that were named wrongly, the ones that the model was surest of first."""
    # The path decides between equals, so that the same facts give the same page.
    wrong = (image for image in tested if not image.right)
    return tuple(sorted(wrong, key=lambda image: (-image.probability, image.shown_path)))
