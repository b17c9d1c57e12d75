"""ImageSet -> ImageSet with verdicts: every file decoded to its end, in processes. May import parallel and pixels."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from imgclf import formats, parallel, pixels
from imgclf.data.imageset import ImageFile, ImageSet, Verdict
from imgclf.errors import InputError

KEY_BYTES = 16  # 128 bits: no two of 10^12 files share a key by chance
ENOUGH_SIDE = 256  # pixels; a 12-megapixel JPEG is decoded to its end, but at 1/8 of its size, in half the time


class Finding(NamedTuple):
    """What was found in one file; the fields are those of `ImageFile`."""

    key: str
    format: str
    width: int
    height: int
    verdict: Verdict
    reason: str
    grey: bool = False


def inspect(images: ImageSet, workers: int | None = None) -> ImageSet:
    """Decode every file completely and say what is in it.

    Args:
        images: as `scan` gives them.
        workers: the number of processes; None takes one per processor.

    Returns:
        The same set with key, format, size, verdict and reason of every file. Nothing raises for a bad file.
    """
    paths = [str(image.path) for image in images.images]
    results = parallel.map_items(examine, paths, title="reading images", workers=workers)
    checked = []
    for image, result in zip(images.images, results, strict=True):
        finding = result.value or Finding("", "", 0, 0, "unreadable", result.error or "")
        checked.append(replace(image, **finding._asdict()))
    return images.with_images(checked)


def examine(path: str) -> Finding:
    """Read one file once: its key, and what a complete decode finds."""
    try:
        if Path(path).stat().st_size > pixels.MAX_BYTES:
            return Finding("", "", 0, 0, "unreadable", f"larger than {pixels.MAX_BYTES >> 20} MB")
        data = Path(path).read_bytes()
    except OSError as error:
        return Finding("", "", 0, 0, "unreadable", f"cannot be opened ({error.strerror or error})")
    key = hashlib.blake2b(data, digest_size=KEY_BYTES).hexdigest()
    try:
        decoded = pixels.read(data, ENOUGH_SIDE)
    except pixels.UnreadableImage as error:
        return Finding(key, formats.sniff(data), 0, 0, "unreadable", str(error))
    repairs = [*decoded.repairs, *filter(None, [formats.misnamed(path, decoded.format)])]
    verdict: Verdict = "repairable" if repairs else "fine"
    return Finding(key, decoded.format, decoded.width, decoded.height, verdict, "; ".join(repairs), decoded.is_grey)


def problems(images: ImageSet) -> list[str]:
    """One line per unreadable file: "photos/cat/a.jpg: truncated after 312 bytes"."""
    return [f"{image.path}: {image.reason}" for image in images.unreadable]


def require_trainable(images: ImageSet) -> None:
    """Check that every class has an image to learn from.

    Args:
        images: as `inspect` gives them.

    Raises:
        InputError: nothing but unreadable files in a class, or altogether.
    """
    usable = Counter(image.label for image in images.usable)
    found = Counter(image.label for image in images.images)
    if not usable:
        raise InputError(
            f"{images.root} holds nothing but unreadable files ({_example(images.unreadable)})",
            "expected images that can be decoded",
        )
    empty = [label for label in images.classes if not usable[label]]
    if empty:
        shown = ", ".join(f"{label!r} ({found[label]} files)" for label in empty)
        first = [image for image in images.unreadable if image.label == empty[0]]
        raise InputError(
            f"{'the class' if len(empty) == 1 else 'the classes'} {shown} in {images.root} "
            f"{'holds' if len(empty) == 1 else 'hold'} nothing but unreadable files ({_example(first)})",
            "replace the files or remove the folder",
        )
    if len(usable) < 2:
        raise InputError(f"{images.root} holds only one class", "expected two classes or more")


def _example(files: tuple[ImageFile, ...] | list[ImageFile]) -> str:
    return f"{files[0].path.name}: {files[0].reason}" if files else "no files"
