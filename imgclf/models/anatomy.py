"""What a network is made of, layer by layer: shapes, parameters, multiply-adds, receptive field. May import Keras.

Receptive field and jump after Araujo 2019, "Computing receptive fields of convolutional neural networks" (Distill).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from imgclf.models.build import articulation_layers, input_tensors, output_tensor

Field = tuple[float, float]  # receptive field and jump (distance between neighbouring outputs), in pixels of the image

_WINDOWS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D")
_WHOLE = ("Flatten", "Dense", "GlobalAveragePooling2D", "GlobalMaxPooling2D")


@dataclass(frozen=True)
class LayerFacts:
    """One layer of a network.

    Attributes:
        name: of the layer.
        kind: its class in Keras.
        shape: of its output, without the batch.
        parameters: number of weights.
        multiply_adds: multiplications with additions for one image.
        receptive_field: side of the square of pixels that one output can see; infinite for the whole image.
        cut: whether every path goes through it, so that the network can be cut or truncated there.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: float
    cut: bool


def anatomy(model: Any) -> list[LayerFacts]:
    """The layers of a functional model in the order of computation; those of a model inside it take its place."""
    cuts = set(articulation_layers(model))
    found: list[LayerFacts] = []
    _walk(model, cuts, {}, (1.0, 1.0), found)
    return found


def summed(rows: list[LayerFacts]) -> list[LayerFacts]:
    """Only the layers where the network can be cut, each with the parameters and multiply-adds since the one before."""
    short: list[LayerFacts] = []
    parameters = multiply_adds = 0
    for row in rows:
        parameters, multiply_adds = parameters + row.parameters, multiply_adds + row.multiply_adds
        if row.cut:
            short.append(replace(row, parameters=parameters, multiply_adds=multiply_adds))
            parameters = multiply_adds = 0
    return short


def _walk(model: Any, cuts: set[str], fields: dict[int, Field], start: Field, found: list[LayerFacts]) -> Field:
    last = start
    for operation in model.operations:
        inputs = list(_tensors(operation)) if not isinstance(operation, keras.layers.InputLayer) else []
        coming = [fields[id(tensor)] for tensor in inputs if id(tensor) in fields] or [start]
        before: Field = (max(field for field, _ in coming), max(jump for _, jump in coming))
        if isinstance(operation, keras.Model):
            last = _walk(operation, set(), {}, before, found)
            fields[id(output_tensor(operation))] = last
            continue
        else:
            last = _field(operation, before)
            if isinstance(operation, keras.layers.Layer):
                shape = tuple(int(side) for side in operation.output.shape[1:])
                found.append(LayerFacts(operation.name, type(operation).__name__, shape, operation.count_params(),
                                        _multiply_adds(operation), last[0], operation.name in cuts))  # fmt: skip
        fields[id(operation.output)] = last
    return last


def _tensors(operation: Any) -> Iterator[Any]:
    yield from input_tensors(operation)


def _field(operation: Any, before: Field) -> Field:
    field, jump = before
    kind = type(operation).__name__
    if kind in _WHOLE:
        return float("inf"), jump
    if kind not in _WINDOWS:
        return before
    size = max(getattr(operation, "kernel_size", None) or operation.pool_size)
    dilation = max(getattr(operation, "dilation_rate", (1, 1)))
    return field + (size - 1) * dilation * jump, jump * max(operation.strides)


def _multiply_adds(layer: Any) -> int:
    """Of the layers that do the work; additions, activations and normalization are a few per cent of it."""
    kind = type(layer).__name__
    if kind not in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense"):
        return 0
    places = int(np.prod(layer.output.shape[1:-1])) if len(layer.output.shape) > 2 else 1
    kernels = [weight for weight in layer.weights if weight.name.endswith("kernel")]
    return sum(int(np.prod(kernel.shape)) for kernel in kernels) * places
