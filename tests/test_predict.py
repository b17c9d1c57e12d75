import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imgclf
from imgclf import predict, runs
from imgclf.errors import InputError
from tests.conftest import imgclf as command


@pytest.mark.parametrize("model", ["", "model.keras", "exports/model_float32.tflite", "exports/model_float16.tflite"])
def test_every_form_of_a_model_gives_the_same_answers(run: Path, photos: Path, model: str) -> None:
    images = predict.find_images([photos / "frame"])
    expected = np.array([row.scores for row in predict.load(run).each(images)])  # type: ignore[union-attr]
    found = np.array([row.scores for row in predict.load(run / model).each(images)])  # type: ignore[union-attr]
    assert found.shape == (20, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, expected, atol=2e-2 if "float16" in model else 1e-4)


def test_a_tflite_file_needs_no_tensorflow(run: Path, photos: Path) -> None:
    code = (
        "import sys; from imgclf.cli.main import run\n"
        "try: run(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", run / "exports/model_float16.tflite", photos / "frame"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 20


def test_predict_names_what_it_cannot_read_and_goes_on(run: Path, photos: Path) -> None:
    done = command("predict", run / "exports/model_float16.tflite", photos / "disc", "--format", "json", "--top", 2)
    assert done.returncode == 1
    assert done.stderr.count("broken.jpg") == 1
    assert "1 of 22 images could not be read" in done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 21
    first, second = rows[0]["classes"]
    assert first["probability"] >= second["probability"]


def test_csv_quotes_what_must_be_quoted(run: Path, photos: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a, "b".png'
    odd.write_bytes((photos / "frame" / "frame 0.png").read_bytes())
    done = command("predict", run / "exports/model_float16.tflite", odd, "--format", "csv")
    header, row = done.stdout.splitlines()
    assert header == "path,label_1,probability_1"
    assert row.startswith(f'"{str(odd).replace(chr(34), chr(34) * 2)}",')


def test_files_folders_and_globs_are_one_list(photos: Path) -> None:
    one = photos / "frame" / "frame 3.png"
    assert predict.find_images([one, one]) == [one]
    assert len(predict.find_images([photos / "frame"])) == 20
    assert len(predict.find_images([str(photos / "*" / "*1.png")])) == 6
    with pytest.raises(InputError, match="no images at"):
        predict.find_images([photos / "frame" / "*.tiff"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.write_bytes(b"garbage"), "not a .tflite model"),
    ],
)
def test_bad_model_files_are_one_line(tmp_path: Path, photos: Path, make: object, words: str) -> None:
    model = tmp_path / "m.tflite"
    make(model)  # type: ignore[operator]
    (tmp_path / "classes.txt").write_text("a\nb\n")
    done = command("predict", model, photos / "frame")
    assert done.returncode == 2
    assert words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_tflite_that_is_no_classifier_is_refused(tmp_path: Path, run: Path) -> None:
    from imgclf.models import backbones
    from imgclf.models.build import build_backbone
    from imgclf.models.convert import to_tflite

    file = tmp_path / "features.tflite"
    file.write_bytes(to_tflite(build_backbone(backbones.get("tiny"), None, (32, 32))))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="not a classifier"):
        predict.load(file)
    (tmp_path / "right.tflite").write_bytes((run / "exports/model_float32.tflite").read_bytes())
    with pytest.raises(InputError, match="3 scores but there are 2 class names"):
        predict.load(tmp_path / "right.tflite", ("a", "b"))
    assert predict.load(tmp_path / "right.tflite").classes == runs.read_classes(run / "classes.txt"), "it names them"
    assert predict.load(tmp_path / "right.tflite", ["x", "y", "z"]).classes == ("x", "y", "z")
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"no classes\.txt"):
        predict.load(file)


def test_a_keras_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    import keras

    image = keras.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Lambda(lambda x: x[:, 0, 0, :])(image))
    model.save(tmp_path / "evil.keras")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(InputError, match="cannot be read as a Keras model"):
        predict.load(tmp_path / "evil.keras")


def test_the_python_interface_says_the_same(run: Path, photos: Path) -> None:
    whole, lite = imgclf.load(run), imgclf.load(run / "exports" / "model_float16.tflite")
    assert whole.classes == lite.classes == ("bar & co", "disc", "frame")
    assert whole.metrics.n == len((run / "predictions.csv").read_text().splitlines()) - 1
    assert [row.label for row in whole.predict(str(photos / "frame" / "*.png"))] == [
        row.label for row in lite.predict(photos / "frame")
    ]
    assert whole.evaluate() == whole.metrics
    with pytest.raises(InputError, match="single file"):
        _ = lite.metrics
    with pytest.raises(InputError, match="single file"):
        lite.export("float16")


def test_import_is_light() -> None:
    code = "import sys, imgclf, imgclf.cli.main; assert not {'tensorflow', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
