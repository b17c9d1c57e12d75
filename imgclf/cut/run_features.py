"""Features of a finished run's images, kept for the next question. May import Keras, predict and the store."""

from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.cut.engine import build_engine
from imgclf.cut.features import LIBRARIES, fingerprint
from imgclf.cut.room import make_room
from imgclf.cut.store import Space
from imgclf.data.imageset import ImageFile
from imgclf.errors import InputError
from imgclf.predict import Predictor, Skipped
from imgclf.progress import step

Array = NDArray[np.float32]

SAMPLE = 8  # images that an engine is chosen by


def features_of(
    network: Any, images: Sequence[ImageFile], shape: tuple[int, int, int]
) -> tuple[list[ImageFile], Array]:  # fmt: skip
    """What a network makes of images: from the store, or computed now and left in it.

    Args:
        network: image to pooled features `(N, F)`.
        images: of a run, inspected; from the user's folder.
        shape: (height, width, channels) that the network takes.

    Returns:
        The images that could be read, and their features `(n, F)`.

    Raises:
        InputError: none of them.
    """
    identity = {"network": fingerprint(network), "source": "pixels.py", "size": shape,
                "versions": [metadata.version(name) for name in LIBRARIES]}  # fmt: skip
    space = Space(identity, network.output_shape[1:], "float32")
    keys = [image.key for image in images]
    rows = space.find(keys)
    if rows.missing:
        make_room(len(rows.missing) * space.row_bytes)
        missing = {keys[index]: images[index].path for index in space.find(keys).missing}  # some may have had to go
        _compute(network, missing, shape, space)
        rows = space.find(keys)
    lost = set(rows.missing)
    good = [index for index in range(len(images)) if index not in lost]
    if not good:
        raise InputError("none of the training images can be read", "put them back as they were")
    return [images[index] for index in good], rows.take(np.array(good))


def _compute(network: Any, missing: dict[str, Path], shape: tuple[int, int, int], space: Any) -> None:
    reader = Predictor(Path(), (), shape, lambda images: images)
    names = {path: key for key, path in missing.items()}
    keys: list[str] = []  # of what goes into the network, in its order

    def readable() -> Iterator[Array]:
        for batch, images in reader.batches(missing.values()):
            good = [(names[path], image) for path, image in zip(batch, images, strict=True)
                    if not isinstance(image, Skipped)]  # fmt: skip
            bar.update(len(batch) - len(good))
            if good:
                keys.extend(key for key, _ in good)
                yield np.stack([image for _, image in good])

    done = 0
    with step("computing features", len(missing)) as bar:
        batches = readable()
        first = next(batches, None)
        if first is None:
            return
        engine = build_engine(network, first[:SAMPLE], str(space.about().get("engine", "")), space.network)
        space.describe(what="features of training images", engine=engine.name)
        with space.writing() as writer:
            for rows in engine.map(chain([first], batches)):
                writer.add(keys[done : done + len(rows)], rows)
                done += len(rows)
                bar.update(len(rows))
