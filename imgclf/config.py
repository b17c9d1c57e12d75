"""TrainConfig: every setting of a training once, with type, default, range and help. Imports imgclf.errors only.

The options of `imgclf train`, the keyword arguments of `imgclf.train` and a run's config.json all come from this table.
"""

import dataclasses
import difflib
import types
from dataclasses import dataclass, field
from typing import Any, Union, get_args, get_origin, get_type_hints

from imgclf.errors import InputError

AUGMENTATIONS = ("auto", "none", "light", "medium", "strong")
HEADS = ("auto", "binary", "multiclass")
FORMATS = ("float32", "float16")


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


MODEL, TRAINING, DATA, OUTPUT = "Model", "Training", "Data", "Output"


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training; the defaults are meant to be right.

    None means that imgclf decides, from the data and from what this computer can do, and says what it decided.
    `TrainConfig.describe()` gives the help text and the range of each field.

    Raises:
        InputError: a value is of the wrong type or out of its range; the message names the setting and the range.
    """

    backbone: str = _setting("mobilenet_v2", "Network to start from; `imgclf backbones list` shows all.", MODEL)
    alpha: float | None = _setting(
        None, "Width of MobileNets: 0.25 is small and fast, 1.0 the full network.", MODEL,
        limits=Range(0.1, 2.0), auto="the backbone's own default",
    )  # fmt: skip
    weights: str | None = _setting(
        None, "Pretrained weights: imagenet, none (train from scratch), or a file.", MODEL,
        auto="imagenet; none for tiny",
    )  # fmt: skip
    image_size: int | None = _setting(
        None, "Side of the square that images are stretched to, in pixels.", MODEL,
        limits=Range(16, 2048), auto="the backbone's own default",
    )  # fmt: skip
    head: str = _setting(
        "auto", "binary trains one sigmoid unit, multiclass a softmax; auto looks at the number of classes.", MODEL,
        choices=HEADS,
    )  # fmt: skip
    dropout: float = _setting(
        0.2, "Share of features dropped before the head in training.", MODEL, limits=Range(0, 0.9)
    )
    epochs: int | None = _setting(
        None, "Most epochs of the head stage (or of the whole training, from scratch).", TRAINING,
        limits=Range(1, 10_000), auto="10 to 150 by the number of images; from scratch 10 to 24",
    )  # fmt: skip
    fine_tune_epochs: int | None = _setting(
        None, "Epochs of the fine-tuning stage; 0 trains the head only.", TRAINING,
        limits=Range(0, 10_000), auto="what a few minutes allow, 8 at most",
    )  # fmt: skip
    unfreeze: str = _setting(
        "auto", "What fine-tuning trains: the top N blocks of the backbone, all, or auto.", TRAINING
    )
    learning_rate: float | None = _setting(
        None, "Learning rate of the head stage (or of the whole training, from scratch).", TRAINING,
        limits=Range(1e-7, 1.0), auto="0.001; from scratch 0.003",
    )  # fmt: skip
    fine_tune_learning_rate: float | None = _setting(
        None, "Highest learning rate of the fine-tuning stage.", TRAINING,
        limits=Range(1e-8, 1.0), auto="0.0002",
    )  # fmt: skip
    batch_size: int = _setting(32, "Images a training step.", TRAINING, limits=Range(1, 4096))
    weight_decay: float = _setting(1e-4, "AdamW's weight decay in fine-tuning.", TRAINING, limits=Range(0, 1))
    label_smoothing: float = _setting(0.0, "Label smoothing in fine-tuning.", TRAINING, limits=Range(0, 0.5))
    patience: int | None = _setting(
        None, "Epochs without a better validation loss before a stage stops.", TRAINING,
        limits=Range(1, 10_000), auto="10 for the head, 3 for fine-tuning",
    )  # fmt: skip
    augment: str = _setting(
        "auto", "How training images are varied: none, light, medium, strong; auto chooses.", DATA,
        choices=AUGMENTATIONS,
    )  # fmt: skip
    flip: bool = _setting(True, "Mirror training images left to right; off where that changes the meaning.", DATA)
    views: int = _setting(
        1, "Readings of each image for the head stage: 1 is the image as it is, more add augmented ones.", DATA,
        limits=Range(1, 64),
    )  # fmt: skip
    val_share: float = _setting(
        0.15, "Share of the images for validation, where the folder has no val part.", DATA, limits=Range(0.01, 0.8)
    )
    test_share: float = _setting(
        0.15, "Share of the images for the test, where the folder has no test part.", DATA, limits=Range(0.01, 0.8)
    )
    seed: int = _setting(0, "Number that fixes every random choice.", DATA, limits=Range(0, 2**31 - 1))
    workers: int | None = _setting(None, "Processes that read images.", DATA, limits=Range(0, 256), auto="one a core")
    formats: tuple[str, ...] = _setting(
        FORMATS, "TFLite files to write after training, separated by commas.", OUTPUT, choices=FORMATS
    )

    def __post_init__(self) -> None:
        for spec in describe(type(self)):
            _check(spec, getattr(self, spec.name))
        if self.val_share + self.test_share > 0.9:
            raise InputError(
                f"val-share {self.val_share:g} and test-share {self.test_share:g} leave too little for training",
                "together they may take 0.9 at most",
            )

    def to_json(self) -> dict[str, Any]:
        """All settings as plain JSON types, in the order of the table."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

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
        clean: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()
        }
        return dataclasses.replace(self, **clean)

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
        optional = get_origin(kind) in (Union, types.UnionType)
        if optional:
            kind = next(arm for arm in get_args(kind) if arm is not type(None))
        rows.append(Setting(name=item.name, kind=get_origin(kind) or kind, default=item.default, optional=optional,
                            **item.metadata))  # fmt: skip
    return tuple(rows)


def _check(spec: Setting, value: Any) -> None:
    if value is None and spec.optional:
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
