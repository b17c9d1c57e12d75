"""suspects.csv: likely label errors and what a person decided about each. May import sheet and runs.

People edit this file: in the page of `imgclf review`, in a spreadsheet, in a text editor. So reading takes what those
make of it (a byte order mark, semicolons and decimal commas, another order of columns, empty rows), and says by row
what it cannot make sense of.
"""

import math
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from imgclf import runs
from imgclf.data.sheet import read_sheet
from imgclf.errors import InputError
from imgclf.storage.places import Address, is_address, place

Action = Literal["", "keep", "relabel", "exclude"]

ACTIONS: tuple[Action, ...] = get_args(Action)
SUSPECT_COLUMNS = ("path", "label", "suggested", "confidence", "action", "new_label", "key")
REQUIRED = ("path", "label")
SURE = 0.8  # confidence from which a suggestion is followed without a person
EXPECTED = f"expected a table with the columns {','.join(SUSPECT_COLUMNS)}"


@dataclass(frozen=True, slots=True)
class Suspect:
    """One image whose label is probably wrong.

    Attributes:
        path: the user's own file, absolute.
        label: the class it has.
        suggested: the class that it probably should have; may be "".
        confidence: probability of the suggested class, 0..1.
        action: what is to be done: "keep" the label, "relabel" to `new_label`, or "exclude" the image from training;
            "" while nobody has decided; see `outcome` for what becomes of it then.
        new_label: the class that "relabel" gives it; "" with every other action.
        key: hash of the file's bytes, 32 hexadecimal digits; may be "".
    """

    path: Path
    label: str
    suggested: str = ""
    confidence: float = 0.0
    action: Action = ""
    new_label: str = ""
    key: str = ""

    @property
    def outcome(self) -> tuple[Action, str]:
        """What training does with it: the action, and the new label of "relabel".

        What nobody has decided is relabelled where imgclf's suggestion is sure, and left out where it is not: of 69
        suggestions of 0.8 or more 57 were right, of all 244 fewer than half (docs/benchmarks.md). That is for training
        images only, see fixes.py. A row without suggestion and action is kept.
        """
        if self.action:
            return self.action, self.new_label
        if not self.suggested:
            return "keep", ""
        return ("relabel", self.suggested) if self.confidence >= SURE else ("exclude", "")


def write_suspects(path: Path, suspects: Iterable[Suspect]) -> None:
    """Write suspects.csv.

    Args:
        path: the file to write, atomically. The images' paths are written relative to its folder, with forward slashes,
            so that folder and images can be moved together.
        suspects: the rows, in this order.

    Raises:
        SetupError: it cannot be written.
    """
    folder = path.absolute().parent
    rows = [
        (shown_path(suspect.path, folder), suspect.label, suspect.suggested, f"{suspect.confidence:.6g}",
         suspect.action, suspect.new_label, suspect.key)
        for suspect in suspects
    ]  # fmt: skip
    runs.write_csv(path, SUSPECT_COLUMNS, rows)


def with_decisions(suspects: Iterable[Suspect], earlier: Iterable[Suspect]) -> list[Suspect]:
    """New suspects with what was decided about them before; what is decided about other images stays, at the end."""
    decided = {suspect.path: suspect for suspect in earlier if suspect.action}
    merged = []
    for suspect in suspects:
        known = decided.pop(suspect.path, None)
        same = known is not None and known.label == suspect.label
        merged.append(replace(suspect, action=known.action, new_label=known.new_label) if known and same else suspect)
    return [*merged, *decided.values()]


def read_suspects(path: Path) -> tuple[Suspect, ...]:
    """Read suspects.csv, as `write_suspects` or a spreadsheet wrote it.

    An empty action means that nobody has decided. "relabel" without a new_label takes the suggested class. A key
    that is no key (a spreadsheet may take one for a number) is read as "".

    Args:
        path: the file; columns path and label are required, and suggested or action. Relative paths of images are taken
            from its folder.

    Raises:
        InputError: it is missing or lacks a column, or a row (the header being row 1, as spreadsheets count) has no
            path, the path of an earlier row, an unknown action, no class to relabel to, a new_label without an action,
            a confidence that is no probability, or more fields than the header.
    """
    folder = path.absolute().parent
    suspects = []
    first: dict[str, int] = {}
    rows = read_sheet(path, {name: (name,) for name in SUSPECT_COLUMNS}, REQUIRED, EXPECTED, own=True)
    for number, cells in rows:
        suspect = _suspect(cells, folder, path, number)
        earlier = first.setdefault(os.path.normcase(suspect.path), number)
        if earlier != number:
            raise _at(path, number, f"has the same path as row {earlier}", "leave one of the two")
        suspects.append(suspect)
    if rows and not {"suggested", "action"} & rows[0].cells.keys():  # a table of images, perhaps
        raise InputError(f"{path} has neither a column suggested nor a column action", EXPECTED)
    return tuple(suspects)


def shown_path(path: Path, folder: Path) -> str:
    """The path of an image as suspects.csv in `folder` has it: relative where there is a way, with forward slashes."""
    if isinstance(path, Address):
        return str(path)
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive, on Windows
        return path.as_posix()


def _suspect(row: Mapping[str, str], folder: Path, path: Path, number: int) -> Suspect:
    if not row.get("path", "").strip():
        raise _at(path, number, "has no path", "write the path of an image, or remove the row")
    action = row.get("action", "").strip().lower()
    if action not in ACTIONS:
        raise _at(path, number, f"has the unknown action {action!r}", "expected keep, relabel, exclude or nothing")
    suggested, new_label = _name(row, "suggested"), _name(row, "new_label").strip()
    if action == "" and new_label:
        raise _at(path, number, "has a new_label but no action", "write relabel into action, or clear new_label")
    if action == "relabel" and not (new_label or suggested):
        raise _at(path, number, "says relabel, but not to which class", "write the class into new_label")
    if "\0" in row["path"]:
        raise _at(path, number, "has a path that no file can have", "write the path of an image, or remove the row")
    key = row.get("key", "").strip().lower()
    return Suspect(
        path=place(row["path"]) if is_address(row["path"]) else Path(os.path.normpath(folder / row["path"])),
        label=_name(row, "label"),
        suggested=suggested,
        confidence=_confidence(row.get("confidence", ""), path, number),
        action=action,
        new_label=(new_label or suggested) if action == "relabel" else "",
        key=key if re.fullmatch("[0-9a-f]{32}", key) else "",
    )


def _name(row: Mapping[str, str], column: str) -> str:
    """A class name, NFC-normalized as `scan` gives them."""
    return unicodedata.normalize("NFC", row.get(column, ""))


def _confidence(text: str, path: Path, number: int) -> float:
    """A probability as people and spreadsheets write it: 0.93, 0,93 or 93 %."""
    plain = text.strip().replace(",", ".")
    percent = plain.endswith("%")
    try:
        value = float(plain.removesuffix("%") or 0) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise _at(path, number, f"has the confidence {text.strip()!r}", "expected a number from 0 to 1")
    return value


def _at(path: Path, number: int, what: str, fix: str) -> InputError:
    return InputError(f"{path}: row {number} {what}", fix)
