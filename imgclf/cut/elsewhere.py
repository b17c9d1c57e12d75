"""The part below the cut, computed by other machines: each reads images and runs the converted network.

May import parallel, cut/, models/ and data/. What they compute is what this machine would: the same reading, the same
LiteRT file, one thread a model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.cut.engine import BATCH
from imgclf.cut.pixel_source import Pixels, Positions
from imgclf.data.imageset import StagedImage
from imgclf.errors import SetupError
from imgclf.noise import import_tensorflow
from imgclf.workers.parallel import each_item

Array = NDArray[np.float32]

BATCHES = 8  # of an item: the first batch of each costs 0.2 s of tracing; so many are done again where a machine dies
TIMEOUT = 600.0  # seconds for an item; the first one imports TensorFlow


@dataclass(frozen=True)
class Chunk:
    """Some images in one view.

    Attributes:
        images: staged.
        view: 0 for as they are.
    """

    images: tuple[StagedImage, ...]
    view: int

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that are read."""
        return tuple(str(image.path) for image in self.images)


@dataclass(frozen=True)
class Extract:
    """Chunk -> activations float32 `(n, ...)`; the network is kept from one call to the next.

    Attributes:
        content: the .tflite file.
        pixels: how images are read; its own images do not matter.
    """

    content: bytes
    pixels: Pixels
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, chunk: Chunk) -> Array:
        """Read and compute."""
        if not self.kept:
            from imgclf.models.litert import LiteModel

            self.kept["run"] = LiteModel(self.content, threads=1, pixels=False).run
        source = replace(self.pixels, images=chunk.images)
        batches = source.batches(chunk.view, np.arange(len(chunk.images)))
        return np.concatenate([self.kept["run"](batch) for batch in batches])


def extract(content: bytes, jobs: Sequence[tuple[Pixels, int, Positions]]) -> Iterator[tuple[list[str], Array]]:
    """Activations of images, chunk by chunk, as they are done.

    Args:
        content: the network as a .tflite file.
        jobs: a source, a view, and the positions of its images.

    Yields:
        The keys of some images in that view, and their activations.

    Raises:
        SetupError: an image could not be computed.
    """
    chunks = []
    for source, view, positions in jobs:
        chosen = [source.images[position] for position in positions]
        size = BATCH * BATCHES
        chunks += [(source, Chunk(tuple(chosen[at : at + size]), view)) for at in range(0, len(chosen), size)]
    function = Extract(content, replace(jobs[0][0], images=()))
    found = each_item(function, [chunk for _, chunk in chunks], title="", item_timeout=TIMEOUT, memory=None,
                      anywhere=True, prepare=import_tensorflow)  # fmt: skip
    for number, result in found:
        source, chunk = chunks[number]
        if result.value is None:
            raise SetupError(f"features of {chunk.images[0].source} and {len(chunk.images) - 1} more could not be "
                             f"computed ({result.error})", "look at the machines, and start again: what was computed "
                             "is kept")  # fmt: skip
        yield replace(source, images=chunk.images).keys(chunk.view), result.value
