"""Archives -> class folders: small images in arrays as PNG files, zips and tars of class folders as they are.

May import archives, bundle, filenames, scan, progress, runs and errors.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from imgclf import runs
from imgclf.data.archives import LabelledArrays, read_archives
from imgclf.data.bundle import extract, holds_images, is_bundle
from imgclf.data.filenames import DEVICES, FORBIDDEN
from imgclf.data.scan import scan
from imgclf.errors import InputError
from imgclf.progress import plural, step

MAX_CLASSES = 10_000


@dataclass(frozen=True)
class Unpacked:
    """What `unpack` wrote.

    Attributes:
        folder: holds train/ and test/ where the archives had both, class folders otherwise.
        counts: part to number of images; the part is "" where there are none.
        classes: folder names in the order of the labels, or sorted where the archive has class folders.
        shape: (height, width, channels) of the images; None where they are files that nobody has looked into.
    """

    folder: Path
    counts: dict[str, int]
    classes: tuple[str, ...]
    shape: tuple[int, int, int] | None

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {part}" for part, count in self.counts.items() if part)
        images = plural(sum(self.counts.values()), "image") + (f" ({parts})" if parts else "")
        names = ", ".join(self.classes[:12]) + (", ..." if len(self.classes) > 12 else "")
        return f"{self.folder}: {images}, {self._form()}{len(self.classes)} classes: {names}"

    def _form(self) -> str:
        if self.shape is None:
            return ""
        height, width, channels = self.shape
        return f"{width} x {height} { {1: 'grey', 3: 'RGB', 4: 'RGBA'}[channels] }, "


def unpack(archives: Sequence[Path], out: Path, class_names: Sequence[str] | None = None) -> Unpacked:
    """Write the images of archives into class folders.

    A zip or tar that holds image files is one of class folders, and keeps them (see `extract`); any other archive is
    one of arrays, whose images become PNG files.

    Args:
        archives: files of one data set; see `read_archives` for the kinds. Of class folders, one zip or tar.
        out: the folder to make; it appears when it is complete, or not at all.
        class_names: names by class index, where the archives know none; numbers by default.

    Raises:
        InputError: a bad archive, names that do not fit, or `out` is there already.
        SetupError: the disk is full or cannot be written.
    """
    for archive in archives:
        runs.require_no_device(archive)
    if os.path.lexists(out):
        raise InputError(f"{out} is already there", "name a new folder with --out")
    bundles = [path for path in archives if is_bundle(path) and holds_images(path)]
    if not bundles:
        return _unpack_arrays(archives, out, class_names)
    if len(archives) > 1:
        raise InputError(f"{bundles[0]} holds class folders, and is not the only archive", "unpack one at a time")
    if class_names is not None:
        raise InputError(f"{bundles[0]} holds class folders, which have names", "leave out --class-names")
    return _unpack_folders(bundles[0], out)


def _unpack_folders(archive: Path, out: Path) -> Unpacked:
    with _unfinished(out) as folder:
        extract(archive, folder)
        try:
            found = scan(folder)
        except InputError as error:
            raise InputError(error.what.replace(str(folder), str(archive)), error.fix) from None
        while len(inside := list(folder.iterdir())) == 1:  # `scan` looks through folders around everything too
            folder = inside[0]
        folder.rename(out)
    counts: Counter[str] = Counter(image.part for image in found.images)
    return Unpacked(out, dict(counts), found.classes, None)


def _unpack_arrays(archives: Sequence[Path], out: Path, class_names: Sequence[str] | None) -> Unpacked:
    arrays = read_archives(list(archives))
    if len({item.part for item in arrays}) != len(arrays):
        raise InputError("the archives hold the same part twice", "unpack one data set at a time")
    shapes = {item.images.shape[1:] for item in arrays}
    if len(shapes) != 1:
        raise InputError("the archives hold images of several sizes", "unpack one data set at a time")
    classes = _folder_names(arrays, class_names)
    with _unfinished(out) as folder:
        _write(arrays, classes, folder)
        folder.rename(out)
    height, width, *rest = shapes.pop()
    return Unpacked(out, {item.part: len(item.images) for item in arrays}, classes, (height, width, *(rest or [1])))


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """The path of a folder to make beside `out` and to rename to it; whatever is left there in the end is removed."""
    unfinished = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:60]}.", suffix=".part"))
        yield unfinished / "images"  # mkdtemp is for secrets, and what is within has usual rights
    except OSError as error:
        raise runs.disk_error(error, out) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


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
