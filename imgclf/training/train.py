"""Trains a staged set: both stages, or everything from scratch. May import TensorFlow, models/, data/.

`train(StagedSet, TrainConfig) -> Trained` is the whole of it; the run folder is not touched here.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imgclf.config import TrainConfig
from imgclf.data.batches import IN_MEMORY_BYTES, TrainingImages, batches
from imgclf.data.imageset import StagedSet
from imgclf.models import augmentation, backbones
from imgclf.models.build import build_backbone, cut_layer, freeze_batchnorm
from imgclf.models.network import Network, assemble
from imgclf.models.weights import load_backbone_weights, resolve_weights
from imgclf.progress import plural, say, step
from imgclf.training.features import Below, below, compute
from imgclf.training.fit import Epoch, Stage, StageInterrupted, compile_for, run_stage
from imgclf.training.plan import (
    FINE_TUNE_EPOCHS,
    FINE_TUNE_SECONDS,
    SCRATCH_EPOCHS,
    SCRATCH_SECONDS,
    FineTunePlan,
    SpeedNotes,
    epochs_within,
)

# Cosine from 1e-3 over 1,500 steps of 64: on the validation part of clothing a cross-entropy of 0.387, against 0.390
# for a constant 1e-3 with early stopping and 0.41 for logistic regression with the best C (docs/benchmarks.md).
HEAD_STEPS, HEAD_EPOCHS, HEAD_PATIENCE, HEAD_RATE, HEAD_BATCH, HEAD_DECAY = 1500, (10, 150), 10, 1e-3, 64, 0.05
FINE_TUNE_PATIENCE, FINE_TUNE_RATE, WARM_UP = 3, 2e-4, 0.15
MEASURED_STEPS = 12
SCRATCH_PATIENCE, SCRATCH_RATE = 15, 3e-3


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        model: the finished Keras model, image to `(N, C)` probabilities, with the best weights found.
        config: the settings with everything that imgclf decided filled in; giving it back repeats the training.
        history: one row per epoch, of all stages.
        notes: what was decided and found, one line each, for people.
        parameters: weights of the whole network.
        interrupted: Ctrl-C ended it early.
    """

    model: Any
    config: TrainConfig
    history: tuple[Epoch, ...]
    notes: tuple[str, ...]
    parameters: int
    interrupted: bool = False


class _Session:
    """What the stages of one training share, and the diary they write: history and notes."""

    def __init__(self, staged: StagedSet, config: TrainConfig, network: Network, image_size: tuple[int, int]) -> None:
        self.staged, self.config, self.network, self.image_size = staged, config, network, image_size
        self.history: list[Epoch] = []
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)
        say(line)

    def decide(self, **settings: Any) -> None:
        self.config = self.config.replace(**settings)

    def images(self) -> TrainingImages:
        return TrainingImages(self.staged, self.image_size, self.config.batch_size, seed=self.config.seed)

    def part(self, name: Any) -> Any:
        return batches(self.staged, name, self.image_size, self.config.batch_size)

    def augment(self, mix: bool = False) -> augmentation.Augment | None:
        """The recipe, with its random numbers at the start."""
        return augmentation.augmenter(self.config.augment, flip=self.config.flip, seed=self.config.seed, mix=mix)

    def run(self, model: Any, stage: Stage, data: Callable[[int], Any], val: Any, beat: float | None = None) -> bool:
        """Run a stage and keep its rows; whether any epoch was better than `beat`."""
        try:
            rows = run_stage(model, stage, data, val, beat)
        except StageInterrupted as stop:
            self.history += stop.history
            raise
        self.history += rows
        return any(row.kept for row in rows)


def train(staged: StagedSet, config: TrainConfig) -> Trained:
    """Train a classifier on the train part, guided by the val part; the test part is not looked at.

    With pretrained weights: the head on features that the frozen backbone gives once per image (the cut at the pooled
    output), then the top blocks at a low rate on freshly augmented images. Without: the whole network at once.
    BatchNorm of a pretrained backbone never moves: `layer.trainable = False` on each such layer, because
    `base(x, training=False)` does not hold it in Keras 3 once `fit` runs.

    Raises:
        InputError: unknown backbone, a size it cannot take, bad weights.
        SetupError: the weights cannot be had.
        KeyboardInterrupt: Ctrl-C before there was anything to keep.
    """
    row = backbones.get(config.backbone)
    size = config.image_size or row.default_size
    backbones.check_size(row, size)
    weights = resolve_weights(config.weights, row, config.alpha, (size, size))
    # Fixes Python's, NumPy's and TensorFlow's random numbers, and makes kernels add in a fixed order.
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    backbone = build_backbone(row, config.alpha, (size, size))
    binary = config.head == "binary" or (config.head == "auto" and len(staged.classes) == 2)
    network = assemble(backbone, staged.classes, binary=binary, dropout=config.dropout, seed=config.seed)
    session = _Session(staged, config, network, (size, size))
    session.decide(image_size=size, head="binary" if binary else "multiclass",
                   augment=augmentation.resolve(config.augment))  # fmt: skip
    kind = "one sigmoid unit (binary)" if binary else f"a softmax over {len(staged.classes)} classes"
    session.note(f"network: {row.title} at {size} x {size} pixels, head: {kind}")
    interrupted = False
    try:
        if weights is None:
            _from_scratch(session)
        else:
            load_backbone_weights(backbone, weights)
            session.note(f"weights: {weights.origin}" + (f" ({weights.note})" if weights.note else ""))
            frozen = freeze_batchnorm(backbone)
            session.note(f"BatchNorm of the backbone stays frozen ({plural(frozen, 'layer')})")
            _head(session)
            _fine_tune(session, row)
    except StageInterrupted:
        if not any(epoch.kept for epoch in session.history):
            raise KeyboardInterrupt from None
        interrupted = True
    return Trained(
        model=network.finished(),
        config=session.config,
        history=tuple(session.history),
        notes=tuple(session.notes),
        parameters=network.model.count_params(),
        interrupted=interrupted,
    )


def _head(session: _Session) -> None:
    """The head stage: features once, then epochs of milliseconds."""
    config, network, staged = session.config, session.network, session.staged
    part = below(network.pooled)
    counts = {name: len(staged.parts[name]) for name in ("train", "val")}
    augment = session.augment()
    views = 1 if augment is None else config.views
    start = time.perf_counter()
    with step("computing features", counts["train"] * views + counts["val"]) as bar:
        features, labels = compute(part, session.part("train"), counts["train"], bar)
        val = compute(part, session.part("val"), counts["val"], bar)
        drawn = [
            compute(part, augment(session.part("train"), view), counts["train"], bar)
            for view in range(1, views)
            if augment is not None
        ]
    seconds = time.perf_counter() - start
    features = np.concatenate([features, *(view for view, _ in drawn)])
    labels = np.concatenate([labels, *(targets for _, targets in drawn)])
    session.note(f"features: {plural(len(features) + counts['val'], 'image')} through the frozen network once, in "
                 f"{part.engine}, {seconds:.0f} s")  # fmt: skip
    data = _Rows(features, network.targets(labels), HEAD_BATCH, config.seed)
    epochs = config.epochs or epochs_within(HEAD_STEPS, data.steps, HEAD_EPOCHS)
    session.decide(epochs=epochs)
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate or HEAD_RATE, epochs * data.steps, alpha=0.01)
    compile_for(network.head, keras.optimizers.AdamW(rate, weight_decay=HEAD_DECAY), binary=network.binary, chunk=16)
    stage = Stage("head", "training the head", epochs, config.patience or HEAD_PATIENCE, data.steps)
    session.run(network.head, stage, data.epoch, (val[0], network.targets(val[1])))
    best = max((row for row in session.history if row.kept), key=lambda row: row.epoch)
    session.note(f"head stage: validation accuracy {best.val['accuracy']:.3f} after {plural(best.epoch, 'epoch')}")


class _Rows:
    """Arrays as batches, in another order every epoch."""

    def __init__(self, inputs: Any, targets: Any, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = len(inputs), batch_size, seed
        self.inputs, self.targets = tf.constant(inputs), tf.constant(targets)
        self.steps = -(-self.count // batch_size)

    def epoch(self, number: int) -> Any:
        order = np.random.default_rng((self.seed, number)).permutation(self.count)
        picks = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size)
        return picks.map(lambda pick: (tf.gather(self.inputs, pick), tf.gather(self.targets, pick)))


def _fine_tune(session: _Session, row: backbones.Backbone) -> None:
    """The fine-tuning stage: what is above the cut trains on freshly augmented images, what is below runs frozen."""
    if session.config.fine_tune_epochs == 0:
        return
    images = session.images()
    cut = cut_layer(row, session.config.unfreeze, session.network.backbone)
    stack = _Above(session, images, cut)
    plan = FineTunePlan(cut.blocks, session.config.fine_tune_epochs or 0, None)
    if session.config.fine_tune_epochs is None:
        stack, plan = _affordable(session, row, images, stack)
    session.decide(fine_tune_epochs=plan.epochs, unfreeze=stack.cut.setting)
    session.note(str(plan))
    config, network = session.config, session.network
    steps = plan.epochs * images.steps
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - round(WARM_UP * steps)), warmup_steps=max(1, round(WARM_UP * steps)), alpha=0.01,
        warmup_target=config.fine_tune_learning_rate or FINE_TUNE_RATE,
    )  # fmt: skip
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, clipnorm=1.0)
    compile_for(stack.model, optimizer, binary=network.binary, label_smoothing=config.label_smoothing)
    before = max((epoch for epoch in session.history if epoch.kept), key=lambda epoch: epoch.epoch)
    stage = Stage("fine-tune", "fine-tuning", plan.epochs, config.patience or FINE_TUNE_PATIENCE, images.steps)
    better = session.run(stack.model, stage, stack.epoch, stack.val(), beat=before.val["loss"])
    if better:
        session.history = [replace(epoch, kept=epoch.kept and epoch.stage != "head") for epoch in session.history]
        best = next(epoch for epoch in session.history if epoch.kept)
        session.note(f"fine-tuning: validation accuracy {best.val['accuracy']:.3f} (head alone "
                     f"{before.val['accuracy']:.3f})")  # fmt: skip
    else:
        session.note("fine-tuning did not lower the validation loss: the weights of the head stage were kept")


class _Above:
    """What trains in fine-tuning, and the batches it trains on."""

    def __init__(self, session: _Session, images: TrainingImages, cut: Any) -> None:
        self.session, self.images, self.cut = session, images, cut
        network = session.network
        self.model = network.model if cut.layer is None else network.above(cut.layer)
        self.below: Below | None = None if cut.layer is None else below(network.below(cut.layer))

    def epoch(self, number: int) -> Any:
        return self._at_cut(self.images.epoch(number, self.augment))

    @cached_property
    def augment(self) -> augmentation.Augment | None:
        return self.session.augment(mix=True)

    def val(self) -> Any:
        """The validation part at the cut: computed once where the activations fit in memory."""
        data, count = self.session.part("val"), len(self.session.staged.parts["val"])
        size = count * np.prod(self.below.shape if self.below else (*self.session.image_size, 3)) * 4
        if size > IN_MEMORY_BYTES:
            return self._at_cut(data)
        if self.below is None:
            return self._at_cut(data).cache()
        with step("validation images at the cut", count) as bar:
            activations, labels = compute(self.below, data, count, bar)
        return _Rows(activations, self.session.network.targets(labels), self.images.batch_size, 0).epoch(0)

    def _at_cut(self, data: Any) -> Any:
        network = self.session.network
        if network.binary:
            data = data.map(lambda images, labels: (images, network.targets(labels)))
        return data if self.below is None else self.below.map(data)

    def seconds_per_image(self) -> float:
        """What a training step takes here, per image; measured once per computer and kind of step."""
        session, notes = self.session, SpeedNotes()
        key = "/".join(str(part) for part in (
            session.config.backbone, session.config.alpha, session.image_size[0], self.cut.setting,
            session.config.augment, self.images.batch_size, self.images.arrays is not None, session.network.binary,
            os.cpu_count(), keras.__version__,
        ))  # fmt: skip
        seconds = notes.get(key)
        if seconds is None:
            seconds = self._measure()
            notes.put(key, seconds)
        return seconds

    def _measure(self) -> float:
        """Time a few training steps and leave every variable as it was, so that measuring changes no result."""
        compile_for(self.model, keras.optimizers.SGD(0.0), binary=self.session.network.binary)
        before = [variable.numpy() for variable in self.model.variables]
        # A recipe of its own: the stage's must begin with the first epoch. The pipeline must not run dry within the
        # measured steps, or the last of them have both cores to themselves (170 s were planned that took 230 s).
        data = self._at_cut(self.images.epoch(0, self.session.augment(mix=True)).repeat())
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
        return (times[-1] - times[0]) / (len(times) - 1) / self.images.batch_size


def _affordable(
    session: _Session, row: backbones.Backbone, images: TrainingImages, stack: _Above
) -> tuple[_Above, FineTunePlan]:
    """Choose epochs, and where even the fewest are too long fewer blocks, from measured steps."""

    def plan(candidate: _Above) -> FineTunePlan:
        epoch_seconds = candidate.seconds_per_image() * images.count
        epochs = epochs_within(FINE_TUNE_SECONDS, epoch_seconds, FINE_TUNE_EPOCHS)
        return FineTunePlan(candidate.cut.blocks, epochs, epochs * epoch_seconds)

    chosen = plan(stack)
    if session.config.unfreeze == "auto" and (chosen.seconds or 0) > FINE_TUNE_SECONDS and chosen.blocks != 1:
        smaller = _Above(session, images, cut_layer(row, "1", session.network.backbone))
        return smaller, plan(smaller)
    return stack, chosen


def _from_scratch(session: _Session) -> None:
    """One stage for everything: the cut at the pixels, BatchNorm in training mode, fresh augmentation."""
    images = session.images()
    stack = _Above(session, images, _Pixels())
    config, network = session.config, session.network
    limit = config.epochs
    if limit is None:
        seconds = stack.seconds_per_image() * images.count
        limit = epochs_within(SCRATCH_SECONDS, seconds, SCRATCH_EPOCHS)
    session.decide(epochs=limit, fine_tune_epochs=0)
    session.note(f"training the whole network from scratch, up to {plural(limit, 'epoch')}")
    steps = limit * images.steps
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - round(0.1 * steps)), warmup_steps=max(1, round(0.1 * steps)), alpha=0.01,
        warmup_target=config.learning_rate or SCRATCH_RATE,
    )  # fmt: skip
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, clipnorm=1.0)
    compile_for(stack.model, optimizer, binary=network.binary, label_smoothing=config.label_smoothing)
    stage = Stage("training", "training", limit, config.patience or SCRATCH_PATIENCE, images.steps)
    session.run(stack.model, stage, stack.epoch, stack.val())


@dataclass(frozen=True)
class _Pixels:
    """The cut at the pixels: nothing is frozen."""

    layer: None = None
    blocks: None = None
    setting: str = "all"
