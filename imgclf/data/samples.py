"""What one shard holds: labelled samples, class names, what is left out. Imports filenames, formats, scan (names) and
patience (of an address).

A reader of a kind of shard (`webdataset.py`, `parquet.py`) hands image bytes to a `Sink` and returns a `Content`.
"""

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from imgclf.data.scan import NO_IMAGE
from imgclf.formats import EXTENSIONS, SNIFF_BYTES, sniff
from imgclf.storage.patience import Denied

UNLABELLED = "sample without a label"
NO_PICTURE = "sample without an image"
OTHER_FILE = NO_IMAGE  # a file of a shard that is neither image nor label; pickles are, and are never opened

# What people call a label and its group, in JSON and in columns; of several the first named here is taken.
LABEL_NAMES = ("label_name", "class_name", "category_name", "label", "class", "labels", "cls", "category", "target",
               "fine_label", "y", "class_id", "label_id", "category_id", "classes")  # fmt: skip
GROUP_NAMES = ("group", "group_id", "patient", "object")

NAME_FILES = ("classes.txt", "labels.txt", "class_names.txt", "classes.json", "labels.json", "class_names.json",
              "dataset_info.json", "dataset_infos.json", "dataset.json")  # fmt: skip
NAME_KEYS = ("names", "classes", "class_names", "labels", "label_names")
MAX_NAMES_BYTES = 16_000_000  # of a file of class names
MAX_NESTING = 20  # of a JSON that class names are looked for in

Label = int | str

_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,8}")


class Sample(NamedTuple):
    """One image of a shard.

    Attributes:
        file: its path below the shard's folder in the cache, with forward slashes.
        label: the name of the class, or its number.
        group: what it belongs to; "" for none.
    """

    file: str
    label: Label
    group: str = ""


@dataclass(frozen=True)
class Content:
    """What a shard holds.

    Attributes:
        samples: its labelled images, in its own order.
        names: class names by number, where the shard itself knows them.
        left_out: what is not among the samples: kind to the names of samples or files.
    """

    samples: tuple[Sample, ...]
    names: tuple[str, ...] = ()
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Sink(Protocol):
    """Where a reader puts the bytes of images."""

    def add(self, parts: tuple[str, ...], pieces: Iterable[bytes]) -> str:
        """Write a file of this name, or of one like it; gives its path below the shard's folder."""

    def drop(self, file: str) -> None:
        """Remove a file that `add` has written."""

    def reached(self, position: int) -> None:
        """Say how many bytes of the shard have been read."""


def label_of(value: Any) -> Label | None:
    """The label that a value of JSON or of a column is: a number, a name (also "3"), or None where it is none.

    Negative numbers are no labels: so Hugging Face and others write what has none.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():  # numbers of a column with gaps, as pandas writes them
        value = int(value)
    if isinstance(value, int):
        return value if value >= 0 else None
    if not isinstance(value, str):
        return None
    return value.strip().encode("utf-8", "replace").decode() or None


def label_of_text(text: str) -> Label | None:
    """The label that a file of text is, where numbers and names look alike: `3` is a number, `003` a name."""
    plain = text.strip()
    return label_of(int(plain) if _NUMBER.fullmatch(plain) else plain)


def class_names(text: bytes, is_json: bool) -> tuple[str, ...]:
    """The class names by number that a file gives; () where it gives none.

    Args:
        text: one name a line; or JSON: a list of names, a table of numbers and names, or anything that holds one of
            these as `names` or `classes`, as Hugging Face's features do.
        is_json: which of the two.
    """
    try:
        if is_json:
            return _names_in(json.loads(text.decode("utf-8-sig")), MAX_NESTING)
        return tuple(line.strip() for line in text.decode("utf-8-sig").rstrip().splitlines())
    except (ValueError, RecursionError):
        return ()


def names_beside(folders: Iterable[Path]) -> tuple[str, ...]:
    """The class names by number that a file in one of these folders gives; of several the first that gives any."""
    for folder in folders:
        for name in NAME_FILES:
            found = class_names(_small(folder / name), name.endswith(".json"))
            if found:
                return found
    return ()


def _small(path: Path) -> bytes:
    """The content of a file that may be there, if it is a small one."""
    with contextlib.suppress(Denied):  # what a bucket that may not be listed says of what is not there
        if path.is_file() and path.stat().st_size <= MAX_NAMES_BYTES:
            return path.read_bytes()
    return b""


def image_name(name: str, head: bytes) -> str:
    """A name under which an image file is one here: as it is, or with the extension of its content.

    Args:
        name: of the file, without folders.
        head: its first bytes.
    """
    if Path(name).suffix.lower() in EXTENSIONS:
        return name
    return f"{name}{suffix_of(sniff(head[:SNIFF_BYTES]))}"


def suffix_of(content: str) -> str:
    """The extension that files of a format ("JPEG") have; ".image" for what is none."""
    return next((suffix for suffix, kinds in EXTENSIONS.items() if content in kinds), ".image")


def _names_in(value: Any, depth: int) -> tuple[str, ...]:
    if depth == 0:
        return ()
    if isinstance(value, list):
        return tuple(value) if value and all(isinstance(item, str) for item in value) else ()
    if not isinstance(value, dict) or not value:
        return ()
    table = _table(value)
    if table:
        return table
    for key in NAME_KEYS:
        found = _names_in(value.get(key), depth - 1)
        if found:
            return found
    return next((found for inner in value.values() if isinstance(inner, dict)
                 and (found := _names_in(inner, depth - 1))), ())  # fmt: skip


def _table(value: dict[str, Any]) -> tuple[str, ...]:
    """Names by number of {"0": "cat", "1": "dog"} or {"cat": 0, "dog": 1}."""
    if all(isinstance(name, str) for name in value.values()) and all(key.isdecimal() for key in value):
        numbered = {int(key): name for key, name in value.items()}
    elif all(type(number) is int for number in value.values()):
        numbered = {number: name for name, number in value.items()}
    else:
        return ()
    whole = sorted(numbered) == list(range(len(value)))
    return tuple(numbered[number] for number in range(len(value))) if whole else ()
