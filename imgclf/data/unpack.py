"""Archives of small images -> class folders of PNG files. May import archives, progress, runs and errors."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from imgclf import runs
from imgclf.data.archives import LabelledArrays, read_archives
from imgclf.errors import InputError
from imgclf.progress import plural, step

# No name from an archive may become a path, a hidden folder or a device (the last on Windows).
FORBIDDEN = set('/\\:*?"<>|') | {chr(code) for code in range(32)}
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
MAX_CLASSES = 10_000


@dataclass(frozen=True)
class Unpacked:
    """What `unpack` wrote.

    Attributes:
        folder: holds train/ and test/ where the archives had both, class folders otherwise.
        counts: part to number of images.
        classes: folder names in the order of the labels.
        shape: (height, width, channels) of the images.
    """

    folder: Path
    counts: dict[str, int]
    classes: tuple[str, ...]
    shape: tuple[int, int, int]

    def __str__(self) -> str:
        height, width, channels = self.shape
        parts = ", ".join(f"{count} {part}" for part, count in self.counts.items())
        kind = {1: "grey", 3: "RGB", 4: "RGBA"}[channels]
        names = ", ".join(self.classes[:12]) + (", ..." if len(self.classes) > 12 else "")
        return (f"{self.folder}: {plural(sum(self.counts.values()), 'image')} ({parts}), {width} x {height} {kind}, "
                f"{len(self.classes)} classes: {names}")  # fmt: skip


def unpack(archives: Sequence[Path], out: Path, class_names: Sequence[str] | None = None) -> Unpacked:
    """Write the images of archives as PNG files into class folders.

    Args:
        archives: files of one data set; see `read_archives` for the kinds.
        out: the folder to make; it appears when it is complete, or not at all.
        class_names: names by class index, where the archives know none; numbers by default.

    Raises:
        InputError: a bad archive, names that do not fit, or `out` is there already.
        SetupError: the disk is full or cannot be written.
    """
    if out.exists():
        raise InputError(f"{out} is already there", "name a new folder with --out")
    arrays = read_archives(list(archives))
    if len({item.part for item in arrays}) != len(arrays):
        raise InputError("the archives hold the same part twice", "unpack one data set at a time")
    shapes = {item.images.shape[1:] for item in arrays}
    if len(shapes) != 1:
        raise InputError("the archives hold images of several sizes", "unpack one data set at a time")
    classes = _folder_names(arrays, class_names)
    unfinished = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
        _write(arrays, classes, unfinished / "images")  # mkdtemp is for secrets, and what is within has usual rights
        (unfinished / "images").rename(out)
    except OSError as error:
        raise runs.disk_error(error, out) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
    height, width, *rest = shapes.pop()
    return Unpacked(out, {item.part: len(item.images) for item in arrays}, classes, (height, width, *(rest or [1])))


def _folder_names(arrays: list[LabelledArrays], given: Sequence[str] | None) -> tuple[str, ...]:
    known = next((item.names for item in arrays if item.names), None)
    count = max(int(item.labels.max()) + 1 for item in arrays)
    if count > MAX_CLASSES:
        raise InputError(f"the labels go up to {count - 1}", f"expected {MAX_CLASSES} classes at most")
    width = len(str(count - 1))
    names = tuple(given or known or [f"{index:0{width}}" for index in range(count)])
    if len(names) < count:
        raise InputError(f"there are {count} classes but {len(names)} names", "give one name per class (--class-names)")
    for name, number in Counter(name.casefold() for name in names).items():
        if number > 1:
            raise InputError(f"two classes are called {name!r}", "give every class a name of its own (--class-names)")
    for name in names:
        device = name.split(".")[0].casefold() in DEVICES
        if device or name.startswith(".") or name != name.strip(" .") or not name or set(name) & FORBIDDEN:
            raise InputError(f"{name!r} cannot be the name of a folder", "give other names (--class-names)")
    return names


def _write(arrays: list[LabelledArrays], classes: tuple[str, ...], folder: Path) -> None:
    total = sum(len(item.images) for item in arrays)
    digits = len(str(max(len(item.images) for item in arrays) - 1))
    with step("unpacking", total, "images") as bar:
        for item in arrays:
            root = folder / item.part if len(arrays) > 1 else folder
            for name in classes:
                (root / name).mkdir(parents=True, exist_ok=True)
            for number, (image, label) in enumerate(zip(item.images, item.labels, strict=True)):
                path = root / classes[label] / f"{number:0{digits}}.png"
                # level 1: five times faster than the default, and images of this size hardly compress
                Image.fromarray(image).save(path, compress_level=1)
                bar.update()
