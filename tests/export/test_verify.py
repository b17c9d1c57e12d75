"""Verification finds what is wrong with a file, and lets go what is right."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgclf import predict, runs
from imgclf.errors import InputError
from imgclf.export import mediapipe
from imgclf.export import verify as module
from imgclf.export.catalog import FORMATS, Bound
from imgclf.export.convert import Made
from imgclf.export.results import Budget, prove, to_ship
from imgclf.export.verify import Agreement, Limits, Reference, verify
from imgclf.models.convert import to_tflite
from imgclf.models.files import load_keras_model
from imgclf.models.tflite_metadata import Metadata, read, write
from tests.conftest import TINY, draw, imgclf_here

NO_MEDIAPIPE = Limits(mediapipe_images=0)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures that are not square, half of them sideways."""
    from PIL import Image

    folder, exif = tmp_path_factory.mktemp("wide"), Image.Exif()
    exif[0x0112] = 6
    for number in range(24):
        picture = draw(number % 3, 900 + number).crop((0, 8, 48, 40))
        options = {"exif": exif, "quality": 95} if number % 2 else {"quality": 95}
        picture.save(folder / f"{number}.jpg", **options)  # type: ignore[arg-type]
    return sorted(folder.iterdir())


@pytest.fixture
def proof(run_copy: Path, wide: list[Path]) -> tuple[runs.Run, dict[str, Made], Reference]:
    """A run, its float files, and what Keras says of some pictures."""
    run = runs.Run.open(run_copy)
    made = {name: Made(run / runs.EXPORTS / FORMATS[name].file) for name in ("float32", "float16")}
    scores = np.array([row.scores for row in predict.load(run.root).each(wide)], np.float32)  # type: ignore[union-attr]
    return run, made, Reference(run.classes, tuple(wide), scores.argmax(axis=1), scores)


def altered(proof: Any, **changes: Any) -> dict[str, Made]:
    """The float32 file with other metadata."""
    path = proof[1]["float32"].path
    found = read(path.read_bytes())
    assert found is not None
    path.write_bytes(write(path.read_bytes(), replace(found, **changes)))
    return {"float32": proof[1]["float32"]}


def test_right_files_have_no_faults(proof: Any) -> None:
    run, made, reference = proof
    rows = verify(made, reference, NO_MEDIAPIPE)
    assert [row.format for row in rows] == ["float32", "float16"]
    assert not any(row.faults for row in rows)
    assert rows[0].litert.agreement == 1.0 and rows[0].litert.max_difference < 1e-4 and rows[0].litert.drop == 0.0
    assert (rows[0].input, rows[0].output, rows[0].mediapipe) == ("float32", "float32", None)
    assert rows[1].bytes < rows[0].bytes and rows[0].milliseconds > 0
    assert prove(run, made, reference, NO_MEDIAPIPE)[1] is None


def test_two_labels_swapped(proof: Any) -> None:
    first, second, third = proof[2].classes
    (row,) = verify(altered(proof, labels=(second, first, third)), proof[2], NO_MEDIAPIPE)
    assert row.faults == (f"it calls {first!r} {second!r}",)


def test_one_label_too_few(proof: Any) -> None:
    (row,) = verify(altered(proof, labels=proof[2].classes[:2]), proof[2], NO_MEDIAPIPE)
    assert row.faults == ("it names 2 classes and has 3 scores",)


def test_no_metadata_at_all(proof: Any) -> None:
    run, made, reference = proof
    made["float32"].path.write_bytes(to_tflite(load_keras_model(run / runs.MODEL)))
    (row,) = verify({"float32": made["float32"]}, reference, NO_MEDIAPIPE)
    assert row.faults == ("it has no metadata: its classes have no names",)


def test_the_rescaling_removed(proof: Any) -> None:
    run, made, reference = proof
    model = load_keras_model(run / runs.MODEL)
    scaled = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Rescaling)]
    for layer in scaled:
        layer.scale, layer.offset = np.ones_like(layer.scale), np.zeros_like(layer.offset)
    assert scaled
    found = read(made["float32"].path.read_bytes())
    assert found is not None
    made["float32"].path.write_bytes(write(to_tflite(model), found))
    (row,) = verify({"float32": made["float32"]}, reference, NO_MEDIAPIPE)
    assert "same answer as Keras on" in row.faults[0]


def centre_crop(path: Path, height: int, width: int, channels: int) -> np.ndarray:
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        square = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (width, height))
        return np.asarray(square, np.float32)


def sideways(path: Path, height: int, width: int, channels: int) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR), np.float32)


@pytest.mark.parametrize("reader", [centre_crop, sideways])
def test_images_that_are_read_otherwise(proof: Any, reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that crops the middle, or ignores what EXIF says of a photo's orientation."""
    monkeypatch.setattr(predict, "load_for_model", reader)
    row, _ = verify(proof[1], proof[2], NO_MEDIAPIPE)
    assert "same answer as Keras on" in row.faults[0], "half of the pictures are another picture"


@pytest.mark.parametrize("wrong", ["other answers", "not a number"])
def test_files_that_differ_are_removed_and_one_error_says_so(proof: Any, wrong: str) -> None:
    run, made, reference = proof
    scores = np.roll(reference.scores, 1, axis=1) if wrong == "other answers" else reference.scores * np.nan
    rows, error = prove(run, made, replace(reference, scores=scores), NO_MEDIAPIPE)
    assert rows == () and error is not None
    assert "model_float32.tflite does not behave like the Keras model" in str(error)
    assert "model_float32.tflite and model_float16.tflite removed" in str(error)
    assert not any(file.path.exists() for file in made.values())
    results = runs.read_json(run / runs.EXPORTS / "verify.json")
    assert "float32" not in results["files"] and results["recommended"] != "float16"


def test_an_eight_bit_file_that_costs_too_much_is_kept_out(proof: Any) -> None:
    run, _, reference = proof
    place = run / runs.EXPORTS / "model_int8.tflite"
    made = {"int8": Made(place, ("tried",), "it loses 9.0 points"), "float16": proof[1]["float16"]}
    rows, error = prove(run, made, reference, NO_MEDIAPIPE)
    assert error is None and [row.format for row in rows] == ["int8", "float16"]
    results = runs.read_json(run / runs.EXPORTS / "verify.json")
    assert results["recommended"] == "float16" and results["files"]["int8"]["faults"] == ["it loses 9.0 points"]
    assert results["files"]["int8"]["path"] == "refused/model_int8.tflite" and not place.exists()
    refused = run / runs.EXPORTS / "refused" / place.name
    shutil.copy(refused, place)
    _, strict = prove(run, made, reference, replace(NO_MEDIAPIPE, strict=True))
    assert strict is not None and "it loses 9.0 points" in str(strict)
    shutil.copy(refused, place)
    prove(run, {"int8": Made(place)}, reference, NO_MEDIAPIPE)
    assert not refused.parent.exists(), "what is made anew is not refused any more"
    assert runs.read_json(run / runs.EXPORTS / "verify.json")["recommended"] == "int8"


def test_a_loss_counts_when_it_is_more_than_chance(proof: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _, reference = proof
    made = {"int8": Made(run / runs.EXPORTS / "model_int8.tflite")}
    found = module._by_litert(made, reference)["int8"]
    for wrong, faulty in ((1, False), (12, True)):
        scores = reference.scores.copy()
        scores[:wrong] = np.roll(scores[:wrong], 1, axis=1)
        monkeypatch.setattr(module, "_by_litert", lambda *_, scores=scores: {"int8": scores})
        (row,) = verify(made, reference, NO_MEDIAPIPE)
        assert row.litert.drop == pytest.approx(wrong / 24)
        assert any("less accurate than Keras" in fault for fault in row.faults) is faulty
    assert found.shape == reference.scores.shape


def test_the_most_accurate_file_within_the_budget_is_shipped() -> None:
    def row(size: float, time: float, accuracy: float, *faults: str) -> dict[str, Any]:
        return {"bytes": size, "milliseconds": time, "litert": {"accuracy": accuracy}, "faults": faults}

    files = {"float32": row(9e6, 7, 0.9), "float16": row(4.5e6, 7, 0.9), "dynamic": row(2.5e6, 15, 0.88),
             "int8": row(2.7e6, 4, 0.87)}  # fmt: skip
    assert to_ship(files) == "int8"
    for text, expected in (("size=5MB", "float16"), ("size = 4 mb", "dynamic"), ("size=4MB,ms=10", "int8"),
                           ("ms=5ms", "int8"), ("size=2600kb,ms=10", None)):  # fmt: skip
        assert to_ship(files, Budget.parse(text)) == expected, text
    assert to_ship({"int8": row(1, 1, 1.0, "bad")}) is None
    for text in ("", "4MB", "size=4", "ms=4MB", "size=4MB;ms=2", "size=.MB"):
        with pytest.raises(InputError, match="budget"):
            Budget.parse(text)


def test_one_image_may_differ_for_a_tie_but_not_two() -> None:
    def found(differing: int) -> Agreement:
        return Agreement(100, 1 - differing / 100, 0.0, 1e-4, 1.0, 0.9, 1.0, 0.0, 1.0)

    assert not found(1).outside(Bound(0.999, 1e-3))
    assert found(2).outside(Bound(0.999, 1e-3))


@pytest.mark.skipif(not mediapipe.installed(), reason="needs MediaPipe (the extra verify)")
@pytest.mark.slow
class TestMediaPipe:
    """The runtime of phone apps, from the original files."""

    def test_it_takes_every_format_and_knows_the_names(self, proof: Any) -> None:
        run, _, reference = proof
        files = [run / runs.EXPORTS / row.file for row in FORMATS.values()]
        for answer in mediapipe.classify(files, reference.images, 3):
            assert answer.error == "" and answer.names == reference.classes
            np.testing.assert_allclose(answer.scores.sum(axis=1), 1, atol=1e-3)

    def test_it_agrees_on_pictures_of_the_network_s_own_size(self, proof: Any, tmp_path: Path) -> None:
        from PIL import Image

        made = proof[1]
        for number in range(6):
            draw(number % 3, number, 32).save(tmp_path / f"{number}.png")
        images = sorted(tmp_path.glob("*.png"))
        lite = np.array([row.scores for row in predict.load(made["float32"].path).each(images)])  # type: ignore[union-attr]
        (answer,) = mediapipe.classify([made["float32"].path], images, 3)
        np.testing.assert_allclose(answer.scores, lite, atol=1e-5)
        assert Image.open(images[0]).size == (32, 32)

    def test_swapped_labels_missing_ones_and_no_normalisation_are_faults(self, proof: Any) -> None:
        limits = Limits(mediapipe_images=8)
        first, second, third = proof[2].classes
        (row,) = verify(altered(proof, labels=(second, first, third)), proof[2], limits)
        assert f"MediaPipe calls {first!r} {second!r}" in row.faults
        (row,) = verify(altered(proof, labels=(first, second)), proof[2], limits)
        assert any(fault.startswith("MediaPipe refuses it") for fault in row.faults), row.faults
        (row,) = verify(altered(proof, labels=proof[2].classes, mean=(), std=()), proof[2], limits)
        assert any("NormalizationOptions" in fault for fault in row.faults), row.faults

    def test_sixty_classes_with_any_name_keep_their_order(self, tmp_path: Path, wide: list[Path]) -> None:
        odd = (
            "with a space",
            "a, b",
            'the "quoted"',
            "it's",
            "größer",
            "日本語",
            "emoji 🦋",
            "tab\there",
            "-",
            "0",
            "|",
            "a\\b",
        )
        classes = (*odd, *(f"class {number}" for number in range(60 - len(odd))))
        image = keras.Input((8, 8, 3))
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        model = keras.Model(image, keras.layers.Dense(60, activation="softmax", bias_initializer="normal")(x))
        file = tmp_path / "model_float16.tflite"
        metadata = Metadata(labels=classes, mean=(0.0,), std=(1.0,), size=(8, 8))
        file.write_bytes(write(to_tflite(model), metadata))
        (answer,) = mediapipe.classify([file], wide[:3], 60)
        assert answer.error == "" and answer.names == classes
        assert predict.load(file).classes == classes

    def test_two_classes_are_two_labelled_scores(self, two_photos: Path, tmp_path: Path) -> None:
        done = imgclf_here("train", two_photos, "--out", tmp_path / "two", *TINY, "--epochs", "2", "--formats",
                           "float32,int8", "--head", "binary")  # fmt: skip
        assert done.returncode == 0, done.stderr
        files = [tmp_path / "two" / "exports" / f"model_{name}.tflite" for name in ("float32", "int8")]
        images = sorted((two_photos / "disc").iterdir())[:4]
        for answer in mediapipe.classify([file for file in files if file.is_file()], images, 2):
            assert answer.error == "" and answer.names == ("disc", "frame")
            np.testing.assert_allclose(answer.scores.sum(axis=1), 1, atol=1e-3)

    def test_a_plain_file_is_taken_once_it_has_metadata(self, tmp_path: Path, wide: list[Path]) -> None:
        image = keras.Input((8, 8, 3))  # as Keras exports it: the network itself wants -1..1
        model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(image)))
        plain = tmp_path / "plain.tflite"
        plain.write_bytes(to_tflite(model))
        (before,) = mediapipe.classify([plain], wide[:2], 2)
        assert "NormalizationOptions" in before.error
        (tmp_path / "names.txt").write_text("cat\ndog\n")
        done = imgclf_here(
            "metadata", "add", plain, "--labels", tmp_path / "names.txt", "--mean", "127.5", "--std", "127.5"
        )
        (after,) = mediapipe.classify([Path(done.stdout.strip())], wide[:2], 2)
        assert (after.error, after.names) == ("", ("cat", "dog"))

    def test_a_wrong_normalisation_is_a_fault(self, proof: Any) -> None:
        (row,) = verify(altered(proof, mean=(127.5,), std=(127.5,)), proof[2], Limits(mediapipe_images=24))
        assert any("MediaPipe gives the answer of Keras on" in fault for fault in row.faults), row.faults

    def test_grey_networks_are_said_not_to_be_for_it(self, tmp_path: Path, wide: list[Path]) -> None:
        image = keras.Input((8, 8, 1))
        x = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(image))
        file = tmp_path / "model_float16.tflite"
        file.write_bytes(write(to_tflite(keras.Model(image, x)), Metadata(labels=("a", "b"), mean=(0.0,), std=(1.0,))))
        scores = np.array([row.scores for row in predict.load(file).each(wide)], np.float32)  # type: ignore[union-attr]
        reference = Reference(("a", "b"), tuple(wide), scores.argmax(axis=1), scores)
        (row,) = verify({"float16": Made(file)}, reference, Limits())
        assert row.faults == () and row.mediapipe is None and "was not asked" in row.notes[0]
