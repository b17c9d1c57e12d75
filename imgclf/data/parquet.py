"""Parquet files of images and labels, as Hugging Face and others write them. May import samples, members, errors.

pyarrow (the extra `parquet`) is imported where it is used. Rows are read in batches of some megabytes, whatever the
size of the row groups.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from imgclf.data.members import bomb, most_bytes
from imgclf.data.samples import (
    GROUP_NAMES,
    LABEL_NAMES,
    NO_PICTURE,
    UNLABELLED,
    Content,
    Sample,
    Sink,
    image_name,
    label_of,
)
from imgclf.data.scan import is_image_name, is_junk
from imgclf.errors import ImgclfError, InputError, SetupError
from imgclf.storage.places import Address

MARK = b"PAR1"  # how a Parquet file begins and ends
SUFFIXES = (".parquet", ".pq")
EXTRA = "parquet"

# What people call the column of images; of several the first named here is taken.
IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "image_bytes", "bytes",
               "image/encoded", "content", "data")  # fmt: skip

BATCH_BYTES = 16_000_000  # of images that are in memory at once
MAX_ROWS = 100  # of a batch; what a dictionary says of many rows is small in the file only
BUFFER = 1 << 20  # bytes of a column read at once; without it a column of a whole row group would be
SHOWN = 20  # columns that an error lists


@dataclass(frozen=True)
class Columns:
    """The columns that the user has named; None: by what they are called and hold."""

    image: str | None = None
    label: str | None = None


NO_COLUMNS = Columns()


class _Image(NamedTuple):
    """The column of images: its name, and whether it is a struct of bytes and path."""

    name: str
    struct: bool
    has_path: bool


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its name or else, here, by its first bytes."""
    if path.name.casefold().endswith(SUFFIXES):
        return path.is_file()
    if isinstance(path, Address) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK
    except OSError:
        return False


def import_pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        SetupError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        fix = f"pip install 'imgclf[{EXTRA}]'"
        raise SetupError("Parquet files need pyarrow, which is not installed", fix) from None
    return pyarrow, pyarrow.parquet


def read_parquet(path: Path, sink: Sink, columns: Columns) -> Content:
    """Read a file: every row with an image and a label goes to the sink.

    An image is a column of bytes, or of Hugging Face's {bytes, path}; a label is text or a number, whose name may be in
    the schema (Hugging Face's ClassLabel).

    Args:
        path: the file.
        sink: takes the images, named by their path, or else by the number of the row.
        columns: those that the user has named.

    Raises:
        InputError: the file is damaged or a bomb, or there is a doubt which columns are meant.
        SetupError: pyarrow is missing, or the disk has too little room.
        OSError: an image cannot be written.
    """
    _, pq = import_pyarrow()
    with _reading(path):
        opened = path.open("rb")
    with opened:
        with _reading(path):
            file = pq.ParquetFile(opened, buffer_size=BUFFER, pre_buffer=False)
            schema, total, size = file.schema_arrow, file.metadata.num_rows, path.stat().st_size
            unpacked = sum(file.metadata.row_group(index).total_byte_size for index in range(file.num_row_groups))
        if unpacked > most_bytes(size):
            raise bomb(path)
        image = _image_column(path, schema, columns.image)
        label = _label_column(path, schema, image.name, columns.label)
        group = next((name for name in GROUP_NAMES if name in schema.names and name not in (image.name, label)), None)
        names = _label_names(schema, label)
        samples: list[Sample] = []
        left_out: defaultdict[str, list[str]] = defaultdict(list)
        digits = len(str(max(total - 1, 0)))
        rows = _rows(path, file, image, label, group, unpacked, total)
        for number, (content, place, value, grouped) in enumerate(rows):
            shown, told = f"row {number:0{digits}}", label_of(value)
            if told is None or not content:
                left_out[NO_PICTURE if told is not None else UNLABELLED].append(shown)
            else:
                known = _parts(place)
                parts = known or (f"{number:0{digits}}",)
                if not known or _wrong_name(parts[-1]):
                    parts = (*parts[:-1], image_name(parts[-1], content))
                samples.append(Sample(sink.add(parts, (content,)), told, "" if grouped is None else str(grouped)))
            sink.reached(size * (number + 1) // max(total, 1))
    return Content(tuple(samples), names, {kind: tuple(lost) for kind, lost in left_out.items()})


def _rows(
    path: Path, file: Any, image: _Image, label: str, group: str | None, unpacked: int, total: int
) -> Iterator[tuple[bytes | None, str | None, Any, Any]]:
    """Image, its path, label and group of every row."""
    wanted = [f"{image.name}.bytes", f"{image.name}.path"] if image.struct else [image.name]
    rows = max(1, min(MAX_ROWS, BATCH_BYTES * total // max(unpacked, 1)))
    with _reading(path):
        batches = file.iter_batches(rows, columns=[*wanted, label, *([group] if group else [])], use_threads=False)
    while True:
        with _reading(path):
            batch = next(batches, None)
            if batch is None:
                return
            content, places = batch.column(image.name), [None] * batch.num_rows
            if image.struct:
                inner = dict(zip([field.name for field in content.type], content.flatten(), strict=True))
                content, places = inner["bytes"], inner["path"].to_pylist() if image.has_path else places
            labels = batch.column(label).to_pylist()
            groups = batch.column(group).to_pylist() if group else [None] * batch.num_rows
        for index in range(batch.num_rows):
            with _reading(path):
                data = content[index].as_py()
            yield data, places[index], labels[index], groups[index]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into one InputError that names it."""
    try:
        yield
    except (ImgclfError, MemoryError):
        raise
    except Exception as error:  # what is damaged fails in whatever its reader runs into
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} is damaged or no Parquet file ({reason})", "download or copy it again") from None


def _image_column(path: Path, schema: Any, named: str | None) -> _Image:
    found = {field.name: image for field in schema if (image := _as_image(field)) is not None}
    chosen = _choose(path, schema, named, list(found), IMAGE_NAMES, "image", "bytes, or {bytes, path}")
    return found[chosen]


def _as_image(field: Any) -> _Image | None:
    pa, _ = import_pyarrow()
    if _is_bytes(pa, field.type):
        return _Image(field.name, False, False)
    if not pa.types.is_struct(field.type):
        return None
    inner = {inner.name: inner.type for inner in field.type}
    if "bytes" not in inner or not _is_bytes(pa, inner["bytes"]):
        return None
    return _Image(field.name, True, "path" in inner and _is_text(pa, inner["path"]))


def _label_column(path: Path, schema: Any, image: str, named: str | None) -> str:
    pa, _ = import_pyarrow()
    found = [field.name for field in schema if field.name != image and _is_label(pa, field.type)]
    classed = [name for name in found if _label_names(schema, name)]
    if named is None and len(classed) == 1:
        return str(classed[0])
    return _choose(path, schema, named, found, LABEL_NAMES, "label", "text or whole numbers", guess=False)


def _choose(
    path: Path, schema: Any, named: str | None, found: list[str], usual: Sequence[str], what: str, kind: str,
    guess: bool = True,
) -> str:  # fmt: skip
    """The column that is named, or one of a usual name, or the only one there is."""
    if named is not None:
        if named in found:
            return named
        lacks = f"is {schema.field(named).type}, not {kind}" if named in schema.names else "is not there"
        raise InputError(f"the column {named!r} of {path} {lacks}", f"the columns are {_shown(schema)}")
    folded = {name.casefold(): name for name in reversed(found)}
    for name in usual:
        if name in folded:
            return folded[name]
    if guess and len(found) == 1:
        return found[0]
    raise InputError(f"no column of {path} is surely the {what} ({_shown(schema)})",
                     f"name one of {kind}: DATA::{what}=COLUMN")  # fmt: skip


def _shown(schema: Any) -> str:
    shown = [f"{field.name}: {str(field.type)[:60]}" for field in list(schema)[:SHOWN]]
    more = f" and {len(schema) - SHOWN} more" if len(schema) > SHOWN else ""
    return ", ".join(shown) + more


def _label_names(schema: Any, column: str) -> tuple[str, ...]:
    """The names of Hugging Face's ClassLabel, which are in the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[column]["names"] if features[column].get("_type") == "ClassLabel" else ()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _is_bytes(pa: Any, kind: Any) -> bool:
    types = pa.types
    return any(check(kind) for check in (types.is_binary, types.is_large_binary, types.is_binary_view))


def _is_text(pa: Any, kind: Any) -> bool:
    types = pa.types
    return any(check(kind) for check in (types.is_string, types.is_large_string, types.is_string_view))


def _is_label(pa: Any, kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_label(pa, kind.value_type)
    types = pa.types
    return _is_text(pa, kind) or any(check(kind) for check in (types.is_integer, types.is_boolean, types.is_floating))


def _parts(place: str | None) -> tuple[str, ...]:
    """The folders and the name of an image's path, as far as it stays within its folder."""
    if not place:
        return ()
    parts = place.replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", ".", "..") and "\0" not in part)


def _wrong_name(name: str) -> bool:
    """Whether a name says that a file is no image, or that it is hidden."""
    return is_junk(name) or is_image_name(name) is False
