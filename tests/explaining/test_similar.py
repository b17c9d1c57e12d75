"""`imgclf similar` against scikit-learn's cosine similarity of the network's own features."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

import imgclf
from imgclf import measuring, runs
from imgclf.pixels import load_for_model
from tests.conftest import draw, imgclf_here


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A disc that was in no training."""
    path = tmp_path / "<b>asked & new.png"
    draw(1, 500).save(path)
    return path


def features(run: Path, paths: list[Path]) -> np.ndarray:
    model = keras.models.load_model(run / "model.keras", compile=False)
    pooled = next(layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D))
    return np.asarray(keras.Model(model.inputs[0], pooled.output)(np.stack([load_for_model(p, 32, 32) for p in paths])))


def test_the_nearest_training_images_by_cosine_similarity(run: Path, asked: Path) -> None:
    images = measuring.images_of_part(runs.Run.open(run), "train")
    paths = [image.path for image in images]
    expected = cosine_similarity(features(run, [asked]), features(run, paths))[0]
    order = np.argsort(-expected)[:5]
    found = imgclf.load(run).similar(asked, top=5)
    np.testing.assert_allclose([row.similarity for row in found], expected[order], atol=1e-4)
    assert [row.path for row in found] == [paths[index] for index in order]
    assert [row.label for row in found] == [images[index].label for index in order]
    assert len(imgclf.load(run).similar(asked, top=10_000)) == len(images)


def test_the_command_prints_tables_json_and_a_page(run: Path, asked: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = imgclf_here("similar", run, asked, "--top", 3, "--out", page)
    assert done.returncode == 0, done.stderr
    prediction = imgclf.load(run).predict(asked)[0]
    head, *rows, last = done.stdout.splitlines()
    assert head == f"{asked}  {prediction.label} {prediction.probability:.3f}" and last == f"page: {page}"
    found = json.loads(imgclf_here("similar", run, asked, "--top", 3, "--format", "json").stdout)
    assert found["label"] == prediction.label and found["path"] == str(asked)
    assert rows == [f"{row['similarity']:.3f}  {row['label']}  {row['path']}" for row in found["neighbours"]]
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 4 and "&lt;b&gt;asked &amp; new.png" in text and "<b>" not in text
    assert imgclf_here("similar", run, asked, "--out", page).returncode == 0, "its own page may be written again"
    before = asked.read_bytes()
    assert imgclf_here("similar", run, asked, "--out", asked).returncode == 2 and asked.read_bytes() == before


def test_features_are_computed_once(
    run_copy: Path, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    first = imgclf_here("similar", run_copy, asked)
    kept = {path: path.stat().st_size for path in (tmp_path / "cache").rglob("*.rows")}
    second = imgclf_here("similar", run_copy, asked)
    assert first.returncode == second.returncode == 0 and first.stdout == second.stdout
    count = len(measuring.images_of_part(runs.Run.open(run_copy), "train"))
    assert list(kept.values()) == [4 * 128 * count], "float32 features, 128 wide"
    assert {path: path.stat().st_size for path in (tmp_path / "cache").rglob("*.rows")} == kept


def test_a_training_image_is_not_its_own_neighbour(run: Path) -> None:
    image = measuring.images_of_part(runs.Run.open(run), "train")[0]
    done = imgclf_here("similar", run, image.path, "--format", "json")
    assert "is a training image itself" in done.stderr
    assert str(image.path) not in {row["path"] for row in json.loads(done.stdout)["neighbours"]}


def test_training_images_that_are_gone(run_copy: Path, photos: Path, asked: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "moved"))
    config = json.loads((run_copy / "config.json").read_text())
    config["data"]["folder"] = str(folder)
    (run_copy / "config.json").write_text(json.dumps(config))
    run = runs.Run.open(run_copy)
    count = len(measuring.images_of_part(run, "train"))
    nearest = imgclf.load(run_copy).similar(asked, top=1)[0].path
    nearest.unlink()
    done = imgclf_here("similar", run_copy, asked, "--top", 1000)
    assert done.returncode == 0 and f"1 of {count} training images are gone" in done.stderr
    assert len(done.stdout.splitlines()) == count and str(nearest) not in done.stdout
    shutil.rmtree(folder)
    gone = imgclf_here("similar", run_copy, asked)
    assert gone.returncode == 2 and "the images of this run are gone from" in gone.stderr


def test_what_cannot_be_asked(run: Path, photos: Path) -> None:
    bad = imgclf_here("similar", run, photos / "disc" / "broken.jpg")
    assert bad.returncode == 2 and "truncated after 300 bytes" in bad.stderr
    assert imgclf_here("similar", run, "nowhere.png").returncode == 2
    with pytest.raises(imgclf.InputError, match="is a single file"):
        imgclf.load(run / "exports" / "model_float32.tflite").similar(photos / "disc" / "disc 3.png")
