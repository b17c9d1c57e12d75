"""Training from scratch through the command line: small, grey and transparent images, own networks, a look inside."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgclf import predict
from imgclf.models.litert import LiteModel
from tests.conftest import draw, imgclf, imgclf_here

pytestmark = pytest.mark.slow

CLASSES = ("bar", "disc", "frame")


def write(root: Path, mode: str, each: int = 20, side: int = 28) -> Path:
    for label, name in ((1, "bar"), (0, "disc"), (2, "frame")):
        (root / name).mkdir(parents=True)
        for number in range(each):
            draw(label, number, side).convert("L").convert(mode).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey images of 28 pixels."""
    return write(tmp_path_factory.mktemp("grey") / "digits", "L")


@pytest.fixture(scope="module")
def grey_run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """imgclf chooses everything."""
    out = tmp_path_factory.mktemp("runs") / "grey"
    done = imgclf_here("train", digits, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done.stderr


def test_grey_stays_one_channel_to_the_phone(grey_run: tuple[Path, str], digits: Path) -> None:
    run, said = grey_run
    assert "cnn_small" in said and "one channel" in said and "not mirrored" in said
    for name in ("float32", "float16"):
        assert LiteModel(run / f"exports/model_{name}.tflite").input_shape == (28, 28, 1)
    assert predict.load(run).input_shape == (28, 28, 1)
    decided = json.loads((run / "config.json").read_text())["decided"]
    assert (decided["backbone"], decided["image_size"], decided["color"]) == ("cnn_small", 28, "grayscale")
    assert json.loads((run / "metrics.json").read_text())["accuracy"] > 0.6


def test_a_coloured_picture_of_the_same_thing_gets_the_same_answer(
    grey_run: tuple[Path, str], digits: Path, tmp_path: Path
) -> None:
    """Every channel alike, and a photo in which red, green and blue weigh as in the luma of JPEG."""
    run, _ = grey_run
    grey = digits / "disc" / "3.png"
    pixels = np.asarray(Image.open(grey))
    Image.fromarray(np.stack([pixels] * 3, 2)).save(tmp_path / "same.png")
    Image.open(grey).convert("RGBA").save(tmp_path / "alpha.png")
    expected, *others = predict.load(run).each([grey, tmp_path / "same.png", tmp_path / "alpha.png"])
    for other in others:
        np.testing.assert_allclose(other.scores, expected.scores, atol=1e-3)  # type: ignore[union-attr]


def test_a_grey_picture_given_to_a_colour_model(run: Path, photos: Path, tmp_path: Path) -> None:
    grey = Image.open(photos / "frame" / "frame 1.png").convert("L")
    grey.save(tmp_path / "l.png")
    grey.convert("RGB").save(tmp_path / "rgb.png")
    one, other = predict.load(run).each([tmp_path / "l.png", tmp_path / "rgb.png"])
    assert one.scores == other.scores and abs(sum(one.scores) - 1) < 1e-5  # type: ignore[union-attr]


def test_transparent_pictures_of_28_pixels_train(tmp_path: Path) -> None:
    out = tmp_path / "r"
    done = imgclf_here("train", write(tmp_path / "rgba", "RGBA", 8), "--out", out, "--backbone", "cnn_mnist_basic",
                  "--epochs", "1", "--formats", "")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "24 images" in done.stderr


def test_every_setting_of_training_from_scratch_is_taken(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    done = imgclf_here(
        "train", digits, "--out", out, "--backbone", "cnn_cifar", "--epochs", "3", "--optimizer", "lion", "--schedule",
        "plateau", "--loss", "focal", "--l1", "0.0001", "--l2", "0.001", "--dropout", "0.3", "--batch-norm",
        "--label-smoothing", "0.1", "--normalization", "data", "--color", "rgb", "--augment", "shift", "--batch-size",
        "16", "--learning-rate", "0.0005", "--formats", "",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lion, plateau learning rate 0.0005, batches of 16, augmentation shift" in done.stderr
    assert "penalties l1 0.0001 and l2 0.001 on 4 kernels" in done.stderr
    assert predict.load(out).input_shape == (28, 28, 3)
    with (out / "history.csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == 3


def test_a_network_of_ones_own(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imgclf_e2e_nets.py").write_text(
        "import keras\n\ndef build(input_shape, num_classes):\n"
        "    return keras.Sequential([keras.Input(input_shape), keras.layers.Conv2D(8, 3, activation='relu'),\n"
        "        keras.layers.Flatten(), keras.layers.Dense(num_classes, activation='softmax')])\n"
    )
    monkeypatch.chdir(tmp_path)
    done = imgclf_here(
        "train", digits, "--out", "r", "--backbone", "imgclf_e2e_nets:build", "--epochs", "2", "--formats", ""
    )
    assert done.returncode == 0, done.stderr
    assert "network: imgclf_e2e_nets:build at 28 x 28 pixels, grey" in done.stderr
    (tmp_path / "imgclf_e2e_nets.py").unlink()
    again = imgclf_here("evaluate", "r")
    assert again.returncode == 0, "the model needs the code that built it no more"
    assert imgclf_here("backbones", "show", "imgclf_e2e_nets:gone").returncode == 2


def test_a_look_inside(grey_run: tuple[Path, str], digits: Path, tmp_path: Path) -> None:
    run, _ = grey_run
    page = (run / "report.html").read_text()
    assert "What it sees" in page and "The first kernels" in page
    done = imgclf_here("explain", run, digits / "disc" / "0.png", "--layers", "--out", tmp_path / "seen")
    assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in (tmp_path / "seen").glob("*.png"))
    assert files[:2] == ["00-image.png", "00-kernels.png"] and len(files) == 2 + 6  # three convolutions, three poolings
    with Image.open(tmp_path / "seen" / "00-image.png") as image:
        assert image.size == (28, 28)
    shown = imgclf_here("backbones", "show", run).stdout
    assert "scores" in shown and "million multiply-adds" in shown
    bad = imgclf_here("explain", run, tmp_path / "nowhere.png", "--layers", "--out", tmp_path / "x")
    assert bad.returncode == 2 and not (tmp_path / "x").exists()


def test_networks_are_shown_with_their_layers() -> None:
    shown = imgclf_here("backbones", "show", "mobilenet_v2", "--image-size", "96").stdout
    assert "block_12_add" in shown and "Apache-2.0" in shown and "unfreeze above" in shown
    short = imgclf_here("backbones", "show", "cnn_mnist").stdout
    assert "93,248 weights" in short and "18 px" in short


def test_cached_weights_are_listed(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet_2_5_224_tf_no_top.h5").write_bytes(b"x")
    rows = imgclf("weights", "list", KERAS_HOME=str(tmp_path)).stdout.splitlines()
    cached = [row for row in rows if row.startswith("cached")]
    assert len(cached) == 1 and "mobilenet 0.25 at 224 px" in cached[0] and len(rows) > 50


def test_strong_augmentation_knows_grey_images(digits: Path, tmp_path: Path) -> None:
    done = imgclf_here("train", digits, "--out", tmp_path / "r", "--backbone", "cnn_mnist_basic", "--epochs", "1",
                       "--augment", "strong", "--optimizer", "adamw", "--formats", "")  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_settings_that_cannot_be_meant_are_said_before_any_work(digits: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    for options, words in (
        (["--head", "binary"], "is for two classes, the images have 3"),
        (["--weights", run, "--backbone", "resnet18"], "has backbone tiny"),
        (["--weights", run, "--color", "grayscale"], "has color rgb"),
        (["--weights", run, "--unfreeze", "zebra"], "cannot be cut at 'zebra'"),
        (["--weights", run, "--truncate-at", "stage2_relu"], "has truncate at None"),
        (["--backbone", "no.such:build"], "cannot be imported"),
    ):  # fmt: skip
        done = imgclf_here("train", digits, "--out", out, *options, "--formats", "")
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert "training the head" not in done.stderr and not out.exists()
    ignored = imgclf_here("train", digits, "--out", out, "--backbone", "tiny", "--epochs", "1", "--unfreeze", "2",
                          "--views", "3", "--formats", "")  # fmt: skip
    assert ignored.stderr.count("has no effect in training from scratch") == 2


def test_a_run_that_is_gone_on_from_is_never_lost_and_never_tested_on_in_silence(
    run_copy: Path, photos: Path, tmp_path: Path
) -> None:
    onto = imgclf_here("train", photos, "--out", run_copy, "--weights", run_copy, "--overwrite", "--formats", "")
    assert onto.returncode == 2 and "holds the weights to start from" in onto.stderr
    assert (run_copy / "model.keras").is_file()
    common = ["--weights", run_copy / "model.keras", "--epochs", "1", "--fine-tune-epochs", "0", "--formats", ""]
    same = imgclf_here("train", photos, "--out", tmp_path / "same", *common)
    other = imgclf_here("train", photos, "--out", tmp_path / "other", *common, "--seed", "1")
    assert same.returncode == 0 and "were trained on" not in same.stderr, same.stderr
    assert "images were trained on by" in other.stderr
    assert any(
        "trained on by" in note for note in json.loads((tmp_path / "other" / "config.json").read_text())["notes"]
    )


def test_images_inside_the_run_to_be_replaced_are_safe(run_copy: Path, digits: Path) -> None:
    shutil.copytree(digits, run_copy / "photos")
    done = imgclf_here("train", run_copy / "photos", "--out", run_copy, "--overwrite")
    assert done.returncode == 2 and "which --overwrite would empty" in done.stderr
    assert (run_copy / "photos" / "disc").is_dir()
