""".tflite files of 8 bits. May import LiteRT's quantizer, NumPy and models/; no TensorFlow.

Made from the float32 file, not from the Keras model. Observed over some training images, its weights are put onto the
grid of 8 bits (rounding.py), then `litert-quantizer` (once ai-edge-quantizer), which LiteRT names as the successor of
the quantization in TensorFlow's converter, writes the file. Measured against that: docs/benchmarks.md, "Eight bits".
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.evaluation.paired import paired
from imgclf.export.layers import FloatModel, Moments, observe
from imgclf.export.rounding import round_rows
from imgclf.models.litert import LiteModel
from imgclf.models.tflite_file import pack, unpack
from imgclf.noise import hushed

Pixels = NDArray[Any]

LARGEST = 1280  # weights of an output that are rounded one after the other; what that costs grows by their cube
FLOAT_SHARES = (0.1, 0.25, 0.5)  # of the operators, those that eight bits hurt most, tried until it is good enough
PIXELS = (0.0, 255.0)
# Operators of the layers that read the features, in a model with a gate for unknown images (models/gate.py).
BEHIND_FEATURES = re.compile(r"/(direction|prototypes|scores)(_\d+)?/")
DEQUANTIZE_VERSION = 2  # of the operator: the first that knows int8; uint8 it always knew


@dataclass(frozen=True)
class Attempt:
    """One way of quantizing, and what it cost on the validation images.

    Attributes:
        recipe: for people.
        drop: by how much the accuracy fell, 0..1, negative where it rose; None where there was nothing to measure on.
        agreement: share of the images with the same top class as the float file; None likewise.
    """

    recipe: str
    drop: float | None = None
    agreement: float | None = None

    def __str__(self) -> str:
        if self.drop is None:
            return self.recipe
        change = (
            f"{abs(self.drop) * 100:.1f} points {'lost' if self.drop > 0 else 'gained'}" if self.drop else "no loss"
        )
        return f"{self.recipe}: {change}, same answer on {self.agreement:.1%}"


@dataclass(frozen=True)
class Quantized:
    """An integer file.

    Attributes:
        content: the file.
        attempts: what was tried, in turn.
        taken: the one that the file is of.
    """

    content: bytes
    attempts: tuple[Attempt, ...]
    taken: Attempt


class Judge:
    """Says what a file costs on images that nothing was made with.

    Args:
        content: the float32 file.
        pixels: `(n, height, width, channels)`, 0..255.
        labels: class indices `(n,)`.
    """

    def __init__(self, content: bytes, pixels: Pixels, labels: Sequence[int]) -> None:
        self.pixels, self.labels = pixels, np.asarray(labels)
        self.expected = LiteModel(content).run(pixels).argmax(axis=1)

    def __call__(self, recipe: str, content: bytes) -> Attempt:
        """What is lost."""
        scores = LiteModel(content).run(self.pixels)
        found = np.where(np.isfinite(scores).all(axis=1), scores.argmax(axis=1), -1)  # what is no number is wrong
        change = paired(self.expected == self.labels, found == self.labels)
        return Attempt(recipe, change.drop, float((found == self.expected).mean()))


class Quantizer:
    """Makes the 8-bit files of a float32 one.

    Args:
        content: the float32 file.
        images: to observe it on, each `(height, width, channels)`, 0..255.
        more: gives more of them, where the first recipe is not good enough.
    """

    def __init__(self, content: bytes, images: Sequence[Pixels], more: Callable[[], Sequence[Pixels]]) -> None:
        self.model, self._images, self._more = FloatModel(content), images, more
        self._seen: dict[bool, Moments] = {}

    def make(self, kind: str, judge: Judge | None, max_drop: float) -> Quantized:
        """A file by the first recipe that loses no more than it may; of the one that loses least, if all lose more.

        Args:
            kind: "int8" or "dynamic".
            judge: what the loss is measured by; None takes the first recipe.
            max_drop: largest loss of accuracy, 0..1.
        """
        tried: list[tuple[bytes, Attempt]] = []

        def good(recipe: str, more: bool, kept: Sequence[str]) -> bool:
            content = _WRITERS[kind](self.model, self._observed(more), kept)
            tried.append((content, judge(recipe, content) if judge is not None else Attempt(recipe)))
            drop = tried[-1][1].drop
            return drop is None or drop <= max_drop

        done = good("every layer in 8 bits", False, ()) or good("more images to calibrate on", True, ())
        order = [] if done else _sensitive(self.model, self._observed(True))
        for share in FLOAT_SHARES:
            if done or not order:
                break
            kept = order[: max(1, round(share * len(order)))]
            done = good(f"{len(kept)} of {len(order)} operators left in float", True, kept)
        content, taken = tried[-1] if done else min(tried, key=lambda item: item[1].drop or 0.0)
        return Quantized(content, tuple(attempt for _, attempt in tried), taken)

    def _observed(self, more: bool) -> Moments:
        if more not in self._seen:
            images = [*self._images, *self._more()] if more else self._images
            self._seen[more] = observe(self.model, images, LARGEST)
        return self._seen[more]


def _dynamic(model: FloatModel, seen: Moments, kept: Sequence[str]) -> bytes:
    """Weights in 8 bits; what is computed is quantized image by image, where that is faster."""
    from litert_quantizer import recipe

    return _written(_rounded(model, seen, set(kept)), recipe.dynamic_wi8_afp32(), kept, None)


def _int8(model: FloatModel, seen: Moments, kept: Sequence[str]) -> bytes:
    """Everything in 8 bits up to the scores, with some operators (names of their outputs) left in float."""
    from litert_quantizer import recipe

    content = _rounded(model, seen, set(kept))
    ranges = {**seen.ranges, model.input_name: PIXELS}  # steps of one: pixels stay what they are
    return _uint8_input(_written(content, recipe.static_wi8_ai8(), [*kept, *_after_the_last_layer(model)], ranges))


_WRITERS = {"int8": _int8, "dynamic": _dynamic}


def _rounded(model: FloatModel, seen: Moments, kept: set[str]) -> bytes:
    """The float file with its weights on the grid of eight bits, and biases that make up for it."""
    replaced: dict[int, NDArray[np.float32]] = {}
    for layer, mean, second in zip(model.layers, seen.first, seen.second, strict=True):
        if layer.name in kept or layer.weights in replaced:
            continue
        rows = layer.rows(model.read(layer.weights).reshape(layer.shape).astype(np.float64))
        rounded, moved = round_rows(rows, mean, second if layer.bias is not None else None)
        replaced[layer.weights] = layer.from_rows(rounded)
        if layer.bias is not None and layer.bias not in replaced:
            replaced[layer.bias] = (model.read(layer.bias) - moved).astype(np.float32)
    return model.with_buffers(replaced)


def _written(
    content: bytes, how: Any, kept: Sequence[str], ranges: dict[str, tuple[float, float]] | None
) -> bytes:  # fmt: skip
    """What LiteRT's quantizer makes of a float file; its input and output stay float."""
    from litert_quantizer import quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import TFLOperationName

    logging.getLogger().setLevel(logging.ERROR)  # it tells of every tensor
    made = quantizer.Quantizer(content, how)
    float_scopes = [(f"^{re.escape(scope)};?$", TFLOperationName.ALL_SUPPORTED) for scope in kept]
    if ranges is not None:
        float_scopes += [(".*", TFLOperationName.INPUT), (".*", TFLOperationName.OUTPUT)]
    for scope, operation in float_scopes:
        made.update_quantization_recipe(scope, operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
    seen = {name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
            for name, (low, high) in (ranges or {}).items()}  # fmt: skip
    with hushed():
        result = made.quantize(seen or None, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _after_the_last_layer(model: FloatModel) -> list[str]:
    """Softmax and the like: probabilities in steps of 1/256 would tie, and cost more than they save."""
    names, layers = [name for _, name in model.operators], model.layers
    behind = [at for at, name in enumerate(names) if BEHIND_FEATURES.search(name)]
    if any("/gate" in name for name in names) and behind:  # a few numbers, whose differences open and shut it
        return names[behind[0] :]
    return names[names.index(layers[-1].name) + 1 :] if layers else names


def _sensitive(model: FloatModel, seen: Moments) -> list[str]:
    """Operators by what eight bits cost them, worst first: the width of their output's steps against what varies."""

    def noise(name: str) -> float:
        low, high = seen.ranges.get(name, (0.0, 0.0))
        return ((high - low) / 255) ** 2 / 12 / max(seen.variances.get(name, 0.0), 1e-12)

    after = set(_after_the_last_layer(model))
    return sorted((name for _, name in model.operators if name not in after), key=noise, reverse=True)


def _uint8_input(content: bytes) -> bytes:
    """Let the input be uint8 pixels: the operator that quantizes floats takes them as well.

    Where the first operator was left in float, an operator that makes floats of pixels is put before it.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    graph = model.subgraphs[0]
    first = graph.inputs[0]
    readers = [op for op in graph.operators if first in op.inputs]
    if any(_code(model, op) != schema.BuiltinOperator.QUANTIZE for op in readers):
        source = graph.tensors[first]
        inner = schema.TensorT()
        inner.name, inner.type, inner.shape = b"pixels_in_float", source.type, source.shape
        inner.shapeSignature, inner.hasRank = source.shapeSignature, source.hasRank
        graph.tensors.append(inner)
        for op in readers:
            op.inputs = [len(graph.tensors) - 1 if index == first else index for index in op.inputs]
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
        code.version = DEQUANTIZE_VERSION
        model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, [first], [len(graph.tensors) - 1]
        graph.operators.insert(0, made)
    graph.tensors[first].type = schema.TensorType.UINT8
    graph.tensors[first].quantization = schema.QuantizationParametersT()
    graph.tensors[first].quantization.scale = [(PIXELS[1] - PIXELS[0]) / 255]
    graph.tensors[first].quantization.zeroPoint = [0]
    return pack(model)


def _code(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))
