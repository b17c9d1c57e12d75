"""Builds the Keras graph of a row of the table, and knows where it can be cut. May import Keras.

One flat functional graph from pixels 0..255 to the feature map, whatever the application expects: scaling is inside.
"""

import difflib
import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from imgclf.errors import InputError
from imgclf.models.cnns import NETWORKS
from imgclf.models.own import find_builder, own_network
from imgclf.models.row import Backbone, Scaling

IMAGE = "image"  # name of the input layer

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

# Factor and offset per channel, from pixels 0..255, RGB (BGR for "caffe"). EfficientNet: its application computes
# (x / 255 - mean) / sqrt(std) with the numbers in its weights file and divides by sqrt(std) once more only when built
# with weights="imagenet" (tensorflow issue 49930); the affine map below makes up for that division beforehand.
_SCALINGS: dict[str, tuple[float | list[float], float | list[float]]] = {
    "unit": (1 / 255, 0.0),
    "tf": (1 / 127.5, -1.0),
    "caffe": (1.0, [-103.939, -116.779, -123.68]),
    "torch": (
        [1 / (255 * std) for std in _IMAGENET_STD],
        [-mean / std for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)],
    ),
    "efficientnet": (
        [1 / math.sqrt(std) for std in _IMAGENET_STD],
        [255 * mean * (1 - 1 / math.sqrt(std)) for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)],
    ),
}


@dataclass(frozen=True)
class Cut:
    """Where the part of a backbone that trains begins.

    Attributes:
        layer: everything above this layer's output trains; None: everything trains, from the pixels.
        blocks: how many blocks of the table that is, counting a block begun as one; None: everything.
        setting: what `--unfreeze` was resolved to; giving it back gives the same cut.
    """

    layer: str | None
    blocks: int | None
    setting: str


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and standard deviation of the pixels of the training images, one number a channel, in 0..255."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def scaling(self) -> tuple[list[float], list[float]]:
        """Factor and offset that bring pixels to mean 0 and deviation 1; a channel that never varies is left alone."""
        factors = [1 / (deviation or 1.0) for deviation in self.deviation]
        return factors, [-mean * factor for mean, factor in zip(self.mean, factors, strict=True)]


def build_backbone(
    row: Backbone, alpha: float | None, image_size: tuple[int, int], channels: int = 3, *,
    norm: bool | None = None, scaling: Scaling | None = None, statistics: PixelStatistics | None = None,
    classes: int = 2,
) -> Any:  # fmt: skip
    """Build a backbone with random weights. Names of layers are the same every time.

    Args:
        row: of the table.
        alpha: width multiplier; None for the default.
        image_size: (height, width) in pixels; see `backbones.check_size`.
        channels: 3 for RGB, or 1: grey is repeated into the three channels that pretrained weights expect; the networks
            of `cnns.py` read one channel.
        norm: with or without BatchNorm, for the networks of `cnns.py`; None is the row's own.
        scaling: of the pixels, for the networks of `cnns.py`; None is the row's own.
        classes: how many there will be, which a builder of the user's own is told.
        statistics: of the training images, where the scaling is "data"; without, 0..255 is taken as evenly spread.

    Returns:
        `keras.Model`: input `image`, float32 `(N, H, W, channels)`, values 0..255, RGB; output the feature map,
        float32 `(N, h, w, F)`, or a vector of features `(N, F)`.

    Raises:
        InputError: the backbone has no such width.
    """
    width = row.variant(alpha).alpha
    image = keras.Input((*image_size, channels), name=IMAGE)
    if row.builder is not None:
        builder = find_builder(row.builder) if isinstance(row.builder, str) else row.builder
        return own_network(builder, image, classes)
    if not row.application:
        even = PixelStatistics((127.5,) * channels, (73.6,) * channels)  # 255 / sqrt(12)
        factors = (
            (statistics or even).scaling if (scaling or row.scaling) == "data" else _SCALINGS[scaling or row.scaling]
        )
        x = keras.layers.Rescaling(*factors, name="scale")(image)
        features = NETWORKS[row.name](x, row.norm if norm is None else norm)
        model = keras.Model(image, features, name=row.name)
        _rename(model, row.name)
        return model
    options: dict[str, Any] = {"alpha": width} if len(row.variants) > 1 else {}
    model = getattr(keras.applications, row.application)(
        include_top=False, weights=None, input_tensor=_scaled(row, image), **options
    )
    if any(isinstance(layer, keras.Model) for layer in model.layers):
        model = keras.models.clone_model(model, call_function=_inlined)
    model = keras.Model(model.inputs[0], model.outputs[0], name=row.name)  # the application's has a list of one input
    _rename(model, row.name)
    if row.scaling == "efficientnet":
        _set_normalization(model)
    return model


def truncate(row: Backbone, model: Any, layer: str) -> tuple[Backbone, Any]:
    """End a backbone at an inner layer.

    Args:
        row: the backbone's row.
        model: the backbone.
        layer: name of the layer that gives the features from now on.

    Returns:
        The row with the blocks that are left, and the shorter model.

    Raises:
        InputError: no such layer, or one that gives no features.
    """
    names = [found.name for found in model.layers if not isinstance(found, keras.Model)]
    if layer not in names:
        near = difflib.get_close_matches(layer, names, n=1)
        raise InputError(f"{row.name} has no layer {layer!r}", f"{f'did you mean {near[0]}? ' if near else ''}"
                         f"`imgclf backbones show {row.name}` lists those that make sense (--truncate-at)")  # fmt: skip
    output = model.get_layer(layer).output
    if len(output.shape) not in (2, 4) or layer == IMAGE:
        raise InputError(f"layer {layer} of {row.name} gives no features", "choose a later one (--truncate-at)")
    shorter = keras.Model(model.inputs[0], output, name=model.name)
    return remaining(row, shorter), shorter


def remaining(row: Backbone, model: Any) -> Backbone:
    """A row with the blocks that a shortened backbone still has; the same layers stay frozen by default."""
    kept = {layer.name for layer in model.layers}
    last = model.outputs[0]._keras_history.operation.name
    cuts = tuple(cut for cut in row.cuts if cut in kept and cut != last)
    left = len(cuts) - (len(row.cuts) - row.default_unfreeze)
    return replace(row, cuts=cuts, default_unfreeze=min(max(1, left), len(cuts)))


def articulation_layers(model: Any) -> list[str]:
    """Layers at whose output a network can be cut: every path from input to output goes through each.

    In topological order that is where nothing but the layer's own output is still to be read.

    Args:
        model: functional, with one input and one output, each layer called once.

    Returns:
        Names of layers from the top downwards; the first gives the model's output, the last is the input layer.
    """
    inputs = {id(operation): input_tensors(operation) for operation in model.operations}
    to_read = Counter(id(tensor) for tensors in inputs.values() for tensor in tensors)
    layers = {id(layer) for layer in model.layers}
    open_tensors: set[int] = set()
    found = []
    for operation in model.operations:
        for tensor in inputs[id(operation)]:
            to_read[id(tensor)] -= 1
            if not to_read[id(tensor)]:
                open_tensors.discard(id(tensor))
        open_tensors.add(id(output_tensor(operation)))
        if len(open_tensors) == 1 and id(operation) in layers and not isinstance(operation, keras.Model):
            found.append(operation.name)
    return found[::-1]


def cut_layer(row: Backbone, value: str, model: Any) -> Cut:
    """Resolve `--unfreeze`.

    Args:
        row: the backbone's row.
        value: "auto", "all", a number of blocks ("0" trains nothing of the backbone), or the name of a layer, which
            itself stays frozen.
        model: the backbone as `build_backbone` gives it.

    Raises:
        InputError: a number beyond the backbone's blocks, or no layer that the network can be cut at.
    """
    if value == "auto":
        value = str(row.default_unfreeze) if row.cuts else "all"
    if value == "all":
        return Cut(None, None, value)
    places = articulation_layers(model)
    if re.fullmatch(r"\d+", value):
        number = int(value)
        if number > len(row.cuts):
            raise InputError(
                f"{row.name} has {len(row.cuts)} blocks to unfreeze, not {number}",
                f"expected 0 to {len(row.cuts)}, all or auto (--unfreeze)",
            )
        return Cut(places[0] if number == 0 else row.cuts[number - 1], number, str(number))
    if value in places[:-1]:
        above = places.index(value)
        blocks = sum(places.index(cut) < above for cut in row.cuts) + (above > 0)
        return Cut(value, blocks, value)
    raise InputError(
        f"{row.name} cannot be cut at {value!r}",
        f"expected a number from 0 to {len(row.cuts)}, all, auto, or a layer that every path goes through, "
        f"such as {row.cuts[row.default_unfreeze - 1] if row.cuts else places[0]} (--unfreeze)",
    )


def freeze_batchnorm(model: Any) -> int:
    """Hold every BatchNormalization layer still, weights and statistics, and return how many there are.

    `training=False` at the call does not do it: `fit` overrides the recorded flag (Keras up to 3.15.1, keras PR 23364).
    """
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        layer.trainable = False
    return len(layers)


def snake_case(name: str) -> str:
    """`MaxPooling2D` to `max_pooling2d`, as Keras names layers."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _scaled(row: Backbone, image: Any) -> Any:
    """Pixels as the first layer of the application wants them."""
    x = image
    if image.shape[-1] == 1:
        x = keras.layers.Concatenate(name="grey_to_rgb")([x, x, x])
    if row.scaling == "inside":
        return x
    if row.scaling == "caffe":
        x = keras.ops.flip(x, axis=-1)  # RGB to BGR; an operation, not a Lambda, so the saved file holds no code
    scale, offset = _SCALINGS[row.scaling]
    return keras.layers.Rescaling(scale, offset, name="scale")(x)


def _inlined(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a layer; a Sequential (ConvNeXt has four) layer by layer, which leaves no model inside the model."""
    if not isinstance(layer, keras.Sequential):
        return layer(*args, **kwargs)
    (x,) = args
    for inner in layer.layers:
        x = type(inner).from_config(inner.get_config())(x)  # a new one: this one's first call was in the Sequential
    return x


def _rename(model: Any, prefix: str) -> None:
    """Give layers that Keras numbers by counting all layers of the process (`add_17`) names that never change.

    The prefix keeps them apart from layers that others add to the graph with automatic names.
    """
    counts: Counter[str] = Counter()
    for operation in model.operations:
        kind = snake_case(type(operation).__name__)
        if re.fullmatch(rf"{kind}(_\d+)?", operation.name):
            number = counts[kind]
            counts[kind] += 1
            operation.name = f"{prefix}_{kind}" + (f"_{number}" if number else "")


def _set_normalization(model: Any) -> None:
    """Give EfficientNet's Normalization layer the numbers of its weights file, for training without that file."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.set_weights([np.array(_IMAGENET_MEAN), np.array(_IMAGENET_STD), np.array(0)])
            layer.finalize_state()


def output_tensor(operation: Any) -> Any:
    """What an operation gives in this graph; a model within it knows only the tensors of its own."""
    if isinstance(operation, keras.Model):
        return operation._inbound_nodes[-1].output_tensors[0]
    return operation.output


def input_tensors(operation: Any) -> list[Any]:
    """What an operation takes in this graph."""
    if isinstance(operation, keras.layers.InputLayer):
        return []
    if isinstance(operation, keras.Model):
        return list(operation._inbound_nodes[-1].input_tensors)
    inputs = operation.input
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
