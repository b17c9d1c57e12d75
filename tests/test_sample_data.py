import importlib.util
import re
import sys
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_data"
README = (SAMPLES / "README.md").read_text(encoding="utf-8")
SETS = ("objects", "cat_or_rabbit")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample_data", ROOT / "scripts" / "make_sample_data.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def decoded(path: Path) -> Image.Image | None:
    """The whole picture, or None where it cannot be read."""
    try:
        with Image.open(path) as picture:
            whole: Image.Image = picture.copy()
    except OSError:
        return None
    return whole


def documented_classes() -> dict[str, tuple[int, int]]:
    rows = re.findall(r"^\| `(\w+/\w+)` \| (\d+) \| (\d+) \|$", README, re.MULTILINE)
    return {name: (int(files), int(pictures)) for name, files, pictures in rows}


def awkward_files() -> dict[str, dict[str, Path]]:
    """The table of awkward files: what is awkward, to the file of each set."""
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (.+) \|$", README, re.MULTILINE)
    return {
        what: {name: SAMPLES / name / file for name, file in zip(SETS, files, strict=True)} for *files, what in rows
    }


def awkward(name: str, what: str) -> Path:
    (path,) = (files[name] for key, files in awkward_files().items() if what in key)
    return path


def features(name: str) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Raw pixels at 32 x 32 RGB, 0..1, one row a picture; and the labels."""
    pixels, labels = [], []
    for path in sorted((SAMPLES / name).glob("*/*_???.jpg")):
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        pixels.append(np.asarray(small, dtype=np.float32).ravel() / 255)
        labels.append(path.parent.name)
    return np.stack(pixels), labels


def test_numbers_are_as_documented() -> None:
    found = {}
    for folder in sorted(path for name in SETS for path in (SAMPLES / name).iterdir()):
        files = list(folder.iterdir())
        found[folder.relative_to(SAMPLES).as_posix()] = (len(files), sum(decoded(path) is not None for path in files))
    assert found == documented_classes()


def test_small_enough_to_be_committed() -> None:
    sizes = [path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()]
    assert sum(sizes) < 3e6
    assert max(sizes) < 30e3


def test_every_awkward_file_is_there_and_named_as_documented() -> None:
    table = awkward_files()
    assert len(table) == 8
    on_disk = {unicodedata.normalize("NFC", str(path)) for path in SAMPLES.rglob("*")}
    for files in table.values():
        assert {unicodedata.normalize("NFC", str(path)) for path in files.values()} <= on_disk


@pytest.mark.parametrize("name", SETS)
def test_awkward_files_are_what_they_should_be(name: str) -> None:
    with Image.open(awkward(name, "sideways")) as picture:
        assert picture.format == "JPEG" and picture.getexif()[0x0112] == 6
    with Image.open(awkward(name, "name of a JPEG")) as picture:
        assert picture.format == "PNG" and picture.filename.endswith(".jpg")
    with Image.open(awkward(name, "palette")) as picture:
        assert picture.format == "PNG" and picture.mode == "P"
        assert picture.convert("RGBA").getchannel("A").getextrema() == (0, 255)
    with Image.open(awkward(name, "CMYK")) as picture:
        assert picture.format == "JPEG" and picture.mode == "CMYK"
    copy = awkward(name, "exact copy")
    assert copy.read_bytes() == copy.with_name(copy.name.replace(" - copy", "")).read_bytes()
    assert decoded(awkward(name, "unreadable")) is None
    assert decoded(awkward(name, "no picture")) is None


def test_the_sideways_picture_is_upright_after_its_orientation(maker: ModuleType, tmp_path: Path) -> None:
    upright = maker.draw_picture(maker.SETS["objects"].classes["cup"], np.random.default_rng(0))
    (tmp_path / "sideways.jpg").write_bytes(maker.sideways(upright))
    with Image.open(tmp_path / "sideways.jpg") as stored:
        assert stored.size == upright.size[::-1]
        turned = ImageOps.exif_transpose(stored)
    assert np.abs(np.asarray(turned, dtype=float) - np.asarray(upright, dtype=float)).mean() < 6


@pytest.mark.parametrize("label", ["cup", "fish", "leaf", "star", "cat", "rabbit"])
def test_the_script_draws_the_committed_pictures(maker: ModuleType, label: str) -> None:
    ((number, name),) = [(at, name) for at, name in enumerate(maker.SETS) if label in maker.SETS[name].classes]
    index = list(maker.SETS[name].classes).index(label)
    subject = maker.SETS[name].classes[label]
    seed = (maker.SEED, number, index, 42)
    drawn, again = (maker.draw_picture(subject, np.random.default_rng(seed)) for _ in range(2))
    assert maker.jpeg(drawn) == maker.jpeg(again)
    committed = decoded(SAMPLES / name / label / f"{label}_042.jpg")
    assert committed is not None and committed.size == drawn.size
    # not byte for byte: another Pillow may bring another JPEG encoder
    assert np.abs(np.asarray(committed, dtype=float) - np.asarray(drawn, dtype=float)).mean() < 6


@pytest.mark.slow
@pytest.mark.parametrize(("name", "limit"), [("objects", 0.60), ("cat_or_rabbit", 0.72)])
def test_a_linear_model_on_raw_pixels_fails(name: str, limit: float) -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pixels, labels = features(name)
    # all components of fewer pictures than pixels: a rotation, which changes nothing but the time (60 s to 1 s)
    model = make_pipeline(StandardScaler(), PCA(svd_solver="full"), LogisticRegression(C=0.01, max_iter=300))
    scores = cross_val_score(model, pixels, labels, cv=StratifiedKFold(4, shuffle=True, random_state=0))
    assert scores.mean() < limit
