"""Which images an 8-bit file is made and judged with. May import data/ and predict."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.data.imageset import ImageFile
from imgclf.export.catalog import CALIBRATION_IMAGES, MAX_DROP
from imgclf.pixels import UnreadableImage, load_for_model

MORE = 3  # times as many again, where the first are not enough
MOST_MEASURED = 2000  # validation images that the loss is measured on: 0.3 GB of pixels at 224


@dataclass(frozen=True)
class Calibration:
    """Images to make an 8-bit file with.

    Attributes:
        images: of the training part, all classes alike, to observe the network on.
        more: more of them.
        validation: to measure the loss on.
        labels: class indices of the latter.
        max_drop: of the accuracy, 0..1.
    """

    images: tuple[Path, ...]
    more: tuple[Path, ...]
    validation: tuple[Path, ...]
    labels: tuple[int, ...]
    max_drop: float = MAX_DROP


def choose(
    train: Sequence[ImageFile], validation: Sequence[ImageFile], classes: Sequence[str], *,
    count: int = CALIBRATION_IMAGES, max_drop: float = MAX_DROP, seed: int = 0,
) -> Calibration:  # fmt: skip
    """Choose the images.

    Args:
        train: the training part.
        validation: the validation part.
        classes: in the order of the scores.
        count: images to observe the network on, the classes in turn.
        max_drop: of the accuracy, 0..1.
        seed: of the draw.
    """
    index = {name: number for number, name in enumerate(classes)}
    drawn = list(_in_turn(train, classes, seed))
    measured = list(_in_turn(validation, classes, seed))[:MOST_MEASURED]
    return Calibration(
        tuple(image.path for image in drawn[:count]), tuple(image.path for image in drawn[count : (1 + MORE) * count]),
        tuple(image.path for image in measured), tuple(index[image.label] for image in measured), max_drop,
    )  # fmt: skip


def _in_turn(images: Sequence[ImageFile], classes: Sequence[str], seed: int) -> Iterator[ImageFile]:
    """One image of each class after the other, as long as there are any, drawn by the seed."""
    draw = np.random.default_rng(seed)
    by_class = []
    for name in classes:
        here = [image for image in images if image.label == name]
        by_class.append([here[at] for at in draw.permutation(len(here))])
    for row in zip_longest(*by_class):
        yield from (image for image in row if image is not None)


def read(paths: Sequence[Path], shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], list[int]]:
    """The pixels of images as a network gets them, and which of the files could be read.

    Args:
        paths: image files.
        shape: (height, width, channels) of the network's input.

    Returns:
        uint8 `(n, height, width, channels)`, and the place of each in `paths`.
    """

    def one(path: Path) -> Any:
        try:
            return np.rint(load_for_model(path, *shape)).astype(np.uint8)
        except UnreadableImage:
            return None

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(one, paths))
    kept = [place for place, image in enumerate(found) if image is not None]
    pixels = [found[place] for place in kept]
    return np.stack(pixels) if pixels else np.zeros((0, *shape), np.uint8), kept
