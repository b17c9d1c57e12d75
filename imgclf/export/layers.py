"""The layers with weights of a float .tflite file, and what comes into them. May import NumPy, LiteRT and models/.

A converted network has BatchNorm folded into its convolutions, so what is read and changed here is what the phone
computes with.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.models.tflite_file import pack, unpack
from imgclf.noise import hushed

Floats = NDArray[np.floating[Any]]

POSITIONS = 64  # of a map, drawn for each image: neighbours say nearly the same
SAME = 0  # schema.Padding
CONSTANT = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # operators whose second input are the weights


@dataclass(frozen=True)
class Layer:
    """An operator with constant float weights.

    Attributes:
        kind: "CONV_2D", "DEPTHWISE_CONV_2D" or "FULLY_CONNECTED".
        name: of its output tensor, which is what the quantizer knows it by.
        source: index of the tensor that comes in.
        weights: index of the buffer of its weights.
        bias: index of the buffer of its bias; None where it has none.
        shape: of the weights.
        stride: (down, across); (1, 1) where it has none.
        same: whether the input is padded with zeros.
    """

    kind: str
    name: str
    source: int
    weights: int
    bias: int | None
    shape: tuple[int, ...]
    stride: tuple[int, int]
    same: bool

    @property
    def depthwise(self) -> bool:
        """Whether every channel has weights of its own for its own input only."""
        return self.kind == "DEPTHWISE_CONV_2D"

    def rows(self, weights: Floats) -> Floats:
        """Weights as a matrix: one row for each output channel, in the order of `patches`."""
        if self.depthwise:
            return np.asarray(weights.reshape(-1, self.shape[3]).T)
        return np.asarray(weights.reshape(self.shape[0], -1))

    def from_rows(self, rows: Floats) -> NDArray[np.float32]:
        """The inverse of `rows`."""
        held = rows.T if self.depthwise else rows
        return np.ascontiguousarray(held.reshape(self.shape), np.float32)

    def patches(self, image: Floats, draw: np.random.Generator) -> NDArray[np.float32]:
        """What the weights are multiplied with, at POSITIONS places of a map.

        Args:
            image: `(1, height, width, channels)`, or `(1, features)`.
            draw: of the places.

        Returns:
            `(places, K)` for rows of K weights; `(places, K, channels)` where it is depthwise.
        """
        if self.kind == "FULLY_CONNECTED":
            return np.asarray(image, np.float32).reshape(-1, self.shape[1])
        height, width = self.shape[1:3]
        (down, across), field = self.stride, image[0]
        rows, columns = field.shape[:2]
        if self.same:
            tall, wide = -(-rows // down), -(-columns // across)
            above, left = ((max((count - 1) * step + size - side, 0)) for count, step, size, side in (
                (tall, down, height, rows), (wide, across, width, columns)))  # fmt: skip
            field = np.pad(field, ((above // 2, above - above // 2), (left // 2, left - left // 2), (0, 0)))
        else:
            tall, wide = (rows - height) // down + 1, (columns - width) // across + 1
        place = np.arange(tall * wide) if tall * wide <= POSITIONS else draw.integers(0, tall * wide, POSITIONS)
        y, x = place // wide * down, place % wide * across
        parts = np.stack([field[y + i, x + j] for i in range(height) for j in range(width)], axis=1)
        return parts if self.depthwise else parts.reshape(len(parts), -1)


class FloatModel:
    """A float .tflite file whose weights can be read and replaced.

    Args:
        content: the file.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.content = content
        self._model = unpack(content)
        self._names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}

    @property
    def input_name(self) -> str:
        """The name of the input tensor."""
        graph = self._model.subgraphs[0]
        return str(graph.tensors[graph.inputs[0]].name.decode())

    @property
    def operators(self) -> list[tuple[str, str]]:
        """Every operator in the order of computing: what it is, and the name of its first output."""
        graph = self._model.subgraphs[0]
        return [(self._kind(op), str(graph.tensors[op.outputs[0]].name.decode())) for op in graph.operators]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The operators with constant float weights, in the order of computing; without dilated and grouped ones."""
        return tuple(self._layers())

    def _kind(self, operator: Any) -> str:
        code = self._model.operatorCodes[operator.opcodeIndex]
        return str(self._names[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def _layers(self) -> Iterator[Layer]:
        graph = self._model.subgraphs[0]
        for op in graph.operators:
            kind = self._kind(op)
            if kind not in CONSTANT:
                continue
            source, held = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
            shape = tuple(int(side) for side in held.shape)
            data = self._model.buffers[held.buffer].data
            options = op.builtinOptions
            dilated = max(getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1)) > 1
            grouped = kind == "CONV_2D" and int(source.shape[-1]) != shape[3]
            multiplied = kind == "DEPTHWISE_CONV_2D" and int(source.shape[-1]) != shape[3]
            if data is None or len(data) != 4 * int(np.prod(shape)) or dilated or grouped or multiplied:
                continue
            bias = None
            if len(op.inputs) > 2 and op.inputs[2] >= 0:
                buffer = graph.tensors[op.inputs[2]].buffer
                bias = buffer if self._model.buffers[buffer].data is not None else None
            yield Layer(
                kind, graph.tensors[op.outputs[0]].name.decode(), int(op.inputs[0]), held.buffer, bias, shape,
                (int(getattr(options, "strideH", 1)), int(getattr(options, "strideW", 1))),
                getattr(options, "padding", SAME) == SAME,
            )  # fmt: skip

    def read(self, buffer: int) -> NDArray[np.float32]:
        """The numbers of a buffer, flat."""
        return np.frombuffer(bytes(self._model.buffers[buffer].data), np.float32)

    def with_buffers(self, replaced: dict[int, NDArray[np.float32]]) -> bytes:
        """The file with other numbers in some buffers."""
        changed = unpack(self.content)
        for buffer, values in replaced.items():
            data = np.ascontiguousarray(values, np.float32)
            changed.buffers[buffer].data = np.frombuffer(data.tobytes(), np.uint8)
        return pack(changed)


@dataclass(frozen=True)
class Moments:
    """What came into the layers of a network over some images, and the range of every tensor.

    Attributes:
        first: for each layer the mean of its patches: `(K,)`, depthwise `(channels, K)`.
        second: for each layer the mean of their outer products `(K, K)`, depthwise `(channels, K, K)`; None where K is
            too large to be worth it.
        ranges: name of a float tensor that is computed -> (smallest, largest) value.
        variances: the same -> variance of its values.
    """

    first: tuple[Floats, ...]
    second: tuple[Floats | None, ...]
    ranges: dict[str, tuple[float, float]]
    variances: dict[str, float]


BLOCK = 16  # images whose patches are multiplied at once


def observe(model: FloatModel, images: Iterable[NDArray[Any]], largest: int, seed: int = 0) -> Moments:
    """Run a network over images and look at every tensor.

    Args:
        model: the network.
        images: each `(height, width, channels)`, 0..255.
        largest: number of weights of an output up to which second moments are gathered.
        seed: of the places in the maps.
    """
    from ai_edge_litert.interpreter import Interpreter

    with hushed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keeping every tensor takes memory
        interpreter = Interpreter(
            model_content=model.content, experimental_preserve_all_tensors=True, num_threads=os.cpu_count() or 1
        )
        source = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(source["index"], (1, *source["shape"][1:]))
        interpreter.allocate_tensors()
    draw = np.random.default_rng(seed)
    layers = model.layers
    computed = {int(source["index"])} | {int(index) for op in interpreter._get_ops_details() for index in op["outputs"]}
    tensors = {item["index"]: item["name"] for item in interpreter.get_tensor_details()
               if item["index"] in computed and item["dtype"] == np.float32}  # fmt: skip
    spread = {name: _Spread() for name in tensors.values()}
    sums = [_Sums(layer, largest) for layer in layers]
    for number, image in enumerate(images, 1):
        interpreter.set_tensor(source["index"], np.asarray(image, np.float32)[None])
        interpreter.invoke()
        for index, name in tensors.items():
            spread[name].add(interpreter.get_tensor(index))
        for held in sums:
            held.add(held.layer.patches(interpreter.get_tensor(held.layer.source), draw))
        if number % BLOCK == 0:
            for held in sums:
                held.gather()
    found = [held.moments() for held in sums]
    return Moments(
        tuple(first for first, _ in found), tuple(second for _, second in found),
        {name: (item.low, item.high) for name, item in spread.items()},
        {name: item.variance for name, item in spread.items()},
    )  # fmt: skip


class _Spread:
    """The range and variance of what a tensor held."""

    def __init__(self) -> None:
        self.low, self.high, self.count, self.sum, self.squares = np.inf, -np.inf, 0, 0.0, 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        flat = values.ravel()
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self.count, self.sum = self.count + flat.size, self.sum + float(flat.sum(dtype=np.float64))
        self.squares += float(np.dot(flat, flat))

    @property
    def variance(self) -> float:
        return max(0.0, self.squares / self.count - (self.sum / self.count) ** 2)


class _Sums:
    """Sums over the patches of a layer, gathered in blocks."""

    def __init__(self, layer: Layer, largest: int) -> None:
        self.layer, self.count = layer, 0
        size = (
            layer.shape[1] * layer.shape[2] * (1 if layer.depthwise else layer.shape[3]) if len(layer.shape) == 4 else 0
        )
        self.wide = size == 0 or size > largest
        self.first: Any = 0.0
        self.second: Any = 0.0
        self.waiting: list[NDArray[np.float32]] = []

    def add(self, patches: NDArray[np.float32]) -> None:
        self.waiting.append(patches)

    def gather(self) -> None:
        if not self.waiting:
            return
        block = np.concatenate(self.waiting)
        self.waiting, self.count = [], self.count + len(block)
        if self.layer.depthwise:
            block = block.transpose(2, 0, 1)  # (channels, places, K)
        self.first = self.first + block.sum(axis=-2, dtype=np.float64)
        if not self.wide:
            self.second = self.second + np.matmul(np.swapaxes(block, -1, -2), block).astype(np.float64)

    def moments(self) -> tuple[Floats, Floats | None]:
        self.gather()
        return self.first / self.count, None if self.wide else self.second / self.count
