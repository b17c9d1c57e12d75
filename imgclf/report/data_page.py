"""The page of a folder of images: how many of each class, how large, and some of them. May import data/, document.

It is for looking before training: wrong folders, wrong labels and tiny pictures show at a glance.
"""

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from imgclf.data.imageset import PARTS, ImageFile, ImageSet
from imgclf.data.inspect import inspect
from imgclf.data.sources import open_source
from imgclf.errors import InputError
from imgclf.report import document, pictures
from imgclf.report.document import View
from imgclf.runs import write_text
from imgclf.workers.parallel import map_items

SAMPLES = 12  # of each class, where that leaves the page small
MAX_PICTURES = 1_000  # on the page; every class has one at least, of the first MAX_CLASSES
MAX_CLASSES = 400
SIDE, MOST = 128, 8_000  # a thumbnail's longest side in pixels, and its characters: 8 MB at most
MAX_SIZES = 8  # of the most frequent sizes
SMALL = 64  # pixels of the short side, below which there is little to be learned from
ITEM_TIMEOUT = 30.0  # seconds

PART_TITLES = {"train": "training", "val": "validation", "test": "test", "": "all"}


def write_data_page(data: Path, out: Path, seed: int = 0, workers: int | None = None) -> Path:
    """Read a folder, a table or an archive of labelled images and write what is in it as one HTML file.

    Args:
        data: the images; nothing is written there.
        out: the page; an old one is replaced.
        seed: of the choice of samples.
        workers: the number of processes that read images.

    Returns:
        `out`.

    Raises:
        InputError: no such images.
        SetupError: the file cannot be written.
    """
    images = inspect(open_source(data), workers)
    if not images.usable:
        raise InputError(f"no image of {data} can be read", "expected folders of images, one for each class")
    return write_text(out, render_data(images, seed, workers))


def render_data(images: ImageSet, seed: int = 0, workers: int | None = None) -> str:
    """The page of inspected images.

    Args:
        images: as `inspect` gives them, at least one of them usable.
        seed: of the choice of samples.
        workers: the number of processes that read them; 0 reads them in this one.

    Returns:
        HTML text of at most some 10 MB that can be written as UTF-8 whatever the file names in it are.
    """
    labels = images.classes[:MAX_CLASSES]
    chosen = {label: _sample(images, label, _each(len(labels)), seed) for label in labels}
    sources = _thumbnails([image.path for each in chosen.values() for image in each], workers)
    counts = images.counts()
    parts = [part for part in (*PARTS, "") if part in counts]
    rows = [(label, [counts[part][label] for part in parts]) for label in images.classes]
    root = images.root.resolve()
    return document.page(
        "preview.html.j2", ("style.css", "preview.css"), "page.js",
        folder=root.name or str(root), images=images, parts=[PART_TITLES[part] for part in parts], rows=rows,
        most=max(sum(numbers) for _, numbers in rows), totals=[sum(counts[part].values()) for part in parts],
        samples=[(label, sum(numbers), [(image, images.shown(image.path), sources.get(image.path))
                                        for image in chosen[label]]) for label, numbers in rows[:MAX_CLASSES]],
        unshown=max(0, len(images.classes) - MAX_CLASSES), unreadable=len(images.unreadable),
        **_sizes(images.usable),
    )  # fmt: skip


def _each(classes: int) -> int:
    return max(1, min(SAMPLES, MAX_PICTURES // max(classes, 1)))


def _sample(images: ImageSet, label: str, number: int, seed: int) -> list[ImageFile]:
    """Some images of a class, chosen at random, the same ones for the same seed."""
    mine = [image for image in images.usable if image.label == label]
    return random.Random(f"{seed} {label}").sample(mine, min(number, len(mine)))


def _sizes(images: Sequence[ImageFile]) -> View:
    counted = Counter((image.width, image.height) for image in images)
    short = sorted(min(image.width, image.height) for image in images)
    shapes = Counter(
        "square" if image.width == image.height else "wider" if image.width > image.height else "taller"
        for image in images
    )
    return {
        "sizes": [(*size, number, number / len(images)) for size, number in counted.most_common(MAX_SIZES)],
        "other_sizes": max(0, len(counted) - MAX_SIZES),
        "short": (short[0], round(median(short)), short[-1]),
        "small": sum(side < SMALL for side in short),
        "least": SMALL,
        "shapes": [(name, shapes[name] / len(images)) for name in ("taller", "square", "wider") if shapes[name]],
        "grey": sum(image.grey for image in images) / len(images),
    }


def _thumbnails(paths: Sequence[Path], workers: int | None) -> dict[Path, str]:
    """In worker processes with limits: whatever lies in a folder has not been looked at by anybody yet."""
    draw = partial(pictures.thumbnail, side=SIDE, most=MOST)
    drawn = map_items(draw, paths, title="drawing thumbnails", workers=workers, item_timeout=ITEM_TIMEOUT)
    return {path: result.value for path, result in zip(paths, drawn, strict=True) if result.value is not None}
