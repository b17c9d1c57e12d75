"""A CSV of paths and labels -> ImageSet. May import sheet, scan (its part names), imageset, progress.

No image is opened here, and nothing is guessed: a row that can be read in two ways is an error that names the row.
"""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgclf.data.imageset import ImageFile, ImageSet, Part
from imgclf.data.scan import PART_NAMES, class_name
from imgclf.data.sheet import read_sheet
from imgclf.errors import InputError
from imgclf.progress import plural

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
    separated by commas, semicolons or tabs. A path is absolute or relative to the folder of the table, or else to
    `folder`; backslashes are taken for slashes where that leads to a file. A row that occurs twice counts once.

    Args:
        csv_path: the table, UTF-8 (or UTF-16 with its mark, as spreadsheets write it).
        folder: where to look for images that are not found beside the table.

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
    files = _distinct(csv_path, (_row(csv_path, number, cells) for number, cells in rows), bases)
    _require_files(csv_path, bases, files)
    has_parts = any(file.row.part for file in files)
    if has_parts and all(file.row.part in ("val", "test") for file in files):
        raise InputError(f"no row of {csv_path} is for training", "call the part of some rows train, or leave it empty")
    images = (_image(file, has_parts) for file in files)
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


def _distinct(path: Path, rows: Iterable[_Row], bases: Sequence[Path]) -> list[_File]:
    """The files that the rows name, each once; at least one."""
    seen: dict[str, _File] = {}
    for row in rows:
        place = _locate(row.path, bases)
        file = _File(row, place or os.path.join(bases[-1], row.path.strip()), place is not None)  # noqa: PTH118
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


def _locate(path: str, bases: Sequence[Path]) -> str | None:
    """Where the file is, or None. Names may begin with a space, and backslashes may be part of a name on Linux."""
    for spelling in dict.fromkeys((path, path.strip(), path.strip().replace("\\", "/"))):
        for base in bases:
            place = os.path.join(base, spelling)  # noqa: PTH118 (a million paths: text is enough)
            if os.path.isfile(place):  # noqa: PTH113
                return place
    return None


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


def _image(file: _File, has_parts: bool) -> ImageFile:
    part: Part = file.row.part or ("train" if has_parts else "")
    return ImageFile(Path(file.place), file.row.label, part, group=file.row.group)
