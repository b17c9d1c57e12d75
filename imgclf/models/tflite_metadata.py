"""What a .tflite file says of itself: names, labels, normalisation. May import flatbuffers and NumPy, never TensorFlow.

MediaPipe Tasks, ML Kit and Android Studio read it; they refuse a float model that does not say how pixels are to be
normalised. It is a flatbuffer of its own (metadata_schema.py), held as a buffer named TFLITE_METADATA in the model;
files that it names (labels.txt) are a zip archive behind the model.
"""

import io
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flatbuffers import number_types

from imgclf.errors import InputError
from imgclf.models.metadata_schema import Values, decode, encode, root, string, text, vector
from imgclf.models.tflite_file import is_model, new_buffer, pack, unpack

NAME = "TFLITE_METADATA"
PARSER_VERSION = "1.0.0"  # what a reader must understand: nothing here is newer than the first version of the schema
LABELS_FILE = "labels.txt"
MOST_LABELS = 16 << 20  # bytes; a zip archive can claim any size

# What a file that was cut or scribbled on runs its reader into.
DAMAGED = (struct.error, IndexError, ValueError, TypeError, KeyError, OverflowError, MemoryError, EOFError,
           NotImplementedError, zipfile.BadZipFile)  # fmt: skip

RGB, GRAYSCALE = 1, 2
LABELS_OF_AXIS = 2  # AssociatedFileType.TENSOR_AXIS_LABELS


@dataclass(frozen=True)
class Metadata:
    """What a file says of itself.

    Attributes:
        labels: class names in the order of the scores; empty where the file has none.
        mean: what is taken from every channel before it is divided by `std`; one value, or one a channel. Empty where
            the file does not say.
        std: see `mean`.
        grey: whether the input has one channel.
        size: (width, height) of the input in pixels.
        threshold: score below which a class is not to be named; None: there is none.
        name: of the model.
        description: for people.
        version: of the model.
        author: who made it.
        license: under which it may be used.
    """

    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    grey: bool = False
    size: tuple[int, int] = (0, 0)
    threshold: float | None = None
    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""


def read(content: bytes) -> Metadata | None:
    """What a .tflite file says of itself; None where it says nothing.

    Args:
        content: the file.

    Raises:
        InputError: no .tflite file, or its metadata is damaged.
    """
    try:
        values = _values(content)
        if values is None:
            return None
        graph = (values.get("subgraph_metadata") or [{}])[0]
        image = (graph.get("input_tensor_metadata") or [{}])[0]
        scores = (graph.get("output_tensor_metadata") or [{}])[0]
        options = _options(image, "NormalizationOptions")
        properties: tuple[str, Values] = (image.get("content") or {}).get("content_properties") or ("", {})
        size = properties[1].get("default_size") or {}
        threshold = _options(scores, "ScoreThresholdingOptions").get("global_score_threshold")
        return Metadata(
            labels=_labels(content, scores), mean=tuple(options.get("mean", ())), std=tuple(options.get("std", ())),
            grey=properties[1].get("color_space") == GRAYSCALE, size=(size.get("width", 0), size.get("height", 0)),
            threshold=threshold,
            **{name: values.get(name, "") for name in ("name", "description", "version", "author", "license")},
        )  # fmt: skip
    except DAMAGED as error:
        raise InputError(f"the metadata of the .tflite file is damaged ({type(error).__name__})",
                         "write it anew with `imgclf metadata add`") from None  # fmt: skip


def write(content: bytes, metadata: Metadata) -> bytes:
    """A .tflite file with metadata, in place of what it had.

    Args:
        content: the file.
        metadata: what it is to say; at least one label.

    Returns:
        The file: the same network, its buffers aligned to 16 bytes as the format asks for, labels.txt behind it.
    """
    from ai_edge_litert.schema_py_generated import MetadataT

    model = unpack(_without_zip(content))
    model.metadata = model.metadata or []
    own = np.frombuffer(encode(_as_values(metadata)), np.uint8)
    entry = next((entry for entry in model.metadata if text(entry.name) == NAME), None)
    if entry is None:
        entry = MetadataT()
        entry.name, entry.buffer = NAME, new_buffer(model, own.tobytes())
        model.metadata.append(entry)
    model.buffers[entry.buffer].data = own
    packed = io.BytesIO()
    packed.write(pack(model))
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:  # the same bytes every time: no date
        archive.writestr(zipfile.ZipInfo(LABELS_FILE, (1980, 1, 1, 0, 0, 0)), "\n".join(metadata.labels))
    return packed.getvalue()


def read_file(path: Path) -> Metadata | None:
    """As `read`, of a file.

    Raises:
        InputError: it cannot be read, is no .tflite file, or its metadata is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})", "expected a .tflite file") from None
    if not is_model(content):
        raise InputError(f"{path} is not a .tflite file", "expected a file made by `imgclf export` or LiteRT")
    return read(content)


def parse_labels(content: str) -> tuple[str, ...]:
    """Class names of a labels file: one a line, in the order of the scores."""
    lines = content.removesuffix("\n").split(
        "\n"
    )  # not at what else Unicode calls the end of a line: MediaPipe neither
    return tuple(line.removesuffix("\r") for line in lines)


def without_numbers(labels: Sequence[str]) -> tuple[str, ...]:
    """Class names without the numbers that Teachable Machine puts before them ("0 cat", "1 dog")."""
    if all(label.startswith(f"{number} ") for number, label in enumerate(labels)):
        return tuple(label.split(" ", 1)[1].strip() for label in labels)
    return tuple(labels)


def _as_values(metadata: Metadata) -> Values:
    width, height = metadata.size
    labels = {"name": LABELS_FILE, "description": "Class names in the order of the scores.", "type": LABELS_OF_AXIS}
    image: Values = {
        "name": "image",
        "description": f"The image, {'grey' if metadata.grey else 'RGB'}, upright, stretched to {width} x {height}.",
        "content": {"content_properties": ("ImageProperties", {
            "color_space": GRAYSCALE if metadata.grey else RGB, "default_size": {"width": width, "height": height},
        })},
        "stats": {"max": [255.0], "min": [0.0]},
    }  # fmt: skip
    if metadata.mean:
        how = {"mean": list(metadata.mean), "std": list(metadata.std)}
        image["process_units"] = [{"options": ("NormalizationOptions", how)}]
    scores: Values = {
        "name": "probability", "description": "Probability of each class.",
        "content": {"content_properties": ("FeatureProperties", {})},
        "stats": {"max": [1.0], "min": [0.0]}, "associated_files": [labels],
    }  # fmt: skip
    if metadata.threshold is not None:
        least = {"global_score_threshold": metadata.threshold}
        scores["process_units"] = [{"options": ("ScoreThresholdingOptions", least)}]
    return {
        **{name: getattr(metadata, name) for name in ("name", "description", "version", "author", "license")},
        "subgraph_metadata": [{"input_tensor_metadata": [image], "output_tensor_metadata": [scores]}],
        "min_parser_version": PARSER_VERSION,
    }


def _options(tensor: Values, wanted: str) -> Values:
    """The options of a kind that are to be applied to a tensor."""
    for unit in tensor.get("process_units") or []:
        kind, options = unit.get("options") or ("", {})
        if kind == wanted:
            found: Values = options
            return found
    return {}


def _labels(content: bytes, scores: Values) -> tuple[str, ...]:
    """The lines of the labels file that the scores name, from the archive behind the model."""
    names = [file["name"] for file in scores.get("associated_files") or [] if file.get("type") == LABELS_OF_AXIS]
    if not names:
        return ()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.getinfo(names[0]).file_size > MOST_LABELS:
                raise ValueError("labels too large")
            return parse_labels(archive.read(names[0]).decode("utf-8", "replace"))
    except (zipfile.BadZipFile, KeyError):  # a tool that changed the model has lost the archive behind it
        return ()


def _without_zip(content: bytes) -> bytes:
    """The model without the archive behind it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            start = min((info.header_offset for info in archive.infolist()), default=len(content))
    except zipfile.BadZipFile:
        return content
    return content[:start]


def _values(content: bytes) -> Values | None:
    """The metadata of a model as plain values."""
    if not is_model(content):
        raise ValueError("no model")
    model = root(content)
    buffers, entries = vector(model, 4), vector(model, 6)
    for entry in entries:
        if string(entry, 0) == NAME:
            at = entry.Offset(6)
            number = entry.Get(number_types.Uint32Flags, at + entry.Pos) if at else 0
            held = buffers[number]
            at = held.Offset(4)
            if not at:
                return None
            start, length = held.Vector(at), held.VectorLen(at)
            inner = bytes(held.Bytes[start : start + length])
            return decode(inner)
    return None


def labelled(count: int, labels: Sequence[str]) -> tuple[str, ...]:
    """Class names as a labels file can hold them: one line each, as many as there are scores.

    Raises:
        InputError: another number of them.
    """
    if len(labels) != count:
        raise InputError(f"{len(labels)} labels for {count} scores", "expected one line per output of the network")
    return tuple(" ".join(label.splitlines()) for label in labels)
