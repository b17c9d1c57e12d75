"""Runs a .tflite file with LiteRT, ours or anybody's. May import NumPy, ai-edge-litert and tflite_metadata, never
TensorFlow: `predict` depends on it.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.errors import InputError
from imgclf.models import tflite_metadata
from imgclf.models.tflite_file import is_model
from imgclf.noise import hushed

Array = NDArray[Any]

# Images computed at once. On 2 cores MobileNetV2 takes 6.4 ms an image by 4 and 8.5 ms by 32, which no longer fit in
# the processor's cache (docs/benchmarks.md).
CHUNK = 4

RUNS, SECONDS = 20, 1.0  # of one image, for the latency; whichever is over first


class LiteModel:
    """An image network as a .tflite file: float32, uint8 or int8 pixels in, one tensor out.

    How pixels become input is what the file says of itself: a float32 or int8 input is normalised by the mean and
    deviation of its metadata (none: the values 0..255 as they are), a uint8 input takes the pixels. That is how
    MediaPipe's ImageClassifier reads it too.

    Args:
        source: the file, or its bytes.
        name: how errors call it; the file's path by default.
        threads: CPU threads; all cores by default.
        pixels: whether the input must be an image; otherwise any `(N, height, width, channels)`.

    Raises:
        InputError: not a .tflite file, or not one with a single image input and a single output.
    """

    def __init__(
        self, source: Path | bytes, name: str = "", threads: int | None = None, *, pixels: bool = True
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.name = name or (str(source) if isinstance(source, Path) else "the converted network")
        content = source if isinstance(source, bytes) else _read(source)
        self.metadata = tflite_metadata.read(content) if is_model(content) else None
        try:
            with hushed():  # XNNPACK announces itself
                self._interpreter = Interpreter(model_content=content, num_threads=threads or os.cpu_count() or 1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else "unknown error"
            raise InputError(f"{self.name} is not a .tflite model that LiteRT can run ({reason})",
                             "expected a file made by `imgclf export`") from None  # fmt: skip
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shape = [int(side) for side in inputs[0]["shape_signature"]] if len(inputs) == 1 else []
        if len(shape) != 4 or (pixels and shape[3] not in (1, 3)) or min(shape[1:]) < 1 or len(outputs) != 1:
            raise InputError(f"{self.name} is not an image network ({_signature(inputs)} -> {_signature(outputs)})",
                             "expected one input (N, height, width, 3 or 1) and one output")  # fmt: skip
        self.input_shape: tuple[int, int, int] = (shape[1], shape[2], shape[3])
        shape = [int(side) for side in outputs[0]["shape_signature"]][1:]
        self._flat = len(shape) > 1 and max(shape) == int(np.prod(shape)) and pixels  # (N, 1, 1, C), as some have it
        self.output_shape = (max(shape),) if self._flat else tuple(shape)
        self.input_dtype = np.dtype(inputs[0]["dtype"])
        self.output_dtype = np.dtype(outputs[0]["dtype"])
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self._scale: tuple[float, int] = outputs[0]["quantization"]
        self._input_scale: tuple[float, int] = inputs[0]["quantization"]
        said = (set(self.metadata.mean), set(self.metadata.std)) if self.metadata is not None else (set(), set())
        self._normalised = bool(said[0]) and said != ({0.0}, {1.0})
        self._flexible = shape[0] == -1
        self._batch = int(inputs[0]["shape"][0])

    def run(self, images: Array) -> Array:
        """Compute a batch.

        Args:
            images: `(n, height, width, channels)`, values 0..255, any real dtype.

        Returns:
            float32 `(n, ...)`; quantized outputs are brought back to real values.
        """
        images = np.ascontiguousarray(self._as_input(images), dtype=self.input_dtype)
        size = self._batch_for(len(images))
        parts = [self._invoke(images[at : at + size]) for at in range(0, len(images), size)]
        outputs = np.concatenate(parts) if len(parts) != 1 else parts[0]
        if self.output_dtype != np.float32:
            factor, zero = self._scale
            outputs = (outputs.astype(np.float32) - zero) * factor
        return outputs.reshape(len(outputs), -1) if self._flat else outputs

    def fastest(self) -> float:
        """Milliseconds for one image: the fastest of some runs, which other programs disturb least."""
        image = np.random.default_rng(0).uniform(0, 255, (1, *self.input_shape)).astype(np.float32)
        self.run(image)
        times: list[float] = []
        while len(times) < RUNS and sum(times) < SECONDS:
            start = time.perf_counter()
            self.run(image)
            times.append(time.perf_counter() - start)
        return 1000 * min(times)

    def _as_input(self, images: Array) -> Array:
        """Pixels as the first operator wants them."""
        if self.input_dtype == np.uint8:
            return np.asarray(np.clip(np.rint(images), 0, 255))
        if self.metadata is not None and self._normalised:
            images = (np.asarray(images, np.float32) - self.metadata.mean) / self.metadata.std
        if self.input_dtype == np.int8:
            factor, zero = self._input_scale if self._normalised else (1.0, -128)
            images = np.clip(np.rint(np.asarray(images, np.float32) / (factor or 1.0) + zero), -128, 127)
        return images

    def _batch_for(self, count: int) -> int:
        """Make room for `count` images, CHUNK at most, where the file allows; it stays for a smaller rest."""
        count = min(count, CHUNK)
        if self._flexible and count > self._batch:
            self._interpreter.resize_tensor_input(self._input, (count, *self.input_shape))
            self._interpreter.allocate_tensors()
            self._batch = count
        return self._batch

    def _invoke(self, images: Array) -> Array:
        count = len(images)
        if count < self._batch:
            padding = np.zeros((self._batch - count, *images.shape[1:]), images.dtype)
            images = np.concatenate([images, padding])
        self._interpreter.set_tensor(self._input, images)
        self._interpreter.invoke()
        output: Array = self._interpreter.get_tensor(self._output)
        return output[:count]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})", "expected a .tflite file") from None


def _signature(details: list[dict[str, Any]]) -> str:
    shapes = ("x".join("?" if side < 0 else str(side) for side in d["shape_signature"]) for d in details)
    return ", ".join(shapes) or "nothing"
