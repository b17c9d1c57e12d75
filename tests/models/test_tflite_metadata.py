"""Metadata of .tflite files: what is written is what every reader reads, and the network is the same."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclf.errors import InputError
from imgclf.models import tflite_metadata
from imgclf.models.litert import LiteModel
from imgclf.models.tflite_file import unpack
from imgclf.models.tflite_metadata import Metadata, labelled, read, without_numbers, write

FULL = Metadata(
    labels=("bar & co", 'a "quoted", name', "größer\u2028als"), mean=(1.5,), std=(2.5,), size=(32, 32), threshold=0.25,
    name="shapes", description="tells shapes apart", version="1.2", author="nobody", license="CC0",
)  # fmt: skip


@pytest.fixture(scope="module")
def content(training: tuple[Path, object]) -> bytes:
    return (training[0] / "exports" / "model_float32.tflite").read_bytes()


def test_what_is_written_is_read_and_the_network_stays(content: bytes) -> None:
    written = write(content, FULL)
    assert read(written) == FULL
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    plain = write(content, replace(FULL, mean=(0.0,), std=(1.0,)))
    np.testing.assert_array_equal(LiteModel(plain).run(images), LiteModel(content).run(images))
    assert write(written, FULL) == written, "the second time nothing is added"
    assert len(write(written, replace(FULL, labels=("a", "b", "c")))) < len(written)


def test_every_buffer_is_aligned(content: bytes) -> None:
    written = write(content, FULL)
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(written)
    at = [model.Buffers(number) for number in range(model.BuffersLength())]
    places = [held._tab.Vector(held._tab.Offset(4)) for held in at if not held.DataIsNone() and held.DataLength()]
    assert len(places) > 3 and all(place % 16 == 0 for place in places)
    assert len(unpack(written).buffers) == len(unpack(content).buffers)


def test_mediapipes_own_reader_agrees(content: bytes) -> None:
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    model = unpack(write(content, FULL))
    (entry,) = [item for item in model.metadata if item.name == b"TFLITE_METADATA"]
    held = bytes(model.buffers[entry.buffer].data)
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(held, 0)
    found = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(held))
    assert (found.name, found.author, found.version, found.license) == (b"shapes", b"nobody", b"1.2", b"CC0")
    (graph,) = found.subgraphMetadata
    (image,), (scores,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert image.content.contentProperties.colorSpace == schema.ColorSpaceType.RGB
    assert image.content.contentProperties.defaultSize.width == 32
    (unit,) = image.processUnits
    assert unit.optionsType == schema.ProcessUnitOptions.NormalizationOptions
    assert (list(unit.options.mean), list(unit.options.std)) == ([1.5], [2.5])
    (file,) = scores.associatedFiles
    assert (file.name, file.type) == (b"labels.txt", schema.AssociatedFileType.TENSOR_AXIS_LABELS)
    assert scores.processUnits[0].options.globalScoreThreshold == 0.25


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), min_size=1), min_size=1))
def test_any_label_comes_back(content: bytes, labels: list[str]) -> None:
    assert read(write(content, Metadata(labels=tuple(labels)))) == Metadata(labels=tuple(labels))


def test_damaged_metadata_is_a_line(content: bytes) -> None:
    written = write(content, FULL)
    start = written.index(b"M001")
    draw = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(written)
        for place in draw.integers(start, start + 600, 8):
            broken[place] = draw.integers(256)
        try:
            read(bytes(broken))
        except InputError as error:
            assert "damaged" in str(error)


def test_labels_of_any_size_are_not_unpacked(content: bytes) -> None:
    model = write(content, FULL)
    packed = io.BytesIO(model[: model.index(b"PK\x03\x04")])
    packed.seek(0, io.SEEK_END)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", b"0" * (tflite_metadata.MOST_LABELS + 1))
    with pytest.raises(InputError, match="damaged"):
        read(packed.getvalue())


def test_files_that_are_no_models(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tflite").write_bytes(b"no model at all")
    with pytest.raises(InputError, match=r"is not a \.tflite file"):
        tflite_metadata.read_file(tmp_path / "x.tflite")
    assert read(write(content, Metadata(labels=("a",)))) is not None


def test_labels_must_be_as_many_as_scores() -> None:
    assert labelled(2, ["one\ntwo", "three"]) == ("one two", "three")
    with pytest.raises(InputError, match="3 labels for 2 scores"):
        labelled(2, ["a", "b", "c"])


def test_teachable_machines_numbers_are_left_out() -> None:
    assert without_numbers(["0 cat", "1 a dog"]) == ("cat", "a dog")
    assert without_numbers(["0 cat", "2 dog"]) == ("0 cat", "2 dog")
