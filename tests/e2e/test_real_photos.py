"""Real photos, real weights: what a user's folder may hold, and whether sideways photos are read upright everywhere."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgclf import pixels, predict
from imgclf.data.inspect import inspect
from imgclf.data.scan import scan
from imgclf.data.stage import stage
from imgclf.export.web import FACTS, find_package, write_web
from imgclf.runs import Run
from tests.browser import Browser, needs_chromium
from tests.conftest import imgclf
from tests.export.demo_page import ask, serving

pytestmark = [pytest.mark.shared, pytest.mark.slow]

MEASURE = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
    "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(done.returncode)"
)


@pytest.fixture(scope="module")
def awkward(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of face_mask with every file of odd_images in both classes."""
    root = Path(shutil.copytree(shared / "data" / "face_mask", tmp_path_factory.mktemp("awkward") / "face_mask"))
    for label in ("with_mask", "without_mask"):
        for file in (shared / "data" / "odd_images").rglob("*"):
            if file.is_file() and file.name != "MANIFEST.csv":
                shutil.copyfile(file, root / label / f"odd-{file.parent.name}-{file.name}")
    return root


@pytest.fixture(scope="module")
def trained(awkward: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A head trained on it: the run folder and what was written to stderr."""
    out = tmp_path_factory.mktemp("runs") / "r"
    command = [sys.executable, "-m", "imgclf", "train", awkward, "--out", out, "--backbone", "mobilenet",
               "--alpha", "0.25", "--weights", shared / "keras_home/models/mobilenet_2_5_224_tf_no_top.h5",
               "--fine-tune-epochs", "1", "--unfreeze", "1"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out, done.stderr


def test_training_survives_every_odd_file_and_names_each_bad_one_once(trained: tuple[Path, str], awkward: Path) -> None:
    run, stderr = trained
    warnings = [line for line in stderr.splitlines() if line.startswith("warning: ")]
    with (run / "split.csv").open(encoding="utf-8", newline="") as handle:
        used = {row["path"] for row in csv.DictReader(handle)}
    files = {path.relative_to(awkward).as_posix() for path in awkward.rglob("*") if path.is_file()}
    unreadable = [line for line in warnings if line.startswith(f"warning: {awkward}")]
    assert all(line.startswith("warning: The same picture in several classes") for line in {*warnings} - {*unreadable})
    named = [line.removeprefix("warning: ").split(": ")[0] for line in unreadable]
    assert len(named) == len(set(named)) > 100
    assert not used & {Path(path).relative_to(awkward).as_posix() for path in named}
    assert len(used) + len(named) <= len(files)
    peak = int(stderr.rsplit("peak ", 1)[1])
    assert peak < 4 * 2**20, f"{peak / 2**20:.1f} GB in one process"


def test_a_photo_in_eight_orientations_is_one_photo(trained: tuple[Path, str], shared: Path, tmp_path: Path) -> None:
    """Stored without loss, so that nothing but the orientation differs."""
    run, _ = trained
    whole, lite = predict.load(run), predict.load(run / "exports" / "model_float16.tflite")
    names = ("Landscape", "Portrait")
    for name in names:
        stored_eight_times(shared, name, tmp_path / "photos" / name)
    staged = staged_scores(tmp_path / "photos", tmp_path / "stage", whole)
    for name, from_folder in zip(names, staged, strict=True):
        files = sorted((tmp_path / "photos" / name).iterdir())
        keras = np.array([row.scores for row in whole.each(files)])  # type: ignore[union-attr]
        tflite = np.array([row.scores for row in lite.each(files)])  # type: ignore[union-attr]
        for scores in (keras, tflite, from_folder):
            assert scores.shape == (8, 2)
            assert np.ptp(scores, axis=0).max() < 1e-4
        together = np.concatenate([keras, tflite, from_folder])
        assert len(set(together.argmax(axis=1))) == 1
        assert np.ptp(together, axis=0).max() < 0.05


# How a picture lies in a file of each orientation: what `pixels` does to it, backwards.
STORED = {**pixels.ORIENTATIONS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def stored_eight_times(shared: Path, name: str, folder: Path) -> list[Path]:
    """One photo in every orientation, without loss. (The eight JPEG files of the set are eight different pictures: each
    has its own number drawn into it, and is compressed separately.)"""
    folder.mkdir(parents=True)
    upright = Image.fromarray(pixels.read(next((shared / "data" / "exif_orient").rglob(f"{name}_1.jpg"))).pixels)
    for number in range(1, 9):
        exif = Image.Exif()
        exif[pixels.ORIENTATION_TAG] = number
        stored = upright.transpose(STORED[number]) if number > 1 else upright
        stored.save(folder / f"{name}_{number}.png", exif=exif)
    return sorted(folder.iterdir())


def staged_scores(folder: Path, place: Path, predictor: predict.Predictor) -> list[Any]:
    """What the model says of a folder's images as training reads them, by class."""
    from imgclf.data.batches import batches

    size = predictor.input_shape[:2]
    images = inspect(scan(folder))  # all eight are the same picture, which no split would tear apart
    staged = stage(images.with_images(replace(image, part="train") for image in images.images), place, size)
    pairs = list(batches(staged, "train", size))
    scores = np.concatenate([predictor.scores(images.numpy()) for images, _ in pairs])
    labels = np.concatenate([one_hot.numpy() for _, one_hot in pairs]).argmax(axis=1)
    return [scores[labels == index] for index in range(len(staged.classes))]


def test_the_command_line_says_the_same_of_all_eight(trained: tuple[Path, str], shared: Path, tmp_path: Path) -> None:
    run, _ = trained
    files = stored_eight_times(shared, "Landscape", tmp_path / "eight")
    done = imgclf("predict", run / "exports" / "model_float16.tflite", *files, "--format", "csv")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert done.returncode == 0 and len(rows) == 8, done.stderr
    assert len({row["label_1"] for row in rows}) == 1
    certain = [float(value) for row in rows for key, value in row.items() if key.startswith("probability")]
    assert certain and max(certain) - min(certain) < 1e-3


@needs_chromium
@pytest.mark.browser
@pytest.mark.skipif(find_package() is None, reason="needs MediaPipe's npm package")
def test_the_browser_says_of_photos_what_python_says(trained: tuple[Path, str], shared: Path, browser: Browser) -> None:
    """Twelve original photos of many sizes, sideways ones among them, by the very file that is to be shipped."""
    folder = write_web(Run.open(trained[0]))
    predictor = predict.load(folder / json.loads((folder / FACTS).read_text())["file"])
    faces = shared / "data" / "face_mask"
    photos = [path for name in ("with_mask", "without_mask") for path in sorted((faces / name).iterdir())[::120]]
    photos += sorted((shared / "data" / "exif_orient").rglob("*_[368].jpg"))
    assert len(photos) >= 12
    with serving(folder) as server, browser.page(f"{server.address}/") as page:
        page.wait("document.body.dataset.check")
        assert page.value("document.body.dataset.check") == "good", page.text("#check")
        for result in predictor.each(photos):
            assert isinstance(result, predict.Prediction)
            found = ask(page, result.path)
            assert next(iter(found)) == result.label, result.path
            assert found[result.label] == pytest.approx(100 * result.probability, abs=5), result.path
        assert not page.errors
