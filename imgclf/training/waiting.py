"""How much of an epoch is spent waiting for images. May import TensorFlow."""

import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from numpy.typing import NDArray


class Waiting:
    """Notes when each batch is ready and when it is asked for: what lies between is time without training."""

    def __init__(self) -> None:
        self._ready: list[float] = []
        self._asked: list[float] = []

    def watch(self, dataset: Any) -> Any:
        """The same batches, each noted when the pipeline has it ready, a little ahead of who asks for it."""

        def note(last: NDArray[Any]) -> NDArray[Any]:
            self._ready.append(time.perf_counter())
            return last

        def mark(*batch: Any) -> Any:
            # stateless: otherwise determinism makes tf.data run it only when the training asks for a batch; and since
            # what is stateless and unused is left out, the smallest part of the batch goes through it
            noted = tf.numpy_function(note, [batch[-1]], batch[-1].dtype, stateful=False)
            return (*batch[:-1], tf.ensure_shape(noted, batch[-1].shape))

        return dataset.map(mark, num_parallel_calls=1, deterministic=True).prefetch(2)

    def ask(self) -> None:
        """The training is about to take its next batch."""
        self._asked.append(time.perf_counter())

    def share(self, end: float) -> float:
        """The share of the time from the second batch to `end` that was spent waiting; the first fills the pipeline."""
        return waited(self._asked, self._ready, end)


def waited(asked: Sequence[float], ready: Sequence[float], end: float) -> float:
    """The share of the time from the second batch on in which a batch was asked for and not yet ready.

    Args:
        asked: when each batch was asked for, in seconds.
        ready: when it was there.
        end: when the last one had been worked on.
    """
    pairs = list(zip(asked, ready, strict=False))[1:]
    if not pairs or end <= pairs[0][0]:
        return 0.0
    return min(1.0, sum(max(0.0, there - wanted) for wanted, there in pairs) / (end - pairs[0][0]))
