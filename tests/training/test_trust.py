"""A training with --unknown, from the command line to every file that comes out of it."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgclf import predict, runs
from imgclf.evaluation.temperature import tempered
from imgclf.models.tflite_metadata import read_file
from tests.conftest import TINY, imgclf_here


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unknown")
    shutil.copytree(photos, folder / "photos")
    (folder / "photos" / "_unknown" / "deep").mkdir(parents=True)
    for number in range(6):
        colours = np.random.default_rng(number).integers(0, 256, 3).astype(np.uint8)
        Image.fromarray(np.tile(colours, (48, 48, 1))).save(folder / "photos" / "_unknown" / "deep" / f"{number}.png")
    out = folder / "run"
    done = imgclf_here("train", folder / "photos", "--out", out, *TINY, "--image-size", 48, "--unknown",
                       "--coverage", "0.9", "--formats", "float16,int8")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "validation images stay known (90% asked for)" in done.stderr
    assert "image in _unknown, of no class" in done.stderr
    return out


def test_every_file_says_unknown(trained: Path, photos: Path) -> None:
    run = runs.Run.open(trained)
    assert run.outputs == (*run.classes, "unknown")
    keras_scores = None
    for path in (trained, trained / "exports" / "model_float16.tflite"):
        predictor = predict.load(path)
        assert predictor.classes == run.outputs
        rows = list(predictor.each(sorted((photos / "disc").glob("*.png"))))
        scores = np.array([row.scores for row in rows if isinstance(row, predict.Prediction)])
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-4)
        keras_scores = scores if keras_scores is None else keras_scores
        np.testing.assert_allclose(scores, keras_scores, atol=0.05)
    metadata = read_file(trained / "exports" / "model_int8.tflite")
    assert metadata is not None and metadata.labels == run.outputs
    assert runs.read_classes(trained / "exports" / "classes.txt") == run.outputs
    results = runs.read_json(trained / "exports" / "verify.json")
    files = results["files"]
    assert results["keras"]["accuracy"] == runs.read_json(trained / runs.METRICS)["accuracy"]
    assert not files["float16"]["faults"] and files["float16"]["mediapipe"]["agreement"] > 0.9


def test_the_accuracy_is_of_the_classes_and_coverage_stands_beside_it(trained: Path) -> None:
    metrics = runs.read_json(trained / runs.METRICS)
    facts = runs.read_json(trained / runs.CALIBRATION)
    assert [row["label"] for row in metrics["per_class"]] == list(runs.Run.open(trained).classes)
    assert facts["unknown"]["test"]["n"] == metrics["n"]
    assert metrics["coverage"] == facts["unknown"]["test"]["known"] / metrics["n"]
    strange = facts["unknown"]["strange"]
    others = sorted((trained.parent / "photos" / "_unknown" / "deep").iterdir())[1::2]  # not those it was tuned on
    said = predict.load(trained).each(others)
    rejected = sum(isinstance(row, predict.Prediction) and row.label == "unknown" for row in said)
    assert (strange["n"], strange["rejected"], facts["unknown"]["tuned_on"]) == (3, rejected, 3)
    assert 0 <= strange["low"] < strange["high"] <= 1
    with (trained / runs.PREDICTIONS).open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert sum(row["label"] == row["prediction"] for row in rows) == round(metrics["accuracy"] * metrics["n"])
    outputs = runs.Run.open(trained).outputs
    best = [max(outputs, key=lambda name: float(row[f"p:{name}"])) for row in rows]
    assert sum(name != "unknown" for name in best) == facts["unknown"]["test"]["known"]
    again = imgclf_here("evaluate", trained, "--format", "json")
    assert again.returncode == 0 and f'"accuracy": {metrics["accuracy"]}' in again.stdout
    assert imgclf_here("verify", trained).returncode == 0


def test_a_strange_picture_is_unknown(trained: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 48, 3), (255, 0, 255), np.uint8)).save(tmp_path / "magenta.png")
    done = imgclf_here("predict", trained, tmp_path / "magenta.png")
    assert "unknown" in done.stdout


def test_a_class_of_that_name_is_refused(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "frame").rename(tmp_path / "photos" / "unknown")
    done = imgclf_here("train", tmp_path / "photos", "--out", tmp_path / "run", *TINY, "--unknown")
    assert done.returncode == 2 and "rename the class" in done.stderr


def test_probabilities_are_calibrated_in_every_file(run: Path, photos: Path) -> None:
    """Of an ordinary training: what was divided by is in the weights, and the answers are as they were."""
    facts = runs.read_json(run / runs.CALIBRATION)
    assert facts["temperature"] > 0 and facts["validation"]["n"] > 0 and facts["test"]["n"] > 0
    assert "unknown" not in facts and runs.Run.open(run).outputs == runs.Run.open(run).classes
    files = sorted((photos / "frame").glob("*.png"))

    def scores(path: Path) -> Any:
        return np.array([row.scores for row in predict.load(path).each(files)])  # type: ignore[union-attr]

    np.testing.assert_allclose(scores(run / "exports" / "model_float32.tflite"), scores(run), atol=1e-3)
    with (run / runs.PREDICTIONS).open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    own = np.array([[float(row[f"p:{name}"]) for name in runs.Run.open(run).classes] for row in rows])
    before = tempered(own, 1 / facts["temperature"])
    assert (before.argmax(axis=1) == own.argmax(axis=1)).all()


def test_a_threshold_is_part_of_the_model(two_photos: Path, tmp_path: Path) -> None:
    """Named from 0.05 on: what the model calls the second class is what had that probability before."""
    runs_of = {}
    for threshold in ("0.5", "0.05"):
        done = imgclf_here("train", two_photos, "--out", tmp_path / threshold, *TINY, "--threshold", threshold,
                           "--formats", "float32")  # fmt: skip
        assert done.returncode == 0, done.stderr
        predictor = predict.load(tmp_path / threshold / "exports" / "model_float32.tflite")
        files = sorted(two_photos.rglob("*.png"))
        runs_of[threshold] = np.array([row.scores for row in predictor.each(files)])  # type: ignore[union-attr]
    np.testing.assert_array_equal(runs_of["0.05"].argmax(axis=1), runs_of["0.5"][:, 1] >= 0.05)
    facts = runs.read_json(tmp_path / "0.05" / runs.CALIBRATION)["threshold"]
    assert facts["class"] == "frame" and facts["value"] == 0.05
    # going on from it begins with the head as it was trained
    from imgclf.models.earlier import backbone_of_run

    (_, before), (_, after) = (backbone_of_run(tmp_path / name, (32, 32)) for name in ("0.5", "0.05"))
    np.testing.assert_allclose(after[1], before[1], atol=1e-5)


def test_a_threshold_is_for_two_classes(photos: Path, tmp_path: Path) -> None:
    done = imgclf_here("train", photos, "--out", tmp_path / "run", *TINY, "--threshold", "f1")
    assert done.returncode == 2 and "--threshold is for two classes" in done.stderr


def test_a_finished_run_gets_a_gate(run_copy: Path, photos: Path) -> None:
    """`export --unknown`: nothing is trained, the accuracy stays, every file says it, and a second time replaces it."""
    before = runs.read_json(run_copy / runs.METRICS)["accuracy"]
    files = sorted((photos / "frame").glob("*.png"))
    known = np.array([row.scores for row in predict.load(run_copy).each(files)])  # type: ignore[union-attr]
    for coverage in ("100", "60"):
        done = imgclf_here("export", run_copy, "--formats", "float16", "--unknown", "--coverage", coverage)
        assert done.returncode in (0, 1), done.stderr  # MediaPipe resizes these pictures, which may shut the gate
        facts = runs.read_json(run_copy / runs.CALIBRATION)["unknown"]
        assert facts["coverage_asked"] == float(coverage) / 100
        assert facts["validation"]["known"] >= facts["validation"]["n"] * float(coverage) / 100
        predictor = predict.load(run_copy)
        assert predictor.classes == (*runs.Run.open(run_copy).classes, "unknown")
        scores = np.array([row.scores for row in predictor.each(files)])  # type: ignore[union-attr]
        np.testing.assert_allclose(scores[:, :-1] / scores[:, :-1].sum(axis=1, keepdims=True), known, atol=1e-3)
    assert '"accuracy": ' + str(before) in imgclf_here("evaluate", run_copy, "--format", "json").stdout
