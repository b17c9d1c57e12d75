"""What the images themselves decide: network, size, colour, mirroring. Imports no TensorFlow.

A photo is shrunk to the network; a digit of 28 pixels is not blown up to 224.
"""

from statistics import median

from imgclf import runs
from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.errors import InputError
from imgclf.models import backbones
from imgclf.models.cached import run_of
from imgclf.models.row import Backbone
from imgclf.progress import plural

SMALL = 64  # pixels: up to here an image holds too little for a network that was trained on photos of 224
SIZES = (28, 32, 48, 64, 96, 128, 160, 192, 224)  # of images that are not all of one size

INHERITED = ("backbone", "alpha", "image_size", "color", "batch_norm", "normalization", "truncate_at")


def choose(images: ImageSet, config: TrainConfig) -> tuple[TrainConfig, tuple[str, ...]]:
    """Fill in the settings that depend on the images.

    Args:
        images: inspected images with parts.
        config: the settings as given.

    Returns:
        The settings with backbone, image size, colour and mirroring decided, and a line for each surprise.
    """
    config = _inherit(config)
    usable = images.usable
    sides = sorted(min(image.width, image.height) for image in usable)
    small = median(sides) <= SMALL
    notes = []
    grey = all(image.grey for image in usable)
    if config.head == "binary" and len(images.classes) != 2:
        raise InputError(f"--head binary is for two classes, the images have {len(images.classes)}", "use --head auto")
    if config.backbone == "auto":
        small_one = backbones.SMALL_GREY_DEFAULT if grey else backbones.SMALL_DEFAULT
        # who names weights, a width or a layer means the network that has them
        default = TrainConfig()
        free = config.weights in (None, "none") and all(
            getattr(config, name) == getattr(default, name) for name in ("alpha", "truncate_at", "unfreeze")
        )
        config = config.replace(backbone=small_one if small and free else backbones.DEFAULT)
        if small and free:
            notes.append(f"the images have {_shape(usable)} pixels: {config.backbone} learns them from scratch")
    row = backbones.get(config.backbone)
    if config.image_size is None:
        config = config.replace(image_size=_size(row, config, usable, sides))
    if config.color == "auto":
        config = config.replace(color="grayscale" if grey else "rgb")
        if grey:
            notes.append(f"all {plural(len(usable), 'image')} are grey: the model reads one channel")
    if config.flip is None:
        config = config.replace(flip=not (grey and small))
        if grey and small:
            notes.append("not mirrored in training, as letters and digits must not be (--flip mirrors)")
    return config, tuple(notes)


def _size(row: Backbone, config: TrainConfig, usable: tuple[ImageFile, ...], sides: list[int]) -> int:
    """The row's own size for pretrained weights; otherwise not above what the images have."""
    pretrained = row.has_weights and config.weights != "none"
    if pretrained or (config.weights is not None and config.weights != "none"):
        return row.default_size
    if len({(image.width, image.height) for image in usable}) == 1 and sides[0] <= row.default_size:
        return max(sides[0], row.min_size)
    fitting = [size for size in SIZES if size <= median(sides)]
    return max(row.min_size, min(row.default_size, fitting[-1] if fitting else SIZES[0]))


def _shape(usable: tuple[ImageFile, ...]) -> str:
    shapes = {(image.width, image.height) for image in usable}
    width, height = max(shapes)
    return f"{width} x {height}" if len(shapes) == 1 else f"up to {width} x {height}"


def _inherit(config: TrainConfig) -> TrainConfig:
    """The network of the run that `--weights` names.

    Raises:
        InputError: a setting of the network is given and is not the run's.
    """
    root = run_of(config.weights)
    if root is None:
        return config
    stored = runs.read_json(root / runs.CONFIG)
    settings = {**stored["settings"], **stored.get("decided", {})}
    default = TrainConfig()
    taken = {name: settings[name] for name in INHERITED if name in settings}
    for name, value in taken.items():
        given = getattr(config, name)
        if given == getattr(default, name) or config.to_json()[name] == value:
            continue
        if name != "image_size":  # most networks take images of any size
            raise InputError(f"the run {root} has {name.replace('_', ' ')} {value}, which --weights brings with it",
                             f"leave --{name.replace('_', '-')} out")  # fmt: skip
        taken[name] = given
    return config.replace(**taken)
