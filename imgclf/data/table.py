"""A CSV of paths and labels -> ImageSet. May import sheet, scan (its part names), imageset, progress, places, remote.

No image is opened here, and nothing is guessed: a row that can be read in two ways is an error that names the row.
"""

import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imgclf.data.imageset import ImageFile, ImageSet, Part
from imgclf.data.scan import PART_NAMES, class_name
from imgclf.data.sheet import read_sheet
from imgclf.errors import InputError
from imgclf.progress import plural
from imgclf.storage.places import CHAIN, is_address, place
from imgclf.storage.remote import NOT_LISTED, looked_into, with_found

# What people call the columns; of several that are there, the first named here is taken.
COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "filepath", "image_path", "file", "filename", "image"),
    "label": ("label", "class", "category"),
    "split": ("split", "part", "set", "subset"),
    "group": ("group", "group_id", "patient", "object"),
}
REQUIRED = ("path", "label")
SHOWN = 3  # missing files that an error names
EXPECTED = "expected one row per image, with the columns path and label, and split and group if you have them"


def read_table(csv_path: Path, folder: Path | None = None) -> ImageSet:
    """Read a table of images: which file has which label, and, if it says so, which part and group.

    The first row names the columns (see `COLUMN_NAMES`; in any order and letter case; others are ignored). Cells are
    separated by commas, semicolons or tabs. A path is an address, absolute, or relative to the folder of the table, or
    else to `folder`; backslashes are taken for slashes where that leads to a file. A row that occurs twice counts once.

    Args:
        csv_path: the table, UTF-8 (or UTF-16 with its mark, as spreadsheets write it); may be at an address.
        folder: where to look for images that are not found beside the table; may be at an address.

    Returns:
        The set, sorted as `scan` sorts; `root` is `folder`, or the folder of the table. A file that is missing stays in
        it, for `inspect` to name. Once any row has a part, rows without one are for training.

    Raises:
        InputError: the table cannot be read, lacks a column, or has no rows; a row without path or label, with a
            strange part, or that contradicts another; fewer than two classes; more than half of the files missing.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"there is no folder {folder}", "expected the folder that the paths of the table start from")
    bases = [csv_path.parent] if folder is None else [csv_path.parent, folder]
    rows = read_sheet(csv_path, COLUMN_NAMES, REQUIRED, EXPECTED)
    read = [_row(csv_path, number, cells) for number, cells in rows]
    with _existing([row.path for row in read], bases) as exists:
        files = _distinct(csv_path, read, bases, exists)
        _require_files(csv_path, bases, files)
        places = with_found([file.place for file in files])
    has_parts = any(file.row.part for file in files)
    if has_parts and all(file.row.part in ("val", "test") for file in files):
        raise InputError(f"no row of {csv_path} is for training", "call the part of some rows train, or leave it empty")
    images = (_image(file.row, path, has_parts) for file, path in zip(files, places, strict=True))
    classes = tuple(sorted({file.row.label for file in files}))
    if len(classes) < 2:
        raise InputError(f"{csv_path} holds only one class ({classes[0]!r})", "expected two classes or more")
    return ImageSet(
        bases[-1], classes, tuple(sorted(images, key=lambda image: image.place)), has_parts=has_parts, listed=True
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """One image as the table has it; `number` counts the header as 1, as a spreadsheet does."""

    number: int
    path: str
    label: str
    part: Part
    group: str


@dataclass(frozen=True, slots=True)
class _File:
    """A row, and where its file is, or would be."""

    row: _Row
    place: str
    found: bool


def _row(path: Path, number: int, cells: dict[str, str]) -> _Row:
    label = class_name(cells["label"].strip())
    word = cells.get("split", "").strip()
    for name, value in (("path", cells["path"].strip()), ("label", label)):
        if not value:
            raise InputError(f"row {number} of {path} has no {name}", EXPECTED)
    if word and word.casefold() not in PART_NAMES:
        known = ", ".join(sorted(PART_NAMES))
        raise InputError(f"row {number} of {path} is in the part {word!r}", f"expected one of {known}, or nothing")
    part = PART_NAMES[word.casefold()] if word else ""
    return _Row(number, cells["path"], label, part, unicodedata.normalize("NFC", cells.get("group", "").strip()))


def _distinct(path: Path, rows: Iterable[_Row], bases: Sequence[Path], exists: Callable[[str], bool]) -> list[_File]:
    """The files that the rows name, each once; at least one."""
    seen: dict[str, _File] = {}
    for row in rows:
        found = next(filter(exists, _candidates(row.path, bases)), None)
        file = _File(row, found or _below(bases[-1], row.path.strip()), found is not None)
        first = seen.setdefault(os.path.normcase(os.path.normpath(file.place)), file).row
        for what, one, other in (
            ("label", first.label, row.label),
            ("part", first.part, row.part),
            ("group", first.group, row.group),
        ):
            if one != other:
                raise InputError(
                    f"rows {first.number} and {row.number} of {path} give {row.path.strip()} the {what} {one!r} and "
                    f"{other!r}", f"an image has one {what}: remove one of the rows",
                )  # fmt: skip
    if not seen:
        raise InputError(f"{path} has no rows below its header", EXPECTED)
    return list(seen.values())


def _candidates(path: str, bases: Sequence[Path]) -> Iterator[str]:
    """Where the file may be. Names may begin with a space, and backslashes may be part of a name on Linux."""
    for spelling in dict.fromkeys((path, path.strip(), path.strip().replace("\\", "/"))):
        for base in bases:
            yield _below(base, spelling)


def _below(base: Path, path: str) -> str:
    """A path that may be relative to a folder. A million of them: text is enough."""
    if is_address(path):
        return str(place(path))
    if not is_address(base) or path.startswith("/"):
        return os.path.join(base, path)  # noqa: PTH118
    if CHAIN in str(base):
        return str(base / path)
    root, _, below = str(base).partition("://")
    return f"{root}://{posixpath.normpath(f'{below}/{path}')}"


@contextmanager
def _existing(paths: Iterable[str], bases: Sequence[Path]) -> Iterator[Callable[[str], bool]]:
    """Within the block, whether a file is there. Folders at addresses have been listed, each once.

    What a server of web pages has is not asked here, nor what is within an archive.
    """
    addresses = {name for path in paths for name in _candidates(path, bases) if _is_listed(name)}
    with looked_into({name.rpartition("/")[0] for name in addresses}) as folders:
        there = {f"{folder}/{entry.name}" for folder, entries in folders.items() for entry in entries
                 if not entry.folder}  # fmt: skip
        yield (
            lambda name: (
                name in there if name in addresses else is_address(name) or os.path.isfile(name)  # noqa: PTH113
            )
        )


def _is_listed(name: str) -> bool:
    return is_address(name) and CHAIN not in name and not name.startswith(NOT_LISTED)


def _require_files(path: Path, bases: Sequence[Path], files: Sequence[_File]) -> None:
    missing = [file.row.path.strip() for file in files if not file.found]
    if 2 * len(missing) <= len(files):
        return
    shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    tried = " and ".join(str(base) for base in bases)
    raise InputError(
        f"{len(missing)} of the {plural(len(files), 'file')} that {path} names are not there ({shown}); looked in "
        f"{tried}", "paths start from the folder of the table; give the folder of the images too if they are elsewhere",
    )  # fmt: skip


def _image(row: _Row, path: Path, has_parts: bool) -> ImageFile:
    return ImageFile(path, row.label, row.part or ("train" if has_parts else ""), group=row.group)
