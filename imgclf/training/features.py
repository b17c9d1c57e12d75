"""The part below the cut: frozen, so computed once per image and view. May import TensorFlow.

The cut (docs/design.md, section 4) splits the network: below it everything is frozen, above it everything trains.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgclf.models.convert import to_tflite
from imgclf.models.litert import LiteModel
from imgclf.progress import Bar, warn

Array = NDArray[np.float32]

TRIAL_IMAGES = 8
# Largest difference between LiteRT and Keras, as a share of the largest activation, that counts as the same network.
# Measured: 1e-6 to 2e-5 for the backbones of the table; a wrong conversion is off by 1 or is NaN.
SAME_NETWORK = 1e-3


@dataclass(frozen=True)
class Below:
    """The frozen part of a network on the fastest engine for it.

    Attributes:
        engine: "LiteRT" or "Keras".
        model: the Keras model, image `(N, H, W, channels)` to activations `(N, ...)`.
        lite: the same in LiteRT, where that is the engine.
    """

    engine: str
    model: Any
    lite: LiteModel | None

    def __call__(self, images: Array) -> Array:
        """Activations of a batch: float32 `(n, H, W, channels)`, values 0..255, to float32 `(n, ...)`."""
        if self.lite is not None:
            return self.lite.run(images)
        outputs: Array = np.asarray(self.model.predict_on_batch(images))
        return outputs

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image's activations."""
        return tuple(self.model.output_shape[1:])

    def map(self, dataset: Any) -> Any:
        """A `tf.data.Dataset` of image batches as one of activation batches, computed while the consumer trains."""

        def compute(images: Any, labels: Any) -> tuple[Any, Any]:
            # stateless: otherwise determinism makes tf.data compute it only when the training asks for it
            activations = tf.numpy_function(self.__call__, [images], tf.float32, stateful=False)
            return tf.ensure_shape(activations, (None, *self.shape)), labels

        return dataset.map(compute, num_parallel_calls=1, deterministic=True).prefetch(2)


def below(model: Any) -> Below:
    """Choose the engine for a frozen part: LiteRT on a CPU where a measurement on one batch says it is faster.

    The converted network is compared with Keras on the same batch before it is used.
    """
    if tf.config.list_physical_devices("GPU"):
        return Below("Keras", model, None)
    images = np.random.default_rng(0).uniform(0, 255, (TRIAL_IMAGES, *model.input_shape[1:])).astype(np.float32)
    try:
        lite = LiteModel(to_tflite(model))
        ours = lite.run(images)
    except Exception as error:  # the converter raises what it likes; Keras can always do the work
        warn(f"LiteRT cannot run this network ({str(error).splitlines()[0]}); Keras does, more slowly")
        return Below("Keras", model, None)
    reference = np.asarray(model(images, training=False))
    scale = float(np.abs(reference).max()) or 1.0
    difference = float(np.abs(ours - reference).max())
    if not difference <= SAME_NETWORK * scale:  # also true for NaN
        warn(f"LiteRT computes other activations than Keras (off by {difference:.2g}); Keras does the work")
        return Below("Keras", model, None)
    faster = _seconds(lambda: lite.run(images)) < _seconds(lambda: model.predict_on_batch(images))
    return Below("LiteRT", model, lite) if faster else Below("Keras", model, None)


def _seconds(work: Any) -> float:
    """The shorter of two timed runs after one that warms up."""
    work()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def compute(part: Below, dataset: Any, count: int, bar: Bar) -> tuple[Array, Array]:
    """Run the frozen part once over a dataset.

    Args:
        part: the frozen part.
        dataset: batches of images and one-hot labels, in the order wanted.
        count: the number of images.
        bar: told of every image done.

    Returns:
        Activations float32 `(count, ...)` and one-hot labels float32 `(count, C)`.
    """
    activations: Array | None = None
    targets: list[Array] = []
    done = 0
    for images, labels in dataset:
        outputs = part(images.numpy())
        if activations is None:
            activations = np.empty((count, *outputs.shape[1:]), np.float32)
        activations[done : done + len(outputs)] = outputs
        done += len(outputs)
        targets.append(labels.numpy())
        bar.update(len(outputs))
    assert activations is not None and done == count, f"{done} images of {count} were read"
    return activations, np.concatenate(targets)
