"""What a training computes on: the CPU, a GPU, all GPUs of this computer. May import TensorFlow and Keras.

On GPUs with tensor cores float16 arithmetic with float32 weights is faster (Micikevicius 2018, arXiv 1710.03740); on
CPUs it is slower, so it stays off there. What leaves the training is float32 in either case. XLA is left to Keras,
which leaves it off while operations are deterministic: that two runs are the same run counts for more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from imgclf.models.copies import FULL
from imgclf.progress import plural

MIXED = "mixed_float16"
TENSOR_CORES = (7, 0)  # compute capability: Volta and later


@dataclass(frozen=True)
class Devices:
    """What there is, and how it is used.

    Attributes:
        gpus: how many train together.
        policy: of Keras' layers, "float32" or "mixed_float16".
        strategy: of tf.distribute; each GPU has a copy of the network and takes its share of every batch.
    """

    gpus: int
    policy: str
    strategy: Any

    def __str__(self) -> str:
        where = plural(self.gpus, "GPU") if self.gpus else "CPU"
        return f"computing on {where}, {'mixed precision' if self.policy == MIXED else 'float32'}"

    def batch_size(self, wanted: int) -> int:
        """The next batch size that all devices can share evenly."""
        share = max(1, self.gpus)
        return -(-wanted // share) * share

    @contextmanager
    def building(self) -> Iterator[None]:
        """Networks that are built in this context are trained on the devices."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.policy)
        try:
            with self.strategy.scope():
                yield
        finally:
            keras.config.set_dtype_policy(before)


def find_devices(precision: str) -> Devices:
    """Look at what this computer has.

    Args:
        precision: "auto" (mixed where every GPU has tensor cores), "mixed" or "float32".
    """
    gpus = tf.config.list_physical_devices("GPU")
    capable = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
    mixed = precision == "mixed" or (precision == "auto" and bool(gpus) and min(capable) >= TENSOR_CORES)
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    return Devices(len(gpus), MIXED if mixed else FULL, strategy)
