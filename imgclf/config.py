"""TrainConfig: every setting of a training once, with type, default, range and help. Imports imgclf.errors only.

The options of `imgclf train`, the keyword arguments of `imgclf.train` and a run's config.json all come from this table.
"""

import dataclasses
import difflib
import os
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Union, get_args, get_origin, get_type_hints

from imgclf.errors import InputError

AUGMENTATIONS = ("auto", "none", "shift", "light", "medium", "strong")
HEADS = ("auto", "binary", "multiclass")
COLORS = ("auto", "rgb", "grayscale")
OPTIMIZERS = ("auto", "adam", "adamw", "sgd", "rmsprop", "lion")
SCHEDULES = ("auto", "constant", "cosine", "step", "plateau", "one-cycle")
LOSSES = ("auto", "cross-entropy", "focal")
BALANCES = ("auto", "none", "weights", "sampler", "focal")
PRECISIONS = ("auto", "float32", "mixed")
MIXES = ("auto", "none", "mixup", "cutmix")
NORMALIZATIONS = ("auto", "unit", "symmetric", "data")
FORMATS = ("float32", "float16", "dynamic", "int8")


@dataclass(frozen=True)
class Range:
    """The closed range of a number; either end may be open (None)."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low:g}"
        return f"{self.low:g} to {self.high:g}"


def _setting(
    default: Any,
    text: str,
    group: str,
    *,
    choices: tuple[str, ...] = (),
    limits: Range | None = None,
    auto: str = "",
) -> Any:
    """One row of the table; `auto` says what None stands for."""
    return field(
        default=default,
        metadata={"help": text, "group": group, "choices": choices, "limits": limits, "auto": auto},
    )


# Settings that a search has no use for: it has a budget, parts and stages of its own.
NOT_SEARCHED = ("time_budget", "lr", "from_run", "checkpoint_minutes", "folds", "ensemble", "start_size", "tensorboard")

MODEL, TRAINING, DATA, OUTPUT = "Model", "Training", "Data", "Output"


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training; the defaults are meant to be right.

    None means that imgclf decides, from the data and from what this computer can do, and says what it decided.
    `TrainConfig.describe()` gives the help text and the range of each field.

    Raises:
        InputError: a value is of the wrong type or out of its range; the message names the setting and the range.
    """

    backbone: str | Callable[..., Any] = _setting(  # noqa: RUF009 (a row of the table, like every other)
        "auto", "Network: a name of `imgclf backbones list`, or package.module:function that builds one; auto takes "
        "mobilenet_v2 for photos, resnet9 or cnn_small for images of 64 pixels or less.", MODEL,
    )  # fmt: skip
    alpha: float | None = _setting(
        None, "Width of MobileNets: 0.25 is small and fast, 1.0 the full network.", MODEL,
        limits=Range(0.1, 2.0), auto="the backbone's own default",
    )  # fmt: skip
    weights: str | None = _setting(
        None, "Pretrained weights: imagenet, none (train from scratch), a file, or a run folder to go on from.", MODEL,
        auto="imagenet where the network has them",
    )  # fmt: skip
    image_size: int | None = _setting(
        None, "Side of the square that images are stretched to, in pixels.", MODEL,
        limits=Range(16, 2048), auto="the network's own; from scratch no more than the images have",
    )  # fmt: skip
    start_size: int | None = _setting(
        None, "Side at which fine-tuning begins, smaller than the image size: the first half of its epochs take less "
        "work (progressive resizing).", MODEL, limits=Range(16, 2048), auto="the image size",
    )  # fmt: skip
    color: str = _setting(
        "auto", "Channels that the model reads; auto takes one when all images are grey.", MODEL, choices=COLORS
    )
    truncate_at: str | None = _setting(
        None, "Layer at which the backbone ends, such as mixed7 of inception_v3.", MODEL, auto="its last",
    )  # fmt: skip
    batch_norm: bool | None = _setting(
        None, "BatchNorm in a network that is trained from scratch, whether its layout has it or not.", MODEL,
        auto="as the layout has it",
    )  # fmt: skip
    normalization: str = _setting(
        "auto", "How a network from scratch sees pixels: unit 0..1, symmetric -1..1, data by the training images' mean "
        "and deviation.", MODEL, choices=NORMALIZATIONS,
    )  # fmt: skip
    head: str = _setting(
        "auto", "binary trains one sigmoid unit, multiclass a softmax; auto looks at the number of classes.", MODEL,
        choices=HEADS,
    )  # fmt: skip
    dropout: float | None = _setting(
        None, "Share of features dropped before the head in training.", MODEL, limits=Range(0, 0.9),
        auto="searched for the head, 0.2 in fine-tuning; from scratch the recipe's",
    )  # fmt: skip
    epochs: int | None = _setting(
        None, "Most epochs of the head stage (or of the whole training, from scratch).", TRAINING,
        limits=Range(1, 10_000), auto="10 to 150 by the number of images; from scratch the recipe's",
    )  # fmt: skip
    fine_tune_epochs: int | None = _setting(
        None, "Epochs of the fine-tuning stage; 0 trains the head only.", TRAINING,
        limits=Range(0, 10_000), auto="what a few minutes allow, 8 at most",
    )  # fmt: skip
    unfreeze: str = _setting(
        "auto", "What fine-tuning trains: the top N blocks of the backbone, all, or auto.", TRAINING
    )
    time_budget: str | None = _setting(
        None, "Time for everything, such as 90s, 10m or 1h30m: epochs and views are chosen to end in it.", TRAINING,
        auto="none",
    )  # fmt: skip
    lr: str | None = _setting(
        None, "auto finds the rate of fine-tuning, or of training from scratch, by a range test and draws its curve.",
        TRAINING, choices=("auto",), auto="off",
    )  # fmt: skip
    learning_rate: float | None = _setting(
        None, "Learning rate of the head stage (or of the whole training, from scratch).", TRAINING,
        limits=Range(1e-7, 1.0), auto="0.003; from scratch the recipe's",
    )  # fmt: skip
    fine_tune_learning_rate: float | None = _setting(
        None, "Highest learning rate of the fine-tuning stage.", TRAINING,
        limits=Range(1e-8, 1.0), auto="0.0002",
    )  # fmt: skip
    batch_size: int | None = _setting(
        None,
        "Images a training step.",
        TRAINING,
        limits=Range(1, 4096),
        auto="64 for the head, 32 in fine-tuning; from scratch the recipe's",
    )
    optimizer: str = _setting(
        "auto", "Optimizer; auto takes AdamW, from scratch the recipe's.", TRAINING, choices=OPTIMIZERS
    )
    schedule: str = _setting(
        "auto", "Learning rate over the epochs; auto takes cosine with warm-up, from scratch the recipe's.", TRAINING,
        choices=SCHEDULES,
    )  # fmt: skip
    loss: str = _setting(
        "auto", "Loss; auto takes cross-entropy, focal weighs down images that are easy.", TRAINING, choices=LOSSES
    )
    balance: str = _setting(
        "auto", "Classes of different sizes: weights lets rare ones count more, sampler shows them more often, focal "
        "is the loss of that name; auto weighs from 20 to 1.", TRAINING, choices=BALANCES,
    )  # fmt: skip
    teacher: str | None = _setting(
        None, "Finished run, usually of a larger network, whose probabilities are half of every training label.",
        TRAINING, auto="none",
    )  # fmt: skip
    weight_decay: float | None = _setting(
        None,
        "Weight decay.",
        TRAINING,
        limits=Range(0, 10),
        auto="searched for the head, 0.0001 in fine-tuning; from scratch the recipe's",
    )
    precision: str = _setting(
        "auto", "Arithmetic of the training: mixed computes in float16, with weights in float32; auto does so on GPUs "
        "with tensor cores, never on a CPU. The finished model is float32.", TRAINING, choices=PRECISIONS,
    )  # fmt: skip
    calibrate: bool = _setting(
        True, "Divide the scores by one temperature, found on the validation images, so that 0.8 means right in 80 of "
        "100; the answers stay what they are.", TRAINING,
    )  # fmt: skip
    threshold: str = _setting(
        "0.5", "Of two classes: when the second is named. f1, recall>=0.95 or precision>=0.95 find the probability on "
        "the validation images, a number is one; it becomes part of the model.", TRAINING,
    )  # fmt: skip
    unknown: bool = _setting(
        False, "Let the model, and every file made of it, call an image unknown that is like none of the training.",
        TRAINING,
    )  # fmt: skip
    coverage: float = _setting(
        0.95, "With --unknown: the share of the validation images that must stay known.", TRAINING,
        limits=Range(0.5, 1.0),
    )  # fmt: skip
    l1: float = _setting(0.0, "L1 penalty on kernels.", TRAINING, limits=Range(0, 1))
    l2: float = _setting(0.0, "L2 penalty on kernels.", TRAINING, limits=Range(0, 1))
    label_smoothing: float | None = _setting(
        None, "Label smoothing, after the head stage.", TRAINING, limits=Range(0, 0.5),
        auto="0; from scratch the recipe's",
    )  # fmt: skip
    head_search: bool | None = _setting(
        None, "Try weight decays and dropouts for the head and take the best on the validation images.", TRAINING,
        auto="on; with --from what that run found, where less than a fifth of the images is new",
    )  # fmt: skip
    ensemble: int = _setting(
        1, "Fine-tune so many times from the same head, in other orders, and average the weights as long as the "
        "validation loss does not rise (a model soup): one model of the same size and speed.", TRAINING,
        limits=Range(1, 20),
    )  # fmt: skip
    layer_decay: float = _setting(
        1.0, "Factor of the fine-tuning rate from each block to the one below it; 1 for one rate.", TRAINING,
        limits=Range(0.1, 1.0),
    )  # fmt: skip
    weight_average: float | None = _setting(
        None, "Momentum of a moving average of the weights, which is measured and kept in their place; 0 for none.",
        TRAINING, limits=Range(0, 0.9999), auto="0.98 in fine-tuning; none from scratch",
    )  # fmt: skip
    accumulate: int = _setting(
        1, "Steps whose gradients are averaged before the weights change.", TRAINING, limits=Range(1, 1024)
    )
    checkpoint_minutes: float = _setting(
        10.0, "Minutes between checkpoints within an epoch; one is written at every epoch's end.", TRAINING,
        limits=Range(0, 1440),
    )  # fmt: skip
    patience: int | None = _setting(
        None, "Epochs without a better validation loss before a stage stops.", TRAINING,
        limits=Range(1, 10_000), auto="15 for the head and from scratch, 3 for fine-tuning",
    )  # fmt: skip
    augment: str = _setting(
        "auto", "How training images are varied: none, shift (small images), light, medium or strong.", DATA,
        choices=AUGMENTATIONS,
    )  # fmt: skip
    mix: str = _setting(
        "auto", "Pairs of training images with labels in between, after the head stage: mixup blends them, cutmix puts "
        "a piece of one onto the other; auto does both on freshly varied images with --augment strong, else neither.",
        DATA, choices=MIXES,
    )  # fmt: skip
    flip: bool | None = _setting(
        None, "Mirror training images left to right; off where that changes the meaning.", DATA,
        auto="on; off for grey images of 64 pixels or less, which often are letters and digits",
    )  # fmt: skip
    views: int | None = _setting(
        None, "Readings of each training image that are computed once: 1 is the image as it is, more add varied ones; "
        "0 varies anew every epoch.", DATA, limits=Range(0, 64),
        auto="3, no more than epochs; 1 for the head alone; 0 on a GPU or where everything trains",
    )  # fmt: skip
    val_share: float | None = _setting(
        None, "Share of the images for validation, where the folder has no val part.", DATA, limits=Range(0.01, 0.8),
        auto="0.15, 5000 images at most",
    )  # fmt: skip
    test_share: float | None = _setting(
        None, "Share of the images for the test, where the folder has no test part.", DATA, limits=Range(0.01, 0.8),
        auto="0.15, 5000 images at most",
    )  # fmt: skip
    csv: str | None = _setting(
        None, "Table of the images: path,label[,split][,group], paths relative to it; DATA may then be left out.", DATA,
        auto="class folders",
    )  # fmt: skip
    classes: tuple[str, ...] = _setting((), "Classes to use, separated by commas.", DATA, auto="all")
    exclude_classes: tuple[str, ...] = _setting((), "Classes to leave out.", DATA, auto="none")
    fixes: str | None = _setting(
        None,
        "Corrected labels: the file of `imgclf check --run RUN --csv FILE`, decided on in `imgclf review`. What is not "
        "decided takes a sure suggestion or is left out, in the training part.",
        DATA,
        auto="none",
    )
    split: str | None = _setting(
        None, "Parts of an earlier run or of a split.csv; new images are placed beside them.", DATA,
        auto="drawn anew; those of a run that --overwrite replaces stay",
    )  # fmt: skip
    from_run: str | None = _setting(
        None, "Finished run to continue on a grown folder: its network, parts and classes stay, new classes get "
        "outputs. Trains the head only, unless --fine-tune-epochs is given.", DATA, auto="none",
    )  # fmt: skip
    folds: int | None = _setting(
        None, "Cross-validation with so many folds, for small sets: every image is tested once, by a network that has "
        "not seen it; the model is then trained on all folds but one. Takes as many trainings more.", DATA,
        limits=Range(3, 100), auto="one test part",
    )  # fmt: skip
    group_by: str | None = _setting(
        None, "Regular expression for paths; images for which its parentheses catch the same share a part.", DATA,
        auto="copies and near-copies only",
    )  # fmt: skip
    drop_leaks: bool = _setting(
        False, "Leave out what a later part holds too: of train and test the training copy.", DATA
    )
    seed: int = _setting(0, "Number that fixes every random choice.", DATA, limits=Range(0, 2**31 - 1))
    workers: int | None = _setting(None, "Processes that read images.", DATA, limits=Range(0, 256), auto="one a core")
    formats: tuple[str, ...] = _setting(
        ("float32", "float16"), "TFLite files to write after training, separated by commas.", OUTPUT, choices=FORMATS
    )
    tensorboard: bool = _setting(
        False, "Write every epoch as it ends for TensorBoard, which shows it: `tensorboard --logdir RUN`.", OUTPUT
    )

    def __post_init__(self) -> None:
        for spec in describe(type(self)):
            _check(spec, getattr(self, spec.name))
        val_share, test_share = self.val_share or 0.0, self.test_share or 0.0
        if val_share + test_share > 0.9:
            raise InputError(
                f"val-share {val_share:g} and test-share {test_share:g} leave too little for training",
                "together they may take 0.9 at most",
            )

    def to_json(self) -> dict[str, Any]:
        """All settings as plain JSON types, in the order of the table."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainConfig":
        """The settings of a config.json (of its `settings` part, or a plain table of settings).

        Raises:
            InputError: an unknown setting (the nearest name is suggested) or a bad value.
        """
        return cls().replace(**values)

    def replace(self, **changes: Any) -> "TrainConfig":
        """The same settings with some changed; unknown names are an InputError that suggests the nearest."""
        known = {spec.name for spec in describe(type(self))}
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "see `imgclf train --help`"
                raise InputError(f"unknown setting {name!r}", hint)
        kinds = {spec.name: spec.kind for spec in describe(type(self))}
        return dataclasses.replace(self, **{name: _clean(kinds[name], value) for name, value in changes.items()})

    @staticmethod
    def describe() -> tuple["Setting", ...]:
        """Every setting with its type, default, help, group, choices and limits."""
        return describe(TrainConfig)


@dataclass(frozen=True)
class Setting:
    """What is known of one setting: the row behind an option."""

    name: str
    kind: type
    default: Any
    optional: bool
    help: str
    group: str
    choices: tuple[str, ...]
    limits: Range | None
    auto: str

    @property
    def option(self) -> str:
        """The name as an option: `--fine-tune-epochs`."""
        return "--" + self.name.replace("_", "-")


def describe(table: type) -> tuple[Setting, ...]:
    """The rows of a settings table (a dataclass whose fields were made by this module)."""
    hints = get_type_hints(table)
    rows = []
    for item in dataclasses.fields(table):
        kind = hints[item.name]
        arms = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
        optional, kind = type(None) in arms, arms[0]
        rows.append(Setting(name=item.name, kind=get_origin(kind) or kind, default=item.default, optional=optional,
                            **item.metadata))  # fmt: skip
    return tuple(rows)


def _clean(kind: type, value: Any) -> Any:
    """A setting as the table has it: a list, or words with commas between them, as a tuple; a path as its text."""
    if kind is tuple and isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    if isinstance(value, list):
        return tuple(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _plain(value: Any) -> Any:
    """A setting as JSON has it; a function by its import path."""
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return list(value) if isinstance(value, tuple) else value


def _check(spec: Setting, value: Any) -> None:
    if (value is None and spec.optional) or (spec.name == "backbone" and callable(value)):
        return
    if spec.kind is tuple:
        for item in value:
            _check_choice(spec, item)
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = is_number if spec.kind is float else isinstance(value, spec.kind)
    if not fits or (spec.kind is int and isinstance(value, bool)):
        raise InputError(f"{spec.option} is {value!r}", f"expected {_KINDS[spec.kind]}")
    if spec.limits is not None and value not in spec.limits:
        raise InputError(f"{spec.option} is {value}", f"expected {spec.limits}")
    _check_choice(spec, value)


def _check_choice(spec: Setting, value: Any) -> None:
    if spec.choices and value not in spec.choices:
        near = difflib.get_close_matches(str(value), spec.choices, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"{spec.option} is {value!r}", f"{hint}expected one of {', '.join(spec.choices)}")


_KINDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", tuple: "a list"}
