"""ImageSet -> ImageSet with parts; split.csv. May import runs (atomic writes) and errors.

The split depends on the content of the files and the seed, on nothing else: renaming, moving or re-dating files changes
nothing, and exact duplicates cannot end up on both sides.
"""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

from imgclf import runs
from imgclf.data.imageset import PARTS, ImageFile, ImageSet, Part
from imgclf.errors import InputError

COLUMNS = ("path", "label", "part", "key")


class SplitRow(NamedTuple):
    """One row of split.csv: path relative to the image folder, with forward slashes."""

    path: str
    label: str
    part: Part
    key: str


SHARE = 0.15
ENOUGH = 5000  # images that measure an accuracy of 0.9 to within 0.008; more teach more in training


def default_share(count: int) -> float:
    """The share of validation images, and of test images, of a set of `count` images."""
    return min(SHARE, ENOUGH / max(count, 1))


def assign_parts(images: ImageSet, val_share: float = 0.15, test_share: float = 0.15, seed: int = 0) -> ImageSet:
    """Give every usable image its part.

    Stratified: of each class the given shares, to within one image, counted in distinct images. A class of three or
    more has at least one image in each part, smaller ones fill train, then test, then val. Exact duplicates share a
    part; a picture that occurs in several classes goes to train, because no label of it could be measured against.
    Ready-made parts are kept; a missing val or test part is taken from train.

    Args:
        images: inspected images.
        val_share: share of validation images, 0 or more and below 1; 0 makes no such part.
        test_share: likewise for the test part; both together below 1.
        seed: another seed, another split.

    Returns:
        The same set with parts; unreadable files keep the one they have.

    Raises:
        InputError: a share out of range, a class without a training image, or too few images for a part.
    """
    if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
        raise InputError(
            f"the shares of validation ({val_share:g}) and test ({test_share:g}) leave nothing to train on",
            "expected two numbers from 0 whose sum is below 1, as 0.15 and 0.15",
        )
    if any(not image.key for image in images.usable):
        raise ValueError("assign_parts needs inspected images (every usable image has a key)")
    shares = {"val": val_share, "test": test_share}
    fixed = {image.part for image in images.usable} & {"val", "test"}
    shares = {part: 0.0 if part in fixed else share for part, share in shares.items()}
    # what also lies in a ready-made part cannot be kept apart from it; it stays where the user put it
    kept = {image.key for image in images.usable if image.part in fixed}
    drawn = _draw([image for image in images.usable if image.key not in kept], shares, seed)
    parted = []
    for image in images.images:
        if image.verdict != "unreadable" and image.part in ("", "train"):
            parted.append(replace(image, part=drawn.get(image.key, "train")))
        else:
            parted.append(image)
    result = images.with_images(sorted(parted, key=_place))
    _require_parts(result, {part for part, share in shares.items() if share > 0})
    return result


def leaks(images: ImageSet) -> list[tuple[ImageFile, ImageFile]]:
    """Exact duplicates across parts, which only ready-made parts can have.

    Args:
        images: inspected images with parts.

    Returns:
        One pair per image that has its like in an earlier part (train, val, test): the first such image, and it.
    """
    first: dict[str, ImageFile] = {}
    pairs = []
    for image in sorted(images.usable, key=_place):
        earlier = first.setdefault(image.key, image)
        if earlier.part != image.part:
            pairs.append((earlier, image))
    return pairs


def write_split(images: ImageSet, path: Path) -> None:
    """Write split.csv: one row per image that has a part.

    Args:
        images: inspected images with parts.
        path: the file to write, atomically.

    Raises:
        SetupError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image in images.usable:
        writer.writerow((image.path.relative_to(images.root).as_posix(), image.label, image.part, image.key))
    with runs.writing(path) as temporary:
        # a name that is no Unicode (possible on Linux) must come back as the same bytes
        temporary.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


def read_rows(path: Path) -> tuple[SplitRow, ...]:
    """Read split.csv.

    Raises:
        InputError: it is missing or not of this form.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error})", "expected the split.csv of a run"
        ) from None
    rows = list(csv.reader(io.StringIO(text, newline="")))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise InputError(f"{path} is no split of imgclf", f"expected the columns {','.join(COLUMNS)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(COLUMNS) or row[2] not in PARTS:
            raise InputError(f"{path} is damaged at row {number}", "expected path,label,part,key in each row")
    return tuple(SplitRow(row[0], row[1], cast(Part, row[2]), row[3]) for row in rows[1:])


def read_split(path: Path) -> dict[str, Part]:
    """The part of every key of split.csv; a key in several ready-made parts counts as the last (train, val, test).

    Raises:
        InputError: it is missing or not of this form.
    """
    rows = sorted(read_rows(path), key=lambda row: PARTS.index(row.part))
    return {row.key: row.part for row in rows}


def test_part(path: Path, root: Path) -> tuple[ImageFile, ...]:
    """The test images of a run.

    Args:
        path: its split.csv.
        root: the folder of images that it was made of.

    Raises:
        InputError: split.csv is missing or not of this form.
    """
    return tuple(
        ImageFile(root / row.path, row.label, row.part, row.key) for row in read_rows(path) if row.part == "test"
    )


def _draw(images: list[ImageFile], shares: dict[str, float], seed: int) -> dict[str, Part]:
    """Draw the part of every key: per class, in an order that only content and seed decide."""
    labels: dict[str, set[str]] = defaultdict(set)
    for image in images:
        labels[image.key].add(image.label)
    distinct = Counter(label for several in labels.values() for label in several)
    own: dict[str, list[str]] = defaultdict(list)
    for key in sorted(labels, key=lambda key: _rank(key, seed)):
        if len(labels[key]) == 1:
            own[next(iter(labels[key]))].append(key)
    parts: dict[str, Part] = dict.fromkeys(labels, "train")
    for label, keys in own.items():
        val, test = _numbers(distinct[label], shares["val"], shares["test"])
        parts.update(dict.fromkeys(keys[:test], "test"))
        parts.update(dict.fromkeys(keys[test : test + val], "val"))
    return parts


def _rank(key: str, seed: int) -> bytes:
    return hashlib.blake2b(key.encode(), key=str(seed).encode()[:64], digest_size=16).digest()


def _numbers(total: int, val_share: float, test_share: float) -> tuple[int, int]:
    """How many of `total` distinct images of a class are for val and test; at least one is left for train."""
    room = total - 1
    test = min(room, max(int(total * test_share + 0.5), int(test_share > 0)))
    val = min(room - test, max(int(total * val_share + 0.5), int(val_share > 0)))
    if val == 0 and val_share > 0 and test > 1:
        val, test = 1, test - 1
    return val, test


def _require_parts(images: ImageSet, wanted: set[str]) -> None:
    counts = images.counts()
    per_class = Counter(image.label for image in images.usable)
    numbers = ", ".join(f"{label} {per_class[label]}" for label in images.classes)
    untrained = [label for label in images.classes if not counts.get("train", Counter())[label]]
    if untrained:
        raise InputError(
            f"the class {untrained[0]!r} in {images.root} has no training image ({numbers})",
            "every class needs at least one; add images or remove the class",
        )
    for part, name in (("val", "validation"), ("test", "test")):
        if part in wanted and part not in counts:
            raise InputError(
                f"{images.root} has too few images to set a {name} part aside ({numbers})",
                "expected a class with at least 3 pictures that lie in no other class, better 20 or more in each",
            )


def _place(image: ImageFile) -> tuple[int, str, str]:
    return (PARTS.index(image.part) if image.part else -1, image.label, str(image.path))
