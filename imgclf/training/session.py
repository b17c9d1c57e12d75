"""What the stages of one training share: the data, the settings, the diary. May import TensorFlow, models/, data/."""

import os
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from imgclf.config import TrainConfig
from imgclf.data.batches import DecodedImages, batches
from imgclf.data.imageset import Part, StagedSet
from imgclf.models import augmentation
from imgclf.models.network import Network
from imgclf.progress import say, step
from imgclf.training.features import Below, below, compute
from imgclf.training.fit import Epoch, Stage, StageInterrupted, compile_for, run_stage
from imgclf.training.optimizers import make_loss
from imgclf.training.plan import SpeedNotes

MEASURED_STEPS = 12
IN_MEMORY_BYTES = 512 * 2**20  # activations of the validation part up to this size are kept


class Data(NamedTuple):
    """The images of a training.

    Attributes:
        staged: all parts.
        image_size: (height, width) in pixels.
        channels: 3 or 1.
        train: the training part, decoded once.
        val: the validation part, decoded once.
    """

    staged: StagedSet
    image_size: tuple[int, int]
    channels: int
    train: DecodedImages
    val: DecodedImages

    @classmethod
    def of(cls, staged: StagedSet, image_size: tuple[int, int], channels: int, config: TrainConfig) -> "Data":
        """The images as the settings want them."""

        def part(name: Part) -> DecodedImages:
            assert config.batch_size is not None
            return DecodedImages(staged, name, image_size, config.batch_size, channels=channels, seed=config.seed)

        return cls(staged, image_size, channels, part("train"), part("val"))

    def once(self, name: Part) -> Any:
        """A part in its order, for a single reading: nothing is kept."""
        return batches(self.staged, name, self.image_size, channels=self.channels)


class Session:
    """One training: its network and data, its settings as they are decided, its history and notes."""

    def __init__(self, data: Data, config: TrainConfig, network: Network) -> None:
        self.data, self.config, self.network = data, config, network
        self.history: list[Epoch] = []
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        """Say something and keep it for the report."""
        self.notes.append(line)
        say(line)

    def decide(self, **settings: Any) -> None:
        """Fill in settings that were left to imgclf."""
        self.config = self.config.replace(**settings)

    def augment(self, mix: bool = False) -> augmentation.Augment | None:
        """The recipe, with its random numbers at the start."""
        return augmentation.augmenter(self.config.augment, flip=self.config.flip is not False, seed=self.config.seed,
                                      mix=mix)  # fmt: skip

    def compile(self, model: Any, optimizer: Any, chunk: int = 1, *, smooth: bool = True) -> None:
        """Compile with the loss of the settings."""
        smoothing = (self.config.label_smoothing or 0.0) if smooth else 0.0
        loss = make_loss(self.config.loss, binary=self.network.binary, label_smoothing=smoothing)
        compile_for(model, optimizer, loss, binary=self.network.binary, chunk=chunk)

    def run(self, model: Any, stage: Stage, data: Callable[[int], Any], val: Any, beat: float | None = None) -> bool:
        """Run a stage and keep its rows; whether any epoch was better than `beat`."""
        try:
            rows = run_stage(model, stage, data, val, beat)
        except StageInterrupted as stop:
            self.history += stop.history
            raise
        self.history += rows
        return any(row.kept for row in rows)


class ArrayBatches:
    """Arrays as batches, in another order every epoch."""

    def __init__(self, inputs: Any, targets: Any, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = len(inputs), batch_size, seed
        self.inputs, self.targets = tf.constant(inputs), tf.constant(targets)
        self.steps = -(-self.count // batch_size)

    def epoch(self, number: int) -> Any:
        """The batches of one epoch."""
        order = np.random.default_rng((self.seed, number)).permutation(self.count)
        picks = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size)
        return picks.map(lambda pick: (tf.gather(self.inputs, pick), tf.gather(self.targets, pick)))


class Above:
    """What trains above a cut, and the batches it trains on: what is below runs frozen, on fresh images every epoch.

    Args:
        session: of the training.
        layer: the cut; None: nothing is frozen, the network trains from the pixels.
        setting: what `--unfreeze` was resolved to, for the notes on speed.
    """

    def __init__(self, session: Session, layer: str | None, setting: str) -> None:
        self.session, self.setting = session, setting
        network = session.network
        self.model = network.model if layer is None else network.above(layer)
        self.below: Below | None = None if layer is None else below(network.below(layer))

    def epoch(self, number: int) -> Any:
        """The batches of one epoch, as the model above the cut takes them."""
        return self._at_cut(self.session.data.train.epoch(number, self.augment))

    @cached_property
    def augment(self) -> augmentation.Augment | None:
        """The recipe of this stage; its random numbers go on from epoch to epoch."""
        return self.session.augment(mix=True)

    def val(self) -> Any:
        """The validation part at the cut: computed once where the activations fit in memory."""
        data = self.session.data
        if self.below is None:
            return self._at_cut(data.val.in_order())
        if data.val.count * np.prod(self.below.shape) * 4 > IN_MEMORY_BYTES:
            return self._at_cut(data.once("val"))
        with step("validation images at the cut", data.val.count) as bar:
            activations, labels = compute(self.below, data.once("val"), data.val.count, bar)
        return ArrayBatches(activations, self.session.network.targets(labels), data.val.batch_size, 0).epoch(0)

    def _at_cut(self, data: Any) -> Any:
        network = self.session.network
        if network.binary:
            data = data.map(lambda images, labels: (images, network.targets(labels)))
        return data if self.below is None else self.below.map(data)

    def seconds_per_image(self) -> float:
        """What a training step takes here, per image; measured once per computer and kind of step."""
        session, notes = self.session, SpeedNotes()
        config, images = session.config, session.data.train
        key = "/".join(str(part) for part in (
            config.to_json()["backbone"], config.alpha, session.data.image_size[0], session.data.channels,
            config.truncate_at, config.batch_norm, self.setting, config.augment, images.batch_size, images.place,
            session.network.binary, self.model.count_params(), os.cpu_count(), keras.__version__,
        ))  # fmt: skip
        seconds = notes.get(key)
        if seconds is None:
            seconds = self._measure()
            notes.put(key, seconds)
        return seconds

    def _measure(self) -> float:
        """Time a few training steps and leave every variable as it was, so that measuring changes no result."""
        images = self.session.data.train
        self.session.compile(self.model, keras.optimizers.SGD(0.0))
        before = [variable.numpy() for variable in self.model.variables]
        # A recipe of its own: the stage's must begin with the first epoch. The pipeline must not run dry within the
        # measured steps, or the last of them have both cores to themselves.
        data = self._at_cut(images.epoch(0, self.session.augment(mix=True)).repeat())
        times: list[float] = []
        clock = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: times.append(time.perf_counter()),
            on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()),
        )
        self.model.fit(data, steps_per_epoch=1, verbose=0, shuffle=False)  # traces the graph
        self.model.fit(data, steps_per_epoch=MEASURED_STEPS, verbose=0, shuffle=False, callbacks=[clock])
        for variable, value in zip(self.model.variables, before, strict=True):
            variable.assign(value)
        times = times[len(times) // 2 :]  # the first steps only show how long the pipeline takes to fill
        return (times[-1] - times[0]) / (len(times) - 1) / images.batch_size
