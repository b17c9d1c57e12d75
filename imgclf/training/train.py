"""Trains a staged set: from pretrained weights or from scratch. May import TensorFlow, models/, data/.

`train(StagedSet, TrainConfig) -> Trained` is the whole of it; the run folder is not touched here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imgclf import runs
from imgclf.config import TrainConfig
from imgclf.data.imageset import StagedSet
from imgclf.errors import InputError
from imgclf.evaluation.threshold import PLAIN, Rule
from imgclf.models import augmentation, backbones
from imgclf.models.build import (
    PixelStatistics,
    build_backbone,
    freeze_batchnorm,
    remaining,
    truncate,
)
from imgclf.models.copies import FULL, in_float32
from imgclf.models.earlier import backbone_of_run
from imgclf.models.network import Network, assemble, load_head
from imgclf.models.row import Backbone, Recipe
from imgclf.models.weights import WeightsFile, load_backbone_weights, resolve_weights
from imgclf.progress import plural, warn
from imgclf.training.balance import decide
from imgclf.training.devices import find_devices
from imgclf.training.epoch import Epoch
from imgclf.training.fit import StageInterrupted
from imgclf.training.history import History
from imgclf.training.range_test import RangeTest
from imgclf.training.scratch import train_from_scratch
from imgclf.training.session import Data, HeadFeatures, Keeper, Session, Watch
from imgclf.training.transfer import train_transfer
from imgclf.training.trust import features_by_keras, make_trustworthy

TRANSFER = Recipe()  # what fine-tuning uses where nothing else is said

SCALINGS: dict[str, Any] = {"auto": None, "unit": "unit", "symmetric": "tf", "data": "data"}


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
        range_test: the curve that the learning rate was chosen by, where one was.
        head: weight decay and dropout of a head on features that nothing changed afterwards.
        calibration: what the probabilities were divided by and what they are worth, what is known of a gate; empty
            where there is neither.
        head_features: what the head learned from, where no earlier run had taught the network these images.
    """

    model: Any
    config: TrainConfig
    history: tuple[Epoch, ...]
    notes: tuple[str, ...]
    parameters: int
    interrupted: bool = False
    range_test: RangeTest | None = None
    head: dict[str, float] | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    head_features: HeadFeatures | None = None


def train(
    staged: StagedSet, config: TrainConfig, *, checkpoints: Path | None = None, watch: Watch | None = None,
    deadline: float | None = None, strange: Sequence[Path] = (),
) -> Trained:  # fmt: skip
    """Train a classifier on the train part, guided by the val part; the test part is not looked at.

    With pretrained weights: the head on features that the frozen backbone gives once per image (the cut at the pooled
    output), then the top blocks at a low rate on a few views of each image. Without: the whole network at once.

    Args:
        staged: the images.
        config: the settings.
        checkpoints: folder in which the training keeps what it needs to go on after a kill; where it has something, the
            training goes on from there, and its weights will be those of an undisturbed one.
        watch: told of every epoch when it is over; what it raises ends the training.
        strange: images of no class, to tune the gate of `--unknown` on.
        deadline: when everything must be done, the evaluation and export that follow included, by `time.monotonic`.

    Raises:
        InputError: unknown backbone, a size it cannot take, bad weights.
        SetupError: the weights cannot be had.
        KeyboardInterrupt: Ctrl-C before there was anything to keep.
    """
    row = backbones.get(config.backbone)
    size = config.image_size or row.default_size
    backbones.check_size(row, size)
    if config.threshold != PLAIN and Rule.parse(config.threshold) and len(staged.classes) != 2:
        raise InputError(f"--threshold is for two classes, these are {len(staged.classes)}", "leave it out")
    if config.unknown and runs.UNKNOWN in staged.classes:
        raise InputError(
            f"--unknown beside a class that is called {runs.UNKNOWN!r}", "rename the class, or leave it out"
        )
    if config.start_size is not None:
        backbones.check_size(row, config.start_size)
        if config.start_size >= size:
            raise InputError(f"--start-size is {config.start_size}, the image size {size}", "expected a smaller one")
    weights = resolve_weights(config.weights, row, config.alpha, (size, size))
    given = config
    _warn_of_no_effect(
        config, row, from_scratch=weights is None, of_run=weights is not None and weights.run is not None
    )
    config = settle(config, row.recipe, size, len(staged.classes), from_scratch=weights is None)
    settled = config
    # Fixes Python's, NumPy's and TensorFlow's random numbers, and makes kernels add in a fixed order.
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    config, balance_note = _balanced(config, staged)
    devices = find_devices(config.precision)
    assert config.batch_size is not None
    config = config.replace(batch_size=devices.batch_size(config.batch_size))
    data = Data.of(staged, (size, size), 1 if config.color == "grayscale" else 3, config)
    with devices.building():
        row, network = _network(row, weights, config, data)
    session = Session(data, config, network, Keeper(checkpoints, config.checkpoint_minutes), watch, deadline, devices)
    if devices.gpus or devices.policy != FULL:
        session.note(str(devices))
    session.lr_given = given.learning_rate is not None
    if balance_note:
        session.note(balance_note)
    session.note(_describe(row, size, data.channels, config, len(staged.classes)))
    interrupted = False
    try:
        if weights is None:
            session.within_memory(lambda: train_from_scratch(session, row.recipe))
            features = features_by_keras(session)
        else:
            session.note(f"weights: {weights.origin}" + (f" ({weights.note})" if weights.note else ""))
            frozen = freeze_batchnorm(network.backbone)
            session.note(f"BatchNorm of the backbone stays frozen ({plural(frozen, 'layer')})")
            features = train_transfer(session, row, given)
    except StageInterrupted:
        if not any(epoch.kept for epoch in session.history):
            raise KeyboardInterrupt from None
        interrupted = True
    model = in_float32(network.finished())
    trust: dict[str, Any] = {}
    if not interrupted:
        model, trust = make_trustworthy(session, model, features, strange)
    return Trained(
        model=model,
        calibration=trust,
        config=session.config if weights is None else _as_given(session.config, given, settled),
        history=tuple(session.history),
        notes=tuple(session.notes),
        parameters=network.model.count_params(),
        range_test=session.range_test,
        interrupted=interrupted,
        head=_found_for_head(session),
        head_features=session.head_features if weights is not None and _is_unfinetuned(weights) else None,
    )


def _is_unfinetuned(weights: WeightsFile) -> bool:
    """Whether the network comes as its makers left it: not from a run that trained more than a head."""
    return weights.run is None or {row.stage for row in History.read(weights.run / runs.HISTORY).rows} == {"head"}


def _found_for_head(session: Session) -> dict[str, float] | None:
    """What a later training may begin with: the features are still those that the head was held in bounds on."""
    found = session.regularization
    if found is None or {row.stage for row in session.history} != {"head"}:
        return None
    return {"weight_decay": found.weight_decay, "dropout": found.dropout}


# What the head stage and fine-tuning have different values for, where nobody gives one.
BY_STAGE = ("weight_decay", "dropout", "batch_size")


def _as_given(config: TrainConfig, given: TrainConfig, settled: TrainConfig) -> TrainConfig:
    """The settings that repeat the training: what was left to each stage stays so, unless memory decided otherwise."""
    same = [name for name in BY_STAGE if getattr(config, name) == getattr(settled, name)]
    return config.replace(**{name: getattr(given, name) for name in same})


def _network(row: Backbone, weights: WeightsFile | None, config: TrainConfig, data: Data) -> tuple[Backbone, Network]:
    """The network to train, with the weights it starts from; and its row, with the blocks that are left of it."""
    classes, head = data.staged.classes, None
    if weights is not None and weights.run is not None:
        backbone, head = backbone_of_run(weights.run, data.image_size)
        row = remaining(row, backbone)
    else:
        scaling = SCALINGS[config.normalization]
        adapted = (scaling or row.scaling) == "data" and weights is None
        backbone = build_backbone(
            row, config.alpha, data.image_size, data.channels, norm=config.batch_norm, scaling=scaling,
            statistics=PixelStatistics(*data.train.statistics()) if adapted else None, classes=len(classes),
        )  # fmt: skip
        if weights is not None:
            load_backbone_weights(backbone, weights)
        if config.truncate_at is not None:
            row, backbone = truncate(row, backbone, config.truncate_at)
    assert config.dropout is not None
    network = assemble(backbone, classes, binary=config.head == "binary", dropout=config.dropout, seed=config.seed)
    if head is not None and weights is not None and weights.run is not None:
        known = runs.Run.open(weights.run).classes
        if set(known) & set(classes) and head[0].shape[0] == network.features.shape[-1]:
            load_head(network, head[0], head[1], known)
    return row, network


def _balanced(config: TrainConfig, staged: StagedSet) -> tuple[TrainConfig, str]:
    """Decide on `--balance`."""
    counts = np.bincount([image.label for image in staged.parts["train"]], minlength=len(staged.classes))
    balance, note = decide(config.balance, np.maximum(counts, 1))
    loss = "focal" if balance == "focal" else config.loss
    return config.replace(balance=balance, loss=loss), note


# Settings that only these look at.
OF_FINE_TUNING = ("fine_tune_learning_rate", "ensemble", "start_size", "layer_decay", "mix", "label_smoothing",
                  "accumulate", "weight_average", "lr")  # fmt: skip
OF_PRETRAINED = ("fine_tune_epochs", "fine_tune_learning_rate", "unfreeze", "views", "layer_decay", "teacher",
                 "ensemble", "start_size")  # fmt: skip
OF_SCRATCH = ("batch_norm", "normalization")


def _warn_of_no_effect(config: TrainConfig, row: Backbone, *, from_scratch: bool, of_run: bool) -> None:
    """Name the settings that were given and that nothing will look at."""
    default = TrainConfig()
    fixed = OF_SCRATCH if row.application or row.builder else ()
    unused = dict.fromkeys(OF_PRETRAINED, "in training from scratch") if from_scratch else {
        **dict.fromkeys(OF_FINE_TUNING if config.fine_tune_epochs == 0 else (), "where only the head is trained"),
        **dict.fromkeys(() if of_run else OF_SCRATCH, "on pretrained weights"),  # a run brings its own with it
    }  # fmt: skip
    if from_scratch:
        unused = {**dict.fromkeys(fixed, f"for {row.title}"), **unused}
    for name, where in unused.items():
        if getattr(config, name) != getattr(default, name):
            warn(f"--{name.replace('_', '-')} has no effect {where}")


def settle(config: TrainConfig, recipe: Recipe, size: int, classes: int, *, from_scratch: bool) -> TrainConfig:
    """Fill in what the user left open.

    Args:
        config: the settings as given.
        recipe: how the network is trained from scratch where nobody says otherwise.
        size: side of the input image in pixels.
        classes: how many there are.
        from_scratch: whether it is; from pretrained weights the same defaults serve every network.
    """

    def either(given: Any, otherwise: Any) -> Any:
        return otherwise if given is None or given == "auto" else given

    recipe = recipe if from_scratch else TRANSFER
    return config.replace(
        image_size=size,
        color=either(config.color, "rgb"),
        head=either(config.head, "binary" if classes == 2 else "multiclass"),
        dropout=either(config.dropout, recipe.dropout),
        batch_size=either(config.batch_size, recipe.batch_size),
        epochs=either(config.epochs, recipe.epochs if from_scratch else None),
        optimizer=either(config.optimizer, recipe.optimizer),
        schedule=either(config.schedule, recipe.schedule),
        loss=either(config.loss, "cross-entropy"),
        learning_rate=either(config.learning_rate, recipe.learning_rate if from_scratch else None),
        weight_decay=either(config.weight_decay, recipe.weight_decay),
        label_smoothing=either(config.label_smoothing, recipe.label_smoothing),
        augment=augmentation.resolve(either(config.augment, recipe.augment)),
        flip=either(config.flip, True),
    )


def _describe(row: Backbone, size: int, channels: int, config: TrainConfig, classes: int) -> str:
    kind = "one sigmoid unit (binary)" if config.head == "binary" else f"a softmax over {classes} classes"
    cut = f" up to {config.truncate_at}" if config.truncate_at else ""
    grey = ", grey" if channels == 1 else ""
    return f"network: {row.title}{cut} at {size} x {size} pixels{grey}, head: {kind}"
