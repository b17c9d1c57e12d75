"""The networks that a search tries: those that suit the images and can be had. Imports no TensorFlow."""

from dataclasses import dataclass

from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageSet
from imgclf.models import backbones, pretrained
from imgclf.models.cached import keras_home, run_of
from imgclf.models.row import Backbone, Variant
from imgclf.training.choose import choose

FROM_SCRATCH = ("tiny", "cnn_small", "resnet9")  # for small images, or where no pretrained weights are
LARGEST = 8_000_000  # parameters of a pretrained network that is tried unasked: 16 MB as float16
SIZES = (28, 32, 48, 64, 96, 128, 160, 224, 299)  # few, so that features are used again
MOST_SIZES = 3  # a network's own and the next smaller ones, not below half of it


@dataclass(frozen=True)
class Network:
    """One candidate.

    Attributes:
        row: of the table of networks.
        alpha: its width; None for the only or usual one.
        sizes: image sizes to try, in pixels, the usual one last.
        from_scratch: whether it has no pretrained weights to start from.
    """

    row: Backbone
    alpha: float | None
    sizes: tuple[int, ...]
    from_scratch: bool

    @property
    def name(self) -> str:
        """As people call it: `mobilenet_v2 0.35`."""
        return self.row.name if self.alpha is None else f"{self.row.name} {self.alpha}"

    @property
    def parameters(self) -> int:
        """Weights without the head."""
        return self.row.variant(self.alpha).parameters


def networks_for(images: ImageSet, config: TrainConfig, usual: TrainConfig) -> tuple[Network, ...]:
    """The networks that suit the images, the usual one first.

    Args:
        images: inspected images with parts.
        config: the settings as given.
        usual: the same with what imgclf would decide.

    Raises:
        InputError: an unknown network, or settings that do not fit each other.
    """
    free = config.backbone == "auto" and config.weights in (None, "none", "imagenet")
    named = config.alpha is not None or config.truncate_at is not None  # they belong to one network
    row = backbones.get(usual.backbone)
    found: list[tuple[Backbone, float | None]] = []
    if not free or named:
        found = [(row, alpha) for alpha in _widths(row, usual, config)]
    elif row.has_weights and config.weights != "none":
        found = [(other, variant.alpha if len(other.variants) > 1 else None) for other, variant in _cached()]
        if not found and config.weights == "imagenet":
            found = [(row, None)]
    if not found:
        found = [(backbones.get(name), None) for name in FROM_SCRATCH]
    networks = [_network(images, config, other, alpha) for other, alpha in found]
    first = [network for network in networks if network.row == row and network.alpha in (None, 1.0)]
    return (*first, *(network for network in networks if network not in first))


def _cached() -> list[tuple[Backbone, Variant]]:
    """Pretrained networks whose weights are on this computer; the large ones only where there are no others."""
    folder = keras_home() / "models"
    found = [
        (row, variant)
        for row in pretrained.ROWS
        for variant in row.variants
        if (folder / row.weights_name(variant, row.default_size)).is_file()
    ]
    return [(row, variant) for row, variant in found if variant.parameters <= LARGEST] or found


def _widths(row: Backbone, usual: TrainConfig, config: TrainConfig) -> list[float | None]:
    """The widths of the network that the user has named: those that can be had."""
    if usual.alpha is not None or len(row.variants) == 1 or config.weights not in (None, "imagenet"):
        return [usual.alpha]
    return [variant.alpha for other, variant in _cached() if other == row] or [None]


def _network(images: ImageSet, config: TrainConfig, row: Backbone, alpha: float | None) -> Network:
    given = config if run_of(config.weights) else config.replace(backbone=row.builder or row.name, alpha=alpha)
    size = choose(images, given)[0].image_size or row.default_size
    fixed = config.image_size is not None or run_of(config.weights) is not None
    smaller = [other for other in SIZES if max(row.min_size, size / 2) <= other < size and not fixed]
    from_scratch = config.weights == "none" or (config.weights is None and not row.has_weights)
    return Network(row, alpha, (*smaller[len(smaller) - MOST_SIZES + 1 :], size) if smaller else (size,), from_scratch)
