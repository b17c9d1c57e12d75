"""How large a network is on a phone and how fast it is here. May import TensorFlow and models/."""

from dataclasses import dataclass
from typing import Any

from imgclf.models.convert import to_tflite
from imgclf.models.litert import LiteModel


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
    return measure_file(convert(model))


def convert(model: Any) -> bytes:
    """The file that is measured; any machine makes the same one."""
    return to_tflite(model, float16=True)


def measure_file(content: bytes) -> Footprint:
    """Run a float16 .tflite file."""
    return Footprint(len(content) / 1e6, LiteModel(content, threads=1).fastest())
