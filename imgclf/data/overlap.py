"""Which images of one set lie in another one too. May import inspect, similar and known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgclf.data.bonds import bonds
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.inspect import inspect
from imgclf.data.known import Known
from imgclf.data.similar import find_pairs


@dataclass(frozen=True)
class Overlap:
    """Images that are not new.

    Attributes:
        copies: those whose bytes are among the others.
        near: further ones that look the same or nearly so.
        total: how many were asked for.
    """

    copies: tuple[Path, ...]
    near: tuple[Path, ...]
    total: int


def overlap(images: Sequence[ImageFile], others: Iterable[ImageFile], workers: int | None = None) -> Overlap:
    """Find the images that lie among others, by content and by looks.

    Args:
        images: any; they are inspected.
        others: with keys. Those whose files are still there are compared by looks too, the others by their keys only.
        workers: the number of processes that read images.
    """
    others = tuple(others)
    keys = {image.key for image in others}
    with Known.open() as known:
        asked = inspect(ImageSet(Path(), (), tuple(images)), workers, known).usable
        there = tuple(image for image in others if image.path.is_file())
        compared = inspect(ImageSet(Path(), (), there), workers, known).usable
        pairs = find_pairs([*asked, *compared], known)
    copies = tuple(image.path for image in asked if image.key in keys)
    everything = [replace(image, group="") for image in (*asked, *compared)]  # group-mates are other pictures
    alike: set[int] = set()
    for unit in bonds(everything, pairs):
        if any(index >= len(asked) for index in unit):
            alike.update(index for index in unit if index < len(asked))
    near = tuple(asked[index].path for index in sorted(alike) if asked[index].key not in keys)
    return Overlap(copies, near, len(asked))
