"""What a search varies: a table of axes. Imports no TensorFlow and no Optuna.

An axis is a row of `AXES`; a setting that the user has fixed takes its axis out of the search.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageSet
from imgclf.models import backbones
from imgclf.models.cached import run_of
from imgclf.search.networks import Network, networks_for
from imgclf.training.choose import choose

HEAD_RATE, FINE_TUNE_RATE, TRANSFER_BATCH = (
    3e-3,
    2e-4,
    32,
)  # as in head_stage.py and fine_tuning.py; from scratch it is the recipe's
FACTORS = (0.25, 4.0)  # of a learning rate
# Trials are shorter than a training: they only have to put the settings in the right order. With 20 epochs of the head
# small networks and low rates come out too low where images are few (docs/benchmarks.md).
TRIAL_EPOCHS, TRIAL_HEAD_EPOCHS = 12, 40
FINE_TUNE_STEPS, FINE_TUNE_EPOCHS = 100, (3, 8)  # fewer steps, and fine-tuning looks worse than it is
# medium and strong need more epochs to pay off than a trial has (docs/benchmarks.md): it would always say no.
FIRST_NETWORKS = 4  # at most, before the sampler chooses
AUGMENTATIONS = ("none", "shift", "light")

# How deep fine-tuning goes, as a number of blocks, from the network's usual number and the number that it has.
HEAD = "head"
DEPTHS: dict[str, Callable[[int, int], int]] = {
    HEAD: lambda usual, all_blocks: 0,
    "half": lambda usual, all_blocks: max(1, usual // 2),
    "usual": lambda usual, all_blocks: usual,
    "double": lambda usual, all_blocks: min(2 * usual, all_blocks),
}

Value = str | int | float


class Suggests(Protocol):
    """The part of `optuna.Trial` that a draw needs."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in between."""


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        given: the settings as the user gave them.
        base: the same with what the images decide.
        networks: the candidates, the usual one first.
        notes: what people should know about the choice of them.
    """

    given: TrainConfig
    base: TrainConfig
    networks: tuple[Network, ...]
    notes: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple["Axis", ...]:
        """The axes along which there is something to try."""
        return tuple(
            axis for axis in AXES
            if any(axis.applies(self, network, None) and len(axis.values(self, network)) > 1 for network in
                   self.networks)
        )  # fmt: skip

    def is_fixed(self, setting: str) -> bool:
        """Whether the user gave a setting."""
        return bool(getattr(self.given, setting) != getattr(TrainConfig(), setting))

    def to_json(self) -> dict[str, list[str]]:
        """What is searched, in plain words, for the record and to see whether two searches are the same."""
        return {axis.title: axis.tried(self) for axis in self.axes}


@dataclass(frozen=True)
class Draw:
    """One point of the space: a network, a value for each axis that applies, and what they mean as settings."""

    network: Network
    values: dict[str, Value] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Axis:
    """One thing that is varied.

    Attributes:
        name: of the parameter in the study.
        title: for people.
        fixed_by: settings of which each takes the axis out of the search.
        values: what is tried for a network, smallest first; for a `log` axis the two ends.
        settings: what a value means.
        usual: the value that imgclf takes by itself.
        when: whether the axis matters for a network and the values drawn before it (None: whether it ever can).
        log: any number between the two ends, evenly in its logarithm.
    """

    name: str
    title: str
    fixed_by: tuple[str, ...]
    values: Callable[[Space, Network], tuple[Value, ...]]
    settings: Callable[[Space, Network, Any], dict[str, Any]]
    usual: Callable[[Space, Network], Value]
    when: Callable[[Space, Network, dict[str, Value] | None], bool] = lambda space, network, drawn: True
    log: bool = False

    def applies(self, space: Space, network: Network, drawn: dict[str, Value] | None) -> bool:
        """Whether a value is to be drawn."""
        return not any(map(space.is_fixed, self.fixed_by)) and self.when(space, network, drawn)

    def tried(self, space: Space) -> list[str]:
        """What is tried for any of the networks, in words."""
        if self.log:
            low, high = FACTORS
            return [f"{low:g} to {high:g} times the usual"]
        values = {value: None for network in space.networks for value in self.values(space, network)}
        return [str(value) for value in (sorted(values) if self.name == "image_size" else values)]

    def parameter(self, space: Space, network: Network) -> str:
        """The parameter's name in the study; networks with other values have one of their own."""
        values = self.values(space, network)
        alike = self.log or all(self.values(space, other) == values for other in space.networks)
        return self.name if alike else f"{self.name} up to {values[-1]}"


def candidates(images: ImageSet, config: TrainConfig) -> Space:
    """What is to be varied for some images.

    Args:
        images: inspected images with parts.
        config: the settings as given; "auto" and None are free to be searched.

    Raises:
        InputError: an unknown network, or settings that do not fit each other.
    """
    usual, _ = choose(images, config)
    networks = networks_for(images, config, usual)
    base = usual if run_of(config.weights) else config.replace(color=usual.color, flip=usual.flip)
    meant = backbones.get(usual.backbone).has_weights and config.weights != "none"
    missing = meant and all(network.from_scratch for network in networks)
    note = "no pretrained weights on this computer: networks from scratch are tried (imgclf weights)"
    return Space(config, base, networks, (note,) if missing else ())


def _depths(space: Space, network: Network) -> tuple[Value, ...]:
    if space.given.fine_tune_epochs == 0:
        return (HEAD,)
    # a network that was cut shorter has other blocks, which are known when it is built
    shortened = space.given.truncate_at is not None or run_of(space.given.weights) is not None
    names = (HEAD, "usual") if shortened else tuple(DEPTHS)
    return names if space.given.fine_tune_epochs is None else names[1:]


def _depth_settings(space: Space, network: Network, value: str) -> dict[str, Any]:
    if value == HEAD:
        return {"fine_tune_epochs": 0}
    blocks = DEPTHS[value](network.row.default_unfreeze, len(network.row.cuts))
    return {} if "half" not in _depths(space, network) else {"unfreeze": str(blocks) if network.row.cuts else "auto"}


def _fine_tunes(space: Space, network: Network, drawn: dict[str, Value] | None) -> bool:
    if network.from_scratch or space.given.fine_tune_epochs == 0:
        return False
    return drawn is None or drawn.get("depth") != HEAD


def _rate(space: Space, network: Network, factor: float) -> dict[str, Any]:
    return {"learning_rate": _round(factor * (network.row.recipe.learning_rate if network.from_scratch else HEAD_RATE))}


def _round(rate: float) -> float:
    return float(f"{rate:.2g}")


AXES: tuple[Axis, ...] = (
    Axis("network", "network", (),
         values=lambda space, network: tuple(other.name for other in space.networks),
         settings=lambda space, network, value: (
             {} if run_of(space.given.weights) else
             {**({} if space.is_fixed("backbone") else {"backbone": network.row.name}), "alpha": network.alpha}),
         usual=lambda space, network: network.name),
    Axis("image_size", "image size", ("image_size",),
         values=lambda space, network: network.sizes,
         settings=lambda space, network, value: {"image_size": value},
         usual=lambda space, network: network.sizes[-1]),
    Axis("depth", "what is fine-tuned", ("unfreeze",),
         values=_depths, settings=_depth_settings,
         usual=lambda space, network: HEAD if space.given.fine_tune_epochs == 0 else "usual",
         when=lambda space, network, drawn: not network.from_scratch),
    Axis("fine_tune_rate", "learning rate of fine-tuning", ("fine_tune_learning_rate",),
         values=lambda space, network: FACTORS,
         settings=lambda space, network, value: {"fine_tune_learning_rate": _round(FINE_TUNE_RATE * value)},
         usual=lambda space, network: 1.0, when=_fine_tunes, log=True),
    Axis("augment", "augmentation", ("augment",),
         values=lambda space, network: AUGMENTATIONS,
         settings=lambda space, network, value: {"augment": value},
         usual=lambda space, network: network.row.recipe.augment if network.from_scratch else "light",
         when=lambda space, network, drawn: (
             network.from_scratch or (space.given.views or 1) > 1 or _fine_tunes(space, network, drawn))),
    Axis("rate", "learning rate", ("learning_rate",),
         values=lambda space, network: FACTORS, settings=_rate, usual=lambda space, network: 1.0, log=True),
)  # fmt: skip


def draw(space: Space, trial: Suggests, enough: Callable[[Network], bool] = lambda network: False) -> Draw:
    """Let a trial choose one point of the space.

    Args:
        space: what is searched.
        trial: of the study.
        enough: whether nothing can be seen to get better than with the head of a network alone.
    """
    networks = {network.name: network for network in space.networks}
    name = trial.suggest_categorical("network", list(networks)) if len(networks) > 1 else next(iter(networks))
    network = networks[name]
    values: dict[str, Value] = {"network": name}
    settings: dict[str, Any] = AXES[0].settings(space, network, name)
    for axis in AXES[1:]:
        if not axis.applies(space, network, values):
            continue
        offered, parameter = axis.values(space, network), axis.parameter(space, network)
        value: Any
        if axis.name == "depth" and HEAD in offered and enough(network):
            value = HEAD
        elif axis.log:
            value = trial.suggest_float(parameter, float(offered[0]), float(offered[1]), log=True)
        else:
            value = trial.suggest_categorical(parameter, list(offered)) if len(offered) > 1 else offered[0]
        values[axis.name] = value
        settings.update(axis.settings(space, network, value))
    return Draw(network, values, settings)


def first_points(space: Space) -> list[dict[str, Value]]:
    """What is tried first: the heads of some networks alone, which is cheap; then what imgclf would do by itself."""
    cheapest = sorted(space.networks[1:], key=lambda network: (network.parameters, network.sizes[-1]))
    networks = (space.networks[0], *cheapest[: FIRST_NETWORKS - 1])
    heads = [_point(space, network, HEAD) for network in networks]
    return [*heads, *(point for point in [_point(space, space.networks[0])] if point not in heads)]


def _point(space: Space, network: Network, depth: str | None = None) -> dict[str, Value]:
    """Parameters of the study: the usual value of every axis that applies, or another depth."""
    values: dict[str, Value] = {"network": network.name}
    parameters: dict[str, Value] = {"network": network.name} if len(space.networks) > 1 else {}
    for axis in AXES[1:]:
        offered = axis.values(space, network)
        value = depth if axis.name == "depth" and depth in offered else axis.usual(space, network)
        if axis.applies(space, network, values) and len(offered) > 1 and (axis.log or value in offered):
            parameters[axis.parameter(space, network)] = values[axis.name] = value
    return parameters


def trial_config(space: Space, drawn: Draw, images: int) -> TrainConfig:
    """The settings of a trial, which is shorter than a training where the user has not fixed its length.

    Args:
        space: what is searched.
        drawn: the point.
        images: number of training images.
    """
    config = space.base.replace(**drawn.settings)
    if drawn.network.from_scratch:
        return config.replace(epochs=config.epochs or TRIAL_EPOCHS)
    fewest, most = FINE_TUNE_EPOCHS
    enough = round(FINE_TUNE_STEPS * (config.batch_size or TRANSFER_BATCH) / images)
    given = config.fine_tune_epochs
    return config.replace(
        epochs=config.epochs or TRIAL_HEAD_EPOCHS,
        fine_tune_epochs=max(fewest, min(most, enough)) if given is None else given,
    )
