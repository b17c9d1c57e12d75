"""Do a run's mobile files behave like its Keras model? May import predict, mediapipe, evaluation/ and models/litert.

The same images through Keras, through LiteRT, and through MediaPipe's ImageClassifier, which reads the original file
as an app does. Whatever speaks against shipping a file is said; results.py acts on it.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf import predict, runs
from imgclf.evaluation.metrics import wilson
from imgclf.evaluation.paired import paired
from imgclf.export import mediapipe
from imgclf.export.catalog import FORMATS, MAX_DROP, Bound, Format
from imgclf.export.convert import Made
from imgclf.models.litert import LiteModel
from imgclf.progress import step, warn
from imgclf.workers.parallel import ChildFailed

CHANCE = 0.05  # a loss is one when so few would be as uneven by chance
# Share of images with the top class of Keras that MediaPipe must reach. It resizes the original itself, on a CPU with
# bilinear samples half a pixel off (OpenCV's warp, corner to corner): up to 2.4 % of 372 photos change their class by
# that alone (docs/benchmarks.md). A wrong order of labels or a wrong normalisation is far below.
BY_MEDIAPIPE = 0.95

Scores = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """How a file's answers compare with those of Keras on the same images.

    Attributes:
        n: number of images.
        agreement: share with the same top class.
        mean_difference: of a probability.
        max_difference: of a probability.
        accuracy: share of the images that the file gets right.
        low: lower end of its 95 % Wilson interval.
        high: upper end.
        drop: by how much the accuracy is below that of Keras, 0..1; negative where it is above.
        p: McNemar's exact test of that, two-sided.
    """

    n: int
    agreement: float
    mean_difference: float
    max_difference: float
    accuracy: float
    low: float
    high: float
    drop: float
    p: float

    def outside(self, bound: Bound) -> bool:
        """Whether they differ by more than they may; a NaN does, and one image never does alone."""
        differing = round((1 - self.agreement) * self.n)
        alike = differing <= max(1, (1 - bound.agreement) * self.n)
        return not (alike and self.max_difference <= bound.difference)


@dataclass(frozen=True)
class Exported:
    """One .tflite file and what was found about it.

    Attributes:
        path: the file.
        format: a name of FORMATS.
        bytes: its size.
        input: dtype of its input.
        output: dtype of its output.
        milliseconds: one image through LiteRT with one thread, the fastest of some runs.
        litert: its answers by LiteRT.
        mediapipe: by MediaPipe; None where it was not asked.
        notes: what there is to say, one line each.
        faults: why it is not to be shipped; empty where it may be.
    """

    path: Path
    format: str
    bytes: int
    input: str
    output: str
    milliseconds: float
    litert: Agreement
    mediapipe: Agreement | None
    notes: tuple[str, ...]
    faults: tuple[str, ...]

    def __str__(self) -> str:
        text = (f"{self.path}: {self.bytes / 1e6:.1f} MB, same answer as Keras on {self.litert.agreement:.1%} of "
                f"{self.litert.n} images, probabilities within {self.litert.max_difference:.1g}")  # fmt: skip
        return f"{text}; NOT to be shipped: {'; '.join(self.faults)}" if self.faults else text


@dataclass(frozen=True)
class Reference:
    """What the Keras model says of images.

    Attributes:
        classes: in the order of the scores.
        images: the files.
        labels: their class indices `(n,)`.
        scores: what Keras says `(n, C)`.
    """

    classes: tuple[str, ...]
    images: tuple[Path, ...]
    labels: Labels
    scores: Scores

    @property
    def known(self) -> int:
        """How many of the scores are of classes: all but that of "unknown"."""
        return len(self.classes) - (self.classes[-1] == runs.UNKNOWN and len(self.classes) - 1 not in self.labels)

    def some(self, count: int) -> "Reference":
        """So many of the images, spread over all."""
        if len(self.images) <= count:
            return self
        at = np.linspace(0, len(self.images) - 1, count).round().astype(int)
        return Reference(self.classes, tuple(self.images[place] for place in at), self.labels[at], self.scores[at])


@dataclass(frozen=True)
class Limits:
    """What a file may cost.

    Attributes:
        max_drop: of the accuracy, 0..1.
        min_agreement: share of images with the same top class; None: the format's own.
        mediapipe_images: that MediaPipe is asked for; 0: it is not.
        strict: an 8-bit file that costs too much is an error, not a warning.
    """

    max_drop: float = MAX_DROP
    min_agreement: float | None = None
    mediapipe_images: int = 32
    strict: bool = False

    def least_agreement(self, own: float) -> float:
        """The share that was asked for, 0 too; a format's own where none was."""
        return own if self.min_agreement is None else self.min_agreement


def verify(made: Mapping[str, Made], reference: Reference, limits: Limits) -> tuple[Exported, ...]:
    """Run files over images on the runtimes of phones and compare with Keras.

    Args:
        made: format to file.
        reference: the images and what Keras says of them.
        limits: what may differ.

    Returns:
        One row per file, in their order.
    """
    if not made:
        return ()
    asked = reference.some(limits.mediapipe_images)
    with ThreadPoolExecutor(1) as beside:  # MediaPipe has a process of its own
        answers = beside.submit(_by_mediapipe, made, asked) if limits.mediapipe_images else None
        found = _by_litert(made, reference)
        heard = answers.result() if answers is not None else {}
    rows = []
    for name, file in made.items():
        kind = FORMATS[name]
        model = LiteModel(file.path, threads=1)
        litert = agreement(found[name], reference)
        faults = [*_label_faults(model, reference.classes), *_faults(kind, litert, limits)]
        if file.too_much:
            faults.append(file.too_much)
        notes = [*file.notes]
        by_mediapipe = None
        if name in heard:
            answer = heard[name]
            if answer.unsupported:
                notes.append(f"MediaPipe was not asked: {answer.error}")
            elif answer.error:
                faults.append(f"MediaPipe refuses it: {answer.error}")
            else:
                by_mediapipe = agreement(answer.scores, asked)
                faults += _mediapipe_faults(kind, answer, by_mediapipe, reference.classes, limits)
        rows.append(Exported(
            file.path, name, file.path.stat().st_size, model.input_dtype.name, model.output_dtype.name,
            model.fastest(), litert, by_mediapipe, tuple(notes), tuple(faults),
        ))  # fmt: skip
    return tuple(rows)


def agreement(scores: Scores, reference: Reference) -> Agreement:
    """Compare scores `(n, C)` with those of Keras."""
    top, labels = scores.argmax(axis=1), reference.labels
    expected = reference.scores.argmax(axis=1)
    difference = np.abs(scores - reference.scores)
    # the accuracy is that of the classes: what a gate lets go is counted as coverage, not as a mistake
    ours, theirs = (each[:, : reference.known].argmax(axis=1) == labels for each in (reference.scores, scores))
    change = paired(ours, theirs)
    right = int(theirs.sum())
    low, high = wilson(right, len(labels))
    return Agreement(
        len(labels), float((top == expected).mean()), float(difference.mean()), float(difference.max()),
        right / len(labels), low, high, change.drop, change.p,
    )  # fmt: skip


def _faults(kind: Format, found: Agreement, limits: Limits) -> list[str]:
    bound = Bound(limits.least_agreement(kind.bound.agreement), kind.bound.difference)
    faults = []
    if found.outside(bound):
        faults.append(
            f"same answer as Keras on {found.agreement:.1%} of {found.n} images, probabilities off by up to "
            f"{found.max_difference:.2g}; at least {bound.agreement:.1%} and at most {bound.difference:g} are asked for"
        )
    if found.drop > limits.max_drop and found.p < CHANCE:
        faults.append(
            f"{found.drop * 100:.1f} points less accurate than Keras ({found.accuracy:.3f} on {found.n} images, "
            f"p = {found.p:.2g}); at most {limits.max_drop * 100:g} are allowed"
        )
    return faults


def _mediapipe_faults(
    kind: Format, answer: mediapipe.Answers, found: Agreement, classes: Sequence[str], limits: Limits
) -> list[str]:
    faults = []
    wrong = [(ours, theirs) for ours, theirs in zip(classes, answer.names, strict=True) if ours != theirs]
    if wrong:
        faults.append(f"MediaPipe calls {wrong[0][0]!r} {wrong[0][1]!r}")
    least = limits.least_agreement(min(BY_MEDIAPIPE, kind.bound.agreement))
    by_chance = 2 * (found.n * least * (1 - least)) ** 0.5  # two standard deviations of the number that differ
    if not (1 - found.agreement) * found.n <= max(1.0, (1 - least) * found.n + by_chance):
        faults.append(f"MediaPipe gives the answer of Keras on {found.agreement:.1%} of {found.n} images only; at "
                      f"least {least:.1%} are asked for")  # fmt: skip
    return faults


def _label_faults(model: LiteModel, classes: Sequence[str]) -> list[str]:
    """Whether the file names its classes, as many as it has scores, in the run's order."""
    labels = model.metadata.labels if model.metadata is not None else ()
    if not labels:
        return ["it has no metadata: its classes have no names"]
    if len(labels) != model.output_shape[0]:
        return [f"it names {len(labels)} classes and has {model.output_shape[0]} scores"]
    wrong = [(ours, theirs) for ours, theirs in zip(classes, labels, strict=True) if ours != theirs]
    return [f"it calls {wrong[0][0]!r} {wrong[0][1]!r}"] if wrong else []


def _by_litert(made: Mapping[str, Made], reference: Reference) -> dict[str, Scores]:
    predictors = {name: predict.load(file.path, reference.classes) for name, file in made.items()}
    scores: dict[str, list[Scores]] = {name: [] for name in made}
    first = next(iter(predictors.values()))
    with step("checking the mobile files", len(reference.images)) as bar:
        for _, pixels in first.batches(reference.images):
            batch = np.stack([image for image in pixels if not isinstance(image, predict.Skipped)])
            for name, predictor in predictors.items():
                scores[name].append(predictor.scores(batch))
            bar.update(len(pixels))
    return {name: np.concatenate(parts) for name, parts in scores.items()}


def _by_mediapipe(made: Mapping[str, Made], reference: Reference) -> dict[str, mediapipe.Answers]:
    if not mediapipe.installed():
        return {}
    models = [file.path for file in made.values()]
    try:
        answers = mediapipe.classify(models, reference.images, len(reference.classes))
    except ChildFailed as failure:
        warn(f"MediaPipe could not be asked ({failure.what})")
        return {}
    return dict(zip(made, answers, strict=True))
