"""ImageSet -> ImageSet with verdicts: every file decoded to its end, in processes. May import parallel and pixels.

What was found out once is kept (`known`), so that only new and changed files are decoded.
"""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgclf import formats, pixels
from imgclf.data.imageset import Examined, ImageFile, ImageSet
from imgclf.data.known import Known, Stamp
from imgclf.data.looks import look
from imgclf.errors import InputError
from imgclf.storage.patience import limit_seconds
from imgclf.storage.places import Address, place
from imgclf.storage.readers import Contents
from imgclf.storage.remote import look_up
from imgclf.workers import parallel

KEY_BYTES = 16  # 128 bits: no two of 10^12 files share a key by chance
ENOUGH_SIDE = 256  # pixels; a 12-megapixel JPEG is decoded to its end, but at 1/8 of its size, in half the time
SAVE_EVERY = 500  # files; what a kill may lose


class Reading(NamedTuple):
    """What one complete reading of a file gives."""

    examined: Examined
    thumbnail: NDArray[np.uint8] | None = None


def inspect(images: ImageSet, workers: int | None = None, known: Known | None = None) -> ImageSet:
    """Decode every file completely and say what is in it.

    Args:
        images: as `scan` gives them.
        workers: the number of processes; None takes one per processor.
        known: what earlier checks found out; None opens the one of this computer.

    Returns:
        The same set with key, format, size, verdict, reason and looks of every file. Nothing raises for a bad file.
    """
    if known is None:
        with Known.open() as opened:
            return inspect(images, workers, opened)
    remote = any(isinstance(image.path, Address) for image in images.images)
    if remote:
        look_up(image.path for image in images.images)
    stamps = [Stamp.of(image.path) for image in images.images]
    earlier = known.find(stamp for stamp in stamps if stamp is not None)
    found: dict[int, Examined] = {
        index: earlier[stamp.path] for index, stamp in enumerate(stamps) if stamp is not None and stamp.path in earlier
    }
    todo = [index for index in range(len(stamps)) if index not in found]
    fresh: list[tuple[Stamp, Examined, NDArray[np.uint8] | None]] = []
    paths = [images.images[index].path for index in todo]
    # what lies elsewhere is read here, and ahead: a worker that waits for a server decodes nothing
    contents = Contents(paths)
    items = contents if not parallel.is_elsewhere() else [p if isinstance(p, Address) else str(p) for p in paths]
    patience = parallel.ITEM_TIMEOUT + (limit_seconds() if remote else 0.0)
    try:
        for number, result in parallel.each_item(
            examine, items, title="reading images", workers=workers, item_timeout=patience, anywhere=True
        ):
            index = todo[number]
            reading = result.value or Reading(_unreadable(result.error or ""))
            found[index] = reading.examined
            stamp = stamps[index]
            if reading.examined.looks is not None and stamp is not None:
                fresh.append((stamp, reading.examined, reading.thumbnail))
            if len(fresh) >= SAVE_EVERY:
                known.add(fresh)
                fresh.clear()
    finally:
        contents.close()
        known.add(fresh)
    return images.with_images(_filled(image, found[index]) for index, image in enumerate(images.images))


def _filled(image: ImageFile, examined: Examined) -> ImageFile:
    """The file with what was found in it; its name is judged here, because the content does not know it."""
    wrong = "" if examined.verdict == "unreadable" else formats.misnamed(image.path, examined.format)
    if not wrong:
        return replace(image, **examined._asdict())
    reasons = "; ".join(filter(None, [examined.reason, wrong]))
    return replace(image, **examined._replace(verdict="repairable", reason=reasons)._asdict())


def examine(source: str | Path | bytes) -> Reading:
    """Read one file once: its key, what a complete decode finds, what it looks like."""
    try:
        data = source if isinstance(source, bytes) else pixels.file_bytes(place(source))
    except pixels.UnreadableImage as error:
        return Reading(_unreadable(str(error)))
    key = hashlib.blake2b(data, digest_size=KEY_BYTES).hexdigest()
    try:
        decoded = pixels.read(data, ENOUGH_SIDE)
    except pixels.UnreadableImage as error:
        return Reading(_unreadable(str(error), key, formats.sniff(data)))
    looks, thumbnail = look(decoded.pixels, len(data))
    examined = Examined(key, decoded.format, decoded.width, decoded.height,
                        "repairable" if decoded.repairs else "fine", "; ".join(decoded.repairs), decoded.is_grey,
                        looks)  # fmt: skip
    return Reading(examined, thumbnail)


def _unreadable(reason: str, key: str = "", content: str = "") -> Examined:
    return Examined(key, content, 0, 0, "unreadable", reason)


def problems(images: ImageSet) -> list[str]:
    """One line per unreadable file: "photos/cat/a.jpg: truncated after 312 bytes"."""
    return [f"{image.path}: {image.reason}" for image in images.unreadable]


def without_empty_classes(images: ImageSet) -> ImageSet:
    """The set without the classes of which no image can be read; there is nothing to learn them from."""
    usable = {image.label for image in images.usable}
    return replace(images, classes=tuple(label for label in images.classes if label in usable)) if usable else images


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
