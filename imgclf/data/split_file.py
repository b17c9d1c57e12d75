"""split.csv: which image is in which part, as a table that people may edit. May import sheet, scan, runs,
places.
"""

from pathlib import Path
from typing import NamedTuple

from imgclf import runs
from imgclf.data.imageset import ImageFile, ImageSet, Part
from imgclf.data.scan import PART_NAMES
from imgclf.data.sheet import read_sheet
from imgclf.errors import InputError
from imgclf.storage.places import below

COLUMNS = ("path", "label", "part", "key")
EXPECTED = f"expected the split of a run or of `imgclf data split`, with the columns {','.join(COLUMNS)}"


class SplitRow(NamedTuple):
    """One row of split.csv: path relative to the image folder, with forward slashes."""

    path: str
    label: str
    part: Part
    key: str


def write_split(images: ImageSet, path: Path) -> None:
    """Write split.csv: one row per image that has a part.

    Args:
        images: inspected images with parts.
        path: the file to write, atomically.

    Raises:
        SetupError: it cannot be written.
    """
    rows = [(images.name_of(image), image.label, image.part, image.key) for image in images.usable]
    runs.write_csv(path, COLUMNS, rows)


def read_rows(path: Path) -> tuple[SplitRow, ...]:
    """Read split.csv, as imgclf or a spreadsheet wrote it; the columns label and key may be missing.

    Raises:
        InputError: it is missing, or a row has no path or no part.
    """
    rows = []
    for number, cells in read_sheet(path, {name: (name,) for name in COLUMNS}, ("path", "part"), EXPECTED, own=True):
        part = PART_NAMES.get(cells["part"].strip().casefold())
        if not cells["path"] or part is None:
            found = repr(cells["part"])
            raise InputError(f"row {number} of {path} has {f'the part {found}' if cells['path'] else 'no path'}",
                             "expected a path, and train, val or test")  # fmt: skip
        rows.append(SplitRow(cells["path"], cells.get("label", ""), part, cells.get("key", "").strip().lower()))
    return tuple(rows)


def images_in(path: Path, root: Path, part: Part) -> tuple[ImageFile, ...]:
    """The images of a part of a run.

    Args:
        path: its split.csv.
        root: the folder of images that it was made of.
        part: the part.

    Raises:
        InputError: split.csv is missing or not of this form.
    """
    return tuple(
        ImageFile(below(root, row.path), row.label, row.part, row.key) for row in read_rows(path) if row.part == part
    )
