"""Conversion in a child process: what goes wrong there is one line here."""

import os
import shutil
from pathlib import Path

import keras
import pytest

from imgclf import runs
from imgclf.data.imageset import ImageFile
from imgclf.errors import InputError, SetupError
from imgclf.export.calibration import Calibration, choose
from imgclf.export.convert import Made, convert
from imgclf.workers import parallel


@pytest.fixture
def bare(run: Path, tmp_path: Path) -> runs.Run:
    """A run with a model and classes only."""
    for name in ("state.json", "config.json", "classes.txt", "model.keras"):
        shutil.copy(run / name, tmp_path / name)
    return runs.Run(tmp_path)


def die(model: Path, files: dict[str, Path], calibration: Calibration | None) -> dict[str, Made]:
    os.abort()


@pytest.mark.slow
def test_an_operator_that_phones_do_not_know_is_named(bare: runs.Run) -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(keras.ops.erfinv(image / 300)))
    keras.Model(image, x).save(bare / runs.MODEL)
    with pytest.raises(InputError, match=r"tf\.Erfinv, which LiteRT has no operator for"):
        convert(bare, ["float16"])
    assert not list((bare / runs.EXPORTS).glob("*.tflite"))


def test_a_converter_that_crashes_is_a_line(bare: runs.Run) -> None:
    with parallel.Standby(die) as child, pytest.raises(SetupError, match=r"the conversion failed \(.*signal 6"):
        convert(bare, ["float16"], None, child)


def test_an_eight_bit_file_wants_images(bare: runs.Run) -> None:
    from imgclf.export.convert import convert_files

    with pytest.raises(InputError, match="needs training images"):
        convert_files(bare / runs.MODEL, {"int8": bare / "x.tflite"}, None)


def test_images_to_calibrate_on_come_from_all_classes_in_turn() -> None:
    images = [ImageFile(Path(f"{label}/{number}"), label, "train") for label, count in (("a", 50), ("b", 3), ("c", 20))
              for number in range(count)]  # fmt: skip
    found = choose(images, images[:5], ["a", "b", "c"], count=12)
    labels = [path.parent.name for path in found.images]
    assert labels == ["a", "b", "c"] * 3 + ["a", "c", "a"]
    assert len(set(found.images) | set(found.more)) == 12 + 36
    assert found.labels == (0,) * 5 and found == choose(images, images[:5], ["a", "b", "c"], count=12)
