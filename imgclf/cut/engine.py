"""A frozen network on the fastest engine for it: LiteRT on a CPU, or Keras. May import TensorFlow and models/."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgclf.models.convert import to_tflite
from imgclf.models.litert import LiteModel
from imgclf.progress import warn

Array = NDArray[np.float32]
Keep = Callable[[Callable[[], bytes]], bytes]

LITERT, KERAS = "LiteRT", "Keras"
BATCH = 16  # images handed over at once; Keras gets always so many, so that it traces one graph
WORKERS = 4  # LiteRT models side by side at most; each has its own copy of the weights
# Largest difference between LiteRT and Keras, as a share of the largest activation, that counts as the same network.
# Measured: 1e-6 to 2e-5 for the backbones of the table; a wrong conversion is off by 1 or is NaN.
SAME_NETWORK = 1e-3
CLEARLY_FASTER = 1.3  # Keras must beat LiteRT by so much: a close race would end differently in the next run


class Engine:
    """A frozen network, ready to compute.

    Attributes:
        name: "LiteRT" or "Keras".
        width: how many batches can be computed side by side.
    """

    def __init__(self, name: str, runners: Sequence[Callable[[Array], Array]]) -> None:
        self.name, self.width = name, len(runners)
        self._free: SimpleQueue[Callable[[Array], Array]] = SimpleQueue()
        for runner in runners:
            self._free.put(runner)

    def __call__(self, inputs: Array) -> Array:
        """One batch, float32 `(n, ...)` to float32 `(n, ...)`; may be called from several threads."""
        runner = self._free.get()
        try:
            return runner(inputs)
        finally:
            self._free.put(runner)

    def map(self, batches: Iterable[Array]) -> Iterator[Array]:
        """Compute batches side by side and give the results in their order."""
        if self.width == 1:
            yield from map(self, batches)
            return
        pending: deque[Future[Array]] = deque()
        with ThreadPoolExecutor(self.width) as pool:
            for batch in batches:
                pending.append(pool.submit(self, batch))
                if len(pending) > self.width:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def map_dataset(self, dataset: Any, shape: Sequence[int]) -> Any:
        """A `tf.data.Dataset` of batches as one of activation batches, computed while the consumer trains.

        Args:
            dataset: of tuples whose first member are the inputs.
            shape: of one image's activations.
        """

        def compute(inputs: Any, *rest: Any) -> Any:
            # stateless: otherwise determinism makes tf.data compute it only when the training asks for it
            activations = tf.numpy_function(self, [inputs], tf.float32, stateful=False)
            return (tf.ensure_shape(activations, (None, *shape)), *rest)

        return dataset.map(compute, num_parallel_calls=self.width, deterministic=True).prefetch(2)


def build_engine(model: Any, sample: Array, known: str = "", keep: Keep = lambda convert: convert()) -> Engine:
    """Put a frozen network on an engine.

    On a CPU LiteRT takes it, unless Keras is clearly faster on the sample; the converted network is compared with Keras
    before it is used. On a GPU Keras keeps it.

    Args:
        model: input `(N, ...)`, four dimensions; one output.
        sample: a few inputs to measure and compare on.
        known: the engine that the same network was computed on before, which then does it again; "" to choose.
        keep: gives the .tflite file that the conversion gave before, or calls it.
    """
    keras = Engine(KERAS, [_keras_runner(model)])
    if known == KERAS or (not known and tf.config.list_physical_devices("GPU")):
        return keras
    try:
        content = keep(lambda: to_tflite(model))
        cores = os.cpu_count() or 1
        workers = min(cores, WORKERS)
        threads = max(1, cores // workers)
        # several interpreters of a thread each keep the cores busier than one with several threads
        lite = [LiteModel(content, threads=threads, pixels=False).run for _ in range(workers)]
        ours = lite[0](sample)
    except Exception as error:  # the converter raises what it likes; Keras can always do the work
        warn(f"LiteRT cannot run this network ({str(error).splitlines()[0]}); Keras does, more slowly")
        return keras
    reference = np.asarray(model(sample, training=False))
    scale = float(np.abs(reference).max()) or 1.0
    difference = float(np.abs(ours - reference).max())
    if not difference <= SAME_NETWORK * scale:  # also true for NaN
        warn(f"LiteRT computes other activations than Keras (off by {difference:.2g}); Keras does the work")
        return keras
    if known == LITERT:
        return Engine(LITERT, lite)
    alone = _seconds(lambda: lite[0](sample)) / len(lite)
    return keras if _seconds(lambda: keras(sample)) * CLEARLY_FASTER < alone else Engine(LITERT, lite)


def _keras_runner(model: Any) -> Callable[[Array], Array]:
    def run(inputs: Array) -> Array:
        count = len(inputs)
        padded = np.concatenate([inputs, np.zeros((-count % BATCH, *inputs.shape[1:]), np.float32)])
        parts = [np.asarray(model.predict_on_batch(padded[at : at + BATCH])) for at in range(0, len(padded), BATCH)]
        outputs: Array = np.concatenate(parts)[:count]
        return outputs

    return run


def _seconds(work: Callable[[], Any]) -> float:
    """The shorter of two timed runs after one that warms up."""
    work()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
