"""How large a network is on a phone and how fast it is here. May import TensorFlow and models/."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgclf.models.convert import to_tflite
from imgclf.models.litert import LiteModel

RUNS, SECONDS = 20, 2.0  # of one image; whichever is over first


@dataclass(frozen=True)
class Footprint:
    """What a network costs.

    Attributes:
        megabytes: of its float16 .tflite file, 10^6 bytes.
        milliseconds: one image through that file with one thread: the fastest run, which other programs disturb least.
    """

    megabytes: float
    milliseconds: float


def measure(model: Any) -> Footprint:
    """Convert a finished model, image to probabilities, and run it."""
    content = to_tflite(model, float16=True)
    lite = LiteModel(content, threads=1)
    image = np.random.default_rng(0).uniform(0, 255, (1, *lite.input_shape)).astype(np.float32)
    lite.run(image)
    times: list[float] = []
    while len(times) < RUNS and sum(times) < SECONDS:
        start = time.perf_counter()
        lite.run(image)
        times.append(time.perf_counter() - start)
    return Footprint(len(content) / 1e6, 1000 * min(times))
