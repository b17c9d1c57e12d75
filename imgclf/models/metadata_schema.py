"""The tables of TensorFlow Lite's metadata, written and read. May import flatbuffers and NumPy.

The fields are those of `metadata_schema.fbs` of TensorFlow Lite (file identifier M001), as far as images need them;
what a file has besides is left out when it is read. See https://flatbuffers.dev/internals for the bytes.
"""

from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import encode as flat
from flatbuffers import number_types, packer
from flatbuffers.table import Table

IDENTIFIER = b"M001"

# Table -> its fields in the order of the schema. A union takes two places: which of its tables, and that table.
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "ModelMetadata": (
        ("name", "string"), ("description", "string"), ("version", "string"),
        ("subgraph_metadata", "[SubGraphMetadata]"), ("author", "string"), ("license", "string"),
        ("associated_files", "[AssociatedFile]"), ("min_parser_version", "string"),
    ),
    "SubGraphMetadata": (
        ("name", "string"), ("description", "string"), ("input_tensor_metadata", "[TensorMetadata]"),
        ("output_tensor_metadata", "[TensorMetadata]"), ("associated_files", "[AssociatedFile]"),
    ),
    "TensorMetadata": (
        ("name", "string"), ("description", "string"), ("dimension_names", "[string]"), ("content", "Content"),
        ("process_units", "[ProcessUnit]"), ("stats", "Stats"), ("associated_files", "[AssociatedFile]"),
    ),
    "AssociatedFile": (
        ("name", "string"), ("description", "string"), ("type", "byte"), ("locale", "string"), ("version", "string"),
    ),
    "Content": (("content_properties", "|ContentProperties"), ("range", "ValueRange")),
    "FeatureProperties": (),
    "ImageProperties": (("color_space", "byte"), ("default_size", "ImageSize")),
    "ImageSize": (("width", "uint"), ("height", "uint")),
    "ValueRange": (("min", "int"), ("max", "int")),
    "ProcessUnit": (("options", "|ProcessUnitOptions"),),
    "NormalizationOptions": (("mean", "[float]"), ("std", "[float]")),
    "ScoreThresholdingOptions": (("global_score_threshold", "float"),),
    "Stats": (("max", "[float]"), ("min", "[float]")),
}  # fmt: skip

# Union -> number of a table -> the table; what is not here is left out when read.
UNIONS: dict[str, dict[int, str]] = {
    "ContentProperties": {1: "FeatureProperties", 2: "ImageProperties"},
    "ProcessUnitOptions": {1: "NormalizationOptions", 3: "ScoreThresholdingOptions"},
}

# Kind of a number -> (how the builder calls it, its flags).
NUMBERS: dict[str, tuple[str, Any]] = {
    "byte": ("Int8", number_types.Int8Flags),
    "int": ("Int32", number_types.Int32Flags),
    "uint": ("Uint32", number_types.Uint32Flags),
    "float": ("Float32", number_types.Float32Flags),
}

Values = dict[str, Any]

MOST_TABLES = 10_000  # an honest file has about twenty


def encode(values: Values) -> bytes:
    """A ModelMetadata as a flatbuffer, from plain values by name; a union is a pair of its table's name and values."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, "ModelMetadata", values), IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, table: str, values: Values) -> int:
    """Write a table, what it refers to first; where it is."""
    places: list[tuple[int, str, Any]] = []  # slot, kind of number or "offset", value
    slot = 0
    for name, kind in TABLES[table]:
        value = values.get(name)
        if kind.startswith("|"):
            if value is not None:
                number = next(number for number, title in UNIONS[kind[1:]].items() if title == value[0])
                places += [(slot, "byte", number), (slot + 1, "offset", _table(builder, *value))]
            slot += 1
        elif kind in NUMBERS:
            places += [(slot, kind, value)] if value is not None else []
        elif value is not None and value not in ("", []):
            places.append((slot, "offset", _reference(builder, kind, value)))
        slot += 1
    builder.StartObject(slot)
    for at, kind, value in places:
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(at, value, 0)
        else:
            getattr(builder, f"Prepend{NUMBERS[kind][0]}Slot")(at, value, None if kind == "float" else 0)
    end: int = builder.EndObject()
    return end


def _reference(builder: Any, kind: str, value: Any) -> int:
    """Write a string, a list or a table; where it is."""
    if kind == "string":
        place: int = builder.CreateString(value)
        return place
    if not kind.startswith("["):
        return _table(builder, kind, value)
    item = kind[1:-1]
    if item == "float":
        place = builder.CreateNumpyVector(np.asarray(value, np.float32))
        return place
    places = [_reference(builder, item, entry) for entry in value]
    builder.StartVector(4, len(places), 4)
    for entry in reversed(places):
        builder.PrependUOffsetTRelative(entry)
    place = builder.EndVector()
    return place


def decode(content: bytes) -> Values:
    """A ModelMetadata as plain values; what is not in it is not among them.

    Raises:
        ValueError, IndexError, struct.error: the bytes are damaged.
    """
    return _Reader().table(root(content), "ModelMetadata")


def root(content: bytes) -> Table:
    """The outermost table of a flatbuffer."""
    return Table(content, flat.Get(packer.uoffset, content, 0))


def vector(table: Table, slot: int) -> list[Table]:
    """The tables of a list; none where it has no such list."""
    at = table.Offset(4 + 2 * slot)
    return [Table(table.Bytes, table.Indirect(place)) for place in _places(table, at)] if at else []


def string(table: Table, slot: int) -> str:
    """A string of a table; "" where it has none."""
    at = table.Offset(4 + 2 * slot)
    return text(table.String(at + table.Pos)) if at else ""


def text(value: bytes | str | None) -> str:
    """What a file holds as bytes, as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _places(table: Table, at: int) -> range:
    """Where the items of a list of 4 bytes each stand; a damaged length is no reason to run out of memory."""
    start, length = table.Vector(at), table.VectorLen(at)
    if start < 0 or start + 4 * length > len(table.Bytes):
        raise ValueError("a list that is longer than the file")
    return range(start, start + 4 * length, 4)


class _Reader:
    """Reads tables, MOST_TABLES at most: damaged lists can point at one another's items over and over."""

    def __init__(self) -> None:
        self.left = MOST_TABLES

    def table(self, table: Table, kind: str) -> Values:
        """A table as plain values."""
        self.left -= 1
        if self.left < 0:
            raise ValueError("too many tables")
        values: Values = {}
        slot = 0
        for name, field in TABLES[kind]:
            at = table.Offset(4 + 2 * slot)
            if field.startswith("|"):
                which = table.Get(number_types.Uint8Flags, at + table.Pos) if at else 0
                slot += 1
                at = table.Offset(4 + 2 * slot)
                title = UNIONS[field[1:]].get(which)
                if at and title is not None:
                    inner = Table(table.Bytes, table.Indirect(at + table.Pos))
                    values[name] = (title, self.table(inner, title))
            elif at:
                values[name] = self._field(table, at, slot, field)
            slot += 1
        return values

    def _field(self, table: Table, at: int, slot: int, field: str) -> Any:
        if field == "string":
            return string(table, slot)
        if field in NUMBERS:
            return table.Get(NUMBERS[field][1], at + table.Pos)
        if not field.startswith("["):
            return self.table(Table(table.Bytes, table.Indirect(at + table.Pos)), field)
        item, places = field[1:-1], _places(table, at)
        if item == "float":
            return [float(value) for value in np.frombuffer(bytes(table.Bytes[places.start : places.stop]), "<f4")]
        if item == "string":
            return [text(table.String(place)) for place in places]
        return [self.table(Table(table.Bytes, table.Indirect(place)), item) for place in places]
