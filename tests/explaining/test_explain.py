"""`imgclf explain` and `Classifier.explain` on a run, a .keras and a .tflite file."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imgclf
from imgclf.explaining.explanation import Explanation
from imgclf.explaining.picture import MARK, coloured, draw, save
from imgclf.pixels import fitted, read
from tests.conftest import imgclf_here


def lines(text: str) -> list[list[str]]:
    return [line.split("  ") for line in text.splitlines()]


def test_a_picture_for_each_image_with_its_class_and_probability(run: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    odd = "<script>&'\u202e😀"
    for place in ("a/x.png", "b/X.PNG", f"a/{odd}.png", "a/x ..png"):
        shutil.copyfile(photos / "disc" / "disc 3.png", tmp_path / place)
    out = tmp_path / "out"
    done = imgclf_here("explain", run, tmp_path / "a", tmp_path / "b", "--out", out)
    assert done.returncode == 0, done.stderr
    expected = imgclf_here("predict", run, tmp_path / "a", tmp_path / "b").stdout
    found = lines(done.stdout)
    assert [line[:2] for line in found] == lines(expected)
    pictures = [Path(line[2]) for line in found]
    assert len({path.name.casefold() for path in pictures}) == 4
    assert sorted(pictures) == sorted(out.iterdir()), "nothing else, and nothing outside"
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.format == "JPEG" and picture.width >= 2 * 240
    again = imgclf_here("explain", run, tmp_path / "a", tmp_path / "b", "--out", out)
    assert again.stdout == done.stdout and len(list(out.iterdir())) == 4


def test_files_that_are_not_ours_are_not_written_over(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copyfile(photos / "disc" / "disc 3.png", tmp_path / "x.explained.jpg")
    shutil.copyfile(photos / "disc" / "disc 3.png", tmp_path / "x.png")
    before = (tmp_path / "x.explained.jpg").read_bytes()
    done = imgclf_here("explain", run, tmp_path / "x.png", "--out", tmp_path)
    assert done.returncode == 0 and lines(done.stdout)[0][2] == str(tmp_path / "x-2.explained.jpg")
    assert (tmp_path / "x.explained.jpg").read_bytes() == before
    assert MARK.encode() in (tmp_path / "x-2.explained.jpg").read_bytes()


def test_unreadable_images_are_named_and_left_out(run: Path, photos: Path, tmp_path: Path) -> None:
    done = imgclf_here("explain", run, photos / "disc", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "broken.jpg: truncated after 300 bytes" in done.stderr and "1 of 22 images" in done.stderr
    assert len(lines(done.stdout)) == len(list((tmp_path / "out").iterdir())) == 21


def test_the_class_that_is_asked_for(run: Path, photos: Path, tmp_path: Path) -> None:
    image = photos / "disc" / "disc 3.png"
    done = imgclf_here("explain", run, image, "--out", tmp_path, "--class", "bar & co")
    scores = dict(imgclf.load(run).predict(image)[0].top(3, imgclf.load(run).classes))
    assert lines(done.stdout)[0][1] == f"bar & co {scores['bar & co']:.3f}"
    bad = imgclf_here("explain", run, image, "--out", tmp_path, "--class", "disk")
    assert bad.returncode == 2 and "did you mean 'disc'?" in bad.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "b.png", "--layers"], "--layers draws one image"),
        (["a.png", "--layers", "--class", "disc"], "--layers draws one image"),
        (["nowhere.png"], "no images at nowhere.png"),
    ],
)
def test_what_does_not_go_together(words: list[str], message: str, run: Path, tmp_path: Path) -> None:
    done = imgclf_here("explain", run, *words, "--out", tmp_path / "out")
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "out").exists()


def test_a_tflite_file_without_tensorflow(run: Path, photos: Path, tmp_path: Path) -> None:
    model, image = run / "exports" / "model_float32.tflite", photos / "disc" / "disc 3.png"
    code = (
        "import sys\nfrom imgclf.cli.main import run\ntry:\n    run(sys.argv[1:])\nfinally:\n"
        "    assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    words = ["explain", model, image, "--out", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout)[0][1].startswith("disc ")
    bad = imgclf_here(*words, "--method", "gradcam")
    assert bad.returncode == 2 and "has no gradients" in bad.stderr


def test_occlusion_of_a_keras_file_is_that_of_its_tflite_file(run: Path, photos: Path) -> None:
    image = photos / "frame" / "frame 5.png"
    maps = [
        imgclf.load(path).explain(image, method="occlusion")[0].cells
        for path in (run, run / "model.keras", run / "exports" / "model_float32.tflite")
    ]
    assert maps[0].max() == 1
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_allclose(maps[0], maps[2], atol=1e-3)


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_heat_lies_on_the_upright_image(method: str, run: Path, photos: Path, tmp_path: Path) -> None:
    """A photo that is stored sideways has the heat of the same photo stored upright."""
    upright = np.asarray(Image.open(photos / "disc" / "disc 7.png"))[:, :40]
    Image.fromarray(upright).save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright)).save(tmp_path / "sideways.png", exif=exif)
    found = imgclf.load(run).explain([tmp_path / "upright.png", tmp_path / "sideways.png"], method=method)
    assert [each.label for each in found] == ["disc", "disc"]
    for each in found:
        assert each.heat.shape == (48, 40) and each.heat.dtype == np.float32
        assert np.isfinite(each.heat).all() and each.heat.min() >= 0 and each.heat.max() <= 1
    np.testing.assert_allclose(found[0].heat, found[1].heat, atol=1e-5)


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_hiding_what_is_hot_costs_more_than_hiding_as_much_elsewhere(method: str, run: Path, photos: Path) -> None:
    """The deletion test: a fifth of each image, by the mean of its pixels, in blocks of 4 x 4."""
    classifier = imgclf.load(run)
    paths = sorted((photos / "disc").glob("disc *.png")) + sorted((photos / "frame").glob("frame *.png"))
    images = np.stack([fitted(read(path).pixels, 32, 32) for path in paths])
    before = classifier.predictor.scores(images)
    explained = classifier.explain(paths, method=method)
    rng = np.random.default_rng(0)
    drops = {}
    for name in ("hot", "random"):
        hidden = images.copy()
        for image, each in zip(hidden, explained, strict=True):
            heat = rng.random((8, 8)) if name == "random" else each.heat.reshape(8, 6, 8, 6).mean((1, 3))
            places = np.argsort(-heat.ravel())[:13]
            for place in places:
                row, column = 4 * (place // 8), 4 * (place % 8)
                image[row : row + 4, column : column + 4] = image.mean((0, 1))
        after = classifier.predictor.scores(hidden)
        drops[name] = float(np.mean([b[b.argmax()] - a[b.argmax()] for b, a in zip(before, after, strict=True)]))
    assert drops["hot"] > drops["random"] + 0.1, drops


def test_the_picture_shows_photo_and_heat(tmp_path: Path) -> None:
    """Where nothing is hot the photo is seen in grey, where something is it is bright and yellow."""
    grey = np.full((10, 20, 3), 128, np.uint8)
    heat = np.zeros((10, 20), np.float32)
    heat[:, 10:] = 1
    seen = coloured(grey, heat).astype(int)
    assert np.ptp(seen[0, 0]) <= 4 and seen[0, 0].max() < 128
    red, green, blue = seen[0, 19]
    assert min(red, green) > 200 and blue < 170
    Image.fromarray(grey).save(tmp_path / "wide.png")
    cells = np.ones((2, 2), np.float32)
    wide = Explanation(tmp_path / "wide.png", "x" * 500 + "\n\x00", 0.5, "gradcam", cells, (10, 20))
    picture = draw(wide)
    assert picture.height > 2 * 120 and picture.width < 2 * 240, "one under the other"
    assert save(wide, tmp_path / "new" / "folder", set()).is_file()
