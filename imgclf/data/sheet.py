"""Tables that people edit: CSV files as programs and spreadsheets write them. May import runs, errors.

A byte order mark, semicolons or tabs for commas, other line ends, another order of columns, empty rows and further
columns are all fine. What cannot be made sense of is said by row, the header being row 1, as a spreadsheet counts.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from imgclf.errors import InputError
from imgclf.runs import require_no_device

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
SHOWN_COLUMNS = 8


class Row(NamedTuple):
    """One row: its number, and its cells by column; a column that the table lacks is missing, an empty cell is ""."""

    number: int
    cells: dict[str, str]


def read_sheet(
    path: Path, columns: Mapping[str, Sequence[str]], required: Sequence[str], expected: str, *, own: bool = False
) -> list[Row]:
    """Read a table.

    Args:
        path: the file.
        columns: column -> the names it may have in the header, in lower case; the first that is there counts.
        required: the columns that must be there.
        expected: what an error says was expected.
        own: the file is one that imgclf writes: names in it may begin with spaces and hold bytes that are no Unicode.

    Returns:
        The rows that are not empty.

    Raises:
        InputError: it is missing, no text, or lacks a column; a row has more cells than the header, a quote is never
            closed.
    """
    text = _text(path, expected, own)
    delimiter, places, width = _header(path, text, columns, required, expected, own)
    rows = []
    table = _cells(path, text, delimiter, own)
    next(table)
    for number, cells in table:
        if any(cell.strip() for cell in cells[width:]):
            fix = f"put quotes around a name that holds {DELIMITERS[delimiter]}"
            raise InputError(f"row {number} of {path} has {len(cells)} cells, its header {width}", fix)
        rows.append(Row(number, {kind: cells[at] if at < len(cells) else "" for kind, at in places.items()}))
    return rows


def _text(path: Path, expected: str, own: bool) -> str:
    require_no_device(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", expected) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})", expected) from None
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding, "surrogateescape" if own else "strict")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} is not UTF-8 (line {line})", "save it as `CSV UTF-8`") from None
    if "\0" in text:
        raise InputError(f"{path} is not a text file", expected)
    return text


def _cells(path: Path, text: str, delimiter: str, own: bool) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not empty, with its number."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=not own, strict=True)
    number = 0
    try:
        for number, cells in enumerate(reader, 1):
            if any(cell.strip() for cell in cells):
                yield number, cells
    except csv.Error as error:  # strict: a quote that is never closed would swallow the rest of the table in silence
        fix = "check its quotes; a quote within a quoted name is doubled"
        raise InputError(f"{path} cannot be read after row {number} ({error})", fix) from None


def _header(
    path: Path, text: str, columns: Mapping[str, Sequence[str]], required: Sequence[str], expected: str, own: bool
) -> tuple[str, dict[str, int], int]:
    """The delimiter, the place of each column, and the number of columns."""
    headers = {delimiter: _first(path, text, delimiter, own) for delimiter in DELIMITERS}
    found = {delimiter: _places(path, names, columns) for delimiter, names in headers.items()}
    delimiter = max(DELIMITERS, key=lambda one: (len(found[one]), len(headers[one])))
    names, places = headers[delimiter], found[delimiter]
    if not any(names):
        next(_cells(path, text, ",", own), None)  # says what is wrong with a header that cannot be read
        raise InputError(f"{path} is empty", expected)
    missing = [kind for kind in required if kind not in places]
    if missing:
        shown = ", ".join(repr(name[:40]) for name in names[:SHOWN_COLUMNS])
        more = f" and {len(names) - SHOWN_COLUMNS} more" if len(names) > SHOWN_COLUMNS else ""
        raise InputError(
            f"{path} has no column {' and no column '.join(missing)}; its first row is {shown}{more}", expected
        )
    return delimiter, places, len(names)


def _first(path: Path, text: str, delimiter: str, own: bool) -> list[str]:
    """The names of the columns, or nothing where the text cannot be read with this delimiter."""
    try:
        _, cells = next(_cells(path, text, delimiter, own), (0, []))
    except InputError:
        return []
    return [cell.strip().casefold().replace(" ", "_") for cell in cells]


def _places(path: Path, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    places = {}
    for kind, known in columns.items():
        taken = next((name for name in known if name in names), None)
        if taken is None:
            continue
        if names.count(taken) > 1:
            raise InputError(f"{path} has two columns called {taken!r}", "give each column a name of its own")
        places[kind] = names.index(taken)
    return places
