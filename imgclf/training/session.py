"""What the stages of one training share: the data, the settings, the diary. May import TensorFlow, models/, data/."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgclf.config import TrainConfig
from imgclf.cut.features import Activations
from imgclf.data.batches import DecodedImages
from imgclf.data.imageset import Part, StagedSet
from imgclf.errors import OutOfMemory
from imgclf.models import augmentation
from imgclf.models.network import Network
from imgclf.progress import say
from imgclf.training import checkpoint
from imgclf.training.balance import class_weights, draw_order
from imgclf.training.checkpoint import Progress
from imgclf.training.devices import Devices, find_devices
from imgclf.training.epoch import Epoch
from imgclf.training.fit import Hooks, Stage, StageInterrupted, compile_for, run_stage
from imgclf.training.head import Regularization
from imgclf.training.mixing import mix_batches
from imgclf.training.optimizers import make_loss, make_optimizer
from imgclf.training.range_test import RangeTest, find_rate
from imgclf.training.soup import Member

Watch = Callable[[Epoch], None]
T = TypeVar("T")

WAITING = 0.2  # share of the first epoch from which waiting for images is worth a word


class Data(NamedTuple):
    """The images of a training.

    Attributes:
        staged: all parts.
        image_size: (height, width) in pixels.
        channels: 3 or 1.
        train: the training part, decoded once where a stage trains from the pixels.
        val: the validation part, likewise.
    """

    staged: StagedSet
    image_size: tuple[int, int]
    channels: int
    train: DecodedImages
    val: DecodedImages

    @classmethod
    def of(cls, staged: StagedSet, image_size: tuple[int, int], channels: int, config: TrainConfig) -> "Data":
        """The images as the settings want them."""

        def part(name: Part, order: Callable[[int], NDArray[np.int64]] | None = None) -> DecodedImages:
            assert config.batch_size is not None
            return DecodedImages(staged, name, image_size, config.batch_size, channels=channels, seed=config.seed,
                                 order=order)  # fmt: skip

        labels = np.array([image.label for image in staged.parts["train"]])
        order = partial(draw_order, labels, config.balance, config.seed) if config.balance == "sampler" else None
        return cls(staged, image_size, channels, part("train", order), part("val"))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each training image."""
        return self.labels_of("train")

    @property
    def test_count(self) -> int:
        """How many images will be measured on."""
        return len(self.staged.parts.get("test", ()))

    def labels_of(self, part: Part) -> NDArray[np.int64]:
        """Class of each image of a part, in the order of its images."""
        return np.array([image.label for image in self.staged.parts[part]], np.int64)

    def one_hot(self, part: Part) -> NDArray[np.float32]:
        """Labels `(n, C)` of a part, in the order of its images."""
        return np.eye(len(self.staged.classes), dtype=np.float32)[self.labels_of(part)]


class HeadFeatures(NamedTuple):
    """What the head stage learned from: features of the network as it was before any fine-tuning.

    Attributes:
        train: of the training images.
        labels: their classes `(n,)`.
        val: of the validation images.
        val_labels: their classes `(m,)`.
    """

    train: Activations
    labels: NDArray[np.int64]
    val: Activations
    val_labels: NDArray[np.int64]


class Keeper:
    """Where a training leaves its checkpoints, and what it found there.

    Args:
        folder: of the checkpoints; None: none are kept.
        minutes: between checkpoints within an epoch.

    Attributes:
        saved: what was found; None where there was nothing.
        members: of an ensemble: what all start from, and those that are trained.
    """

    def __init__(self, folder: Path | None, minutes: float) -> None:
        self.folder, self.minutes = folder, minutes
        self.saved = None if folder is None else checkpoint.load(folder)
        self.members: list[Member] = []
        if self.saved is not None:
            arrays, size = self.saved.progress.arrays, len(self.saved.progress.arrays["best"])
            self.members = [Member(loss, arrays["members"][number * size : (number + 1) * size])
                            for number, loss in enumerate(self.saved.facts["members"])]  # fmt: skip

    def hooks(
        self, stage: str, facts: Callable[[], dict[str, Any]], watch: Watch | None, waited: Callable[[float], None]
    ) -> Hooks:
        """What `run_stage` needs to save, and to go on."""
        folder = self.folder
        if folder is None:
            return Hooks(watch=watch, waited=waited)

        def save(progress: Progress) -> None:
            arrays = {**progress.arrays, "members": [part for member in self.members for part in member.weights]}
            told = {**facts(), "members": [member.loss for member in self.members]}
            checkpoint.save(folder, replace(progress, arrays=arrays), told)

        progress = self.saved.progress if self.saved is not None else None
        mine = progress is not None and progress.stage == stage
        return Hooks(watch, save, self.minutes, progress if mine else None, waited)


class Session:
    """One training: its network and data, its settings as they are decided, its history and notes.

    Attributes:
        devices: what it computes on.
        deadline: when it must be over, by `time.monotonic`; None: whenever.
        range_test: the curve that a learning rate was chosen by, where one was.
        lr_given: whether the user gave a learning rate.
        regularization: of the head on features, once it is known.
        head_features: what the head stage learned from; None before it, and where there is none.
    """

    range_test: RangeTest | None

    def __init__(
        self, data: Data, config: TrainConfig, network: Network, keeper: Keeper | None = None,
        watch: Watch | None = None, deadline: float | None = None, devices: Devices | None = None,
    ) -> None:  # fmt: skip
        self.devices = devices or find_devices("float32")
        self.data, self.config, self.network = data, config, network
        self.lr_given = False
        self.regularization: Regularization | None = None
        self.head_features: HeadFeatures | None = None
        self.deadline, self.range_test = deadline, None
        self.keeper, self.watch = keeper or Keeper(None, 0.0), watch
        self.history: list[Epoch] = []
        self.notes: list[str] = []
        if self.keeper.saved is not None:
            facts = self.keeper.saved.facts
            self.config = self.config.replace(**facts["decided"])
            self.history = [Epoch(**row) for row in facts["history"]]
            self.notes = list(facts["notes"])
            if self.config.batch_size is not None:  # that it found to fit into memory
                data.train.batch_size = data.val.batch_size = self.config.batch_size

    @property
    def resumed(self) -> str:
        """The stage that a checkpoint was found of; "" where there was none."""
        return self.keeper.saved.progress.stage if self.keeper.saved is not None else ""

    def note(self, line: str) -> None:
        """Say something and keep it for the report; what was said before a kill is not said again."""
        if line in self.notes:
            return
        self.notes.append(line)
        say(line)

    def keep_features(self, train: Activations, val: Activations) -> None:
        """Keep what the head stage learns from, which is in the store, for whoever asks about it afterwards."""
        self.head_features = HeadFeatures(train, self.data.labels, val, self.data.labels_of("val"))

    def decide(self, **settings: Any) -> None:
        """Fill in settings that were left to imgclf."""
        self.config = self.config.replace(**settings)

    def mixed(self, dataset: Any, epoch: int) -> Any:
        """The batches of an epoch with images mixed, where the settings say how."""
        mix = self.config.mix
        return dataset if mix in ("auto", "none") else mix_batches(dataset, mix, self.config.seed, epoch)

    def augment(self, mix: bool = False) -> augmentation.Augment | None:
        """The recipe for freshly varied images; with `mix` labels may become soft."""
        mix = mix and self.config.mix == "auto"
        return augmentation.augmenter(self.config.augment, flip=self.config.flip is not False, seed=self.config.seed,
                                      mix=mix)  # fmt: skip

    def at_size(self, size: int) -> "Session":
        """The same training at another image size: a copy of the network, the same checkpoints."""
        data, config = self.data, self.config
        with self.devices.building():
            network = self.network.at_size((size, size))
        other = Session(Data.of(data.staged, (size, size), data.channels, config), config, network, self.keeper,
                        self.watch, self.deadline, self.devices)  # fmt: skip
        other.notes, other.history = self.notes, list(self.history)
        return other

    def take_over(self, other: "Session") -> None:
        """Go on with the weights of a training at another size; none of its epochs is the one that is kept."""
        self.network.model.set_weights(other.network.model.get_weights())
        self.history += [replace(row, kept=False) for row in other.history[len(self.history) :]]

    def weights(self, targets: Any) -> Any:
        """How much images with these targets, `(n, C)` or `(n, 1)`, count in the loss; None: all alike."""
        if self.config.balance != "weights":
            return None
        counts = np.bincount(self.data.labels, minlength=len(self.network.classes))
        by_class = class_weights(np.maximum(counts, 1))
        if self.network.binary:
            return targets[:, 0] * by_class[1] + (1 - targets[:, 0]) * by_class[0]
        return targets @ by_class if isinstance(targets, np.ndarray) else tf.linalg.matvec(targets, by_class)

    def weighed(self, dataset: Any) -> Any:
        """Batches `(inputs, targets)` with the weights of their images, where they have any."""
        if self.config.balance != "weights":
            return dataset
        return dataset.map(lambda inputs, targets: (inputs, targets, self.weights(targets)))

    def compile(self, model: Any, optimizer: Callable[[], Any], chunk: int = 1) -> None:
        """Compile with the loss of the settings; the optimizer is made where the network is."""
        smoothing = self.config.label_smoothing or 0.0
        loss = make_loss(self.config.loss, binary=self.network.binary, label_smoothing=smoothing)
        chunk = 1 if self.devices.gpus > 1 else chunk  # Keras 3.15 fails at several steps as one graph on several GPUs
        with self.devices.building():
            compile_for(model, optimizer(), loss, binary=self.network.binary, chunk=chunk)

    def peak(self, name: str, model: Any, data: Any, given: float | None, default: float) -> float:
        """The highest learning rate of a stage: as given, or found by a range test, or the default."""
        config = self.config
        if given is not None or config.lr != "auto":
            return given or default
        self.range_test = find_rate(
            model, name, lambda rate: self.compile(model, lambda: make_optimizer(config.optimizer, rate, 0.0)), data
        )
        self.note(f"learning rate for {name}: {self.range_test.chosen:.2g}, where a range test's loss falls fastest")
        return self.range_test.chosen

    def run(
        self, model: Any, stage: Stage, data: Callable[[int], Any], val: Any, beat: float | None = None,
        remedy: str = "",
    ) -> bool:  # fmt: skip
        """Run a stage and keep its rows; whether any epoch was better than `beat`.

        Args:
            model: compiled.
            stage: what to do.
            data: number of an epoch to its batches.
            val: validation batches.
            beat: validation loss of the weights the model comes with.
            remedy: what would help if the training had to wait for its images.
        """

        def waited(share: float) -> None:
            if share >= WAITING:
                self.note(f"input-bound {share:.0%}: the training waits for images; {remedy}")

        try:
            hooks = self.keeper.hooks(stage.name, self._facts, self.watch, waited)
            rows = run_stage(model, stage, data, val, beat, hooks)
        except StageInterrupted as stop:
            self._add(stop.history)
            raise
        self._add(rows)
        return any(row.kept for row in rows)

    def within_memory(self, attempt: Callable[[], T]) -> T:
        """Do something that may need more memory than there is; then again with half the batch, and so on.

        The effective batch stays: gradients of more steps are averaged. Weights and history are as before each attempt.

        Raises:
            OutOfMemory: not even single images fit.
        """
        while True:
            before, rows, members = self.network.model.get_weights(), list(self.history), list(self.keeper.members)
            try:
                return attempt()
            except tf.errors.ResourceExhaustedError as error:
                size = self.data.train.batch_size
                if size == 1:
                    raise OutOfMemory("the network does not fit into memory, even one image at a time",
                                     "choose a smaller --backbone or --image-size") from error  # fmt: skip
            self.network.model.set_weights(before)
            self.history, self.keeper.saved, self.keeper.members = rows, None, members
            self.data.train.batch_size = self.data.val.batch_size = size // 2
            self.decide(batch_size=size // 2, accumulate=self.config.accumulate * 2)
            self.note(f"out of memory with {size} images a step: now {size // 2}, and the gradients of "
                      f"{self.config.accumulate} steps together")  # fmt: skip

    def _add(self, rows: tuple[Epoch, ...]) -> None:
        """Rows of a stage; at most one of the whole history is kept."""
        if any(row.kept for row in rows):
            self.history = [replace(row, kept=False) for row in self.history]
        self.history += rows

    def _facts(self) -> dict[str, Any]:
        return {"decided": self.config.to_json(), "history": [asdict(row) for row in self.history],
                "notes": self.notes}  # fmt: skip
