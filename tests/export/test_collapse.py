"""A network that eight bits ruin: half of EfficientNet-B0 with a channel in every layer that is far too large."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from imgclf import pixels, runs
from imgclf.models.files import load_keras_model
from tests.conftest import imgclf, imgclf_here

SIDE = 48
HUGE = 1e4
SAMPLES = Path(__file__).parents[2] / "sample_data" / "objects"


def build(input_shape: tuple[int, int, int], num_classes: int) -> Any:
    """EfficientNet-B0 up to its fourth block, which learns a little in a hundred steps: no dropout, quick BatchNorm.

    Without weights; the whole network takes three times as long and shows the same.
    """
    image = keras.Input(input_shape)
    base = keras.applications.EfficientNetB0(include_top=False, weights=None, input_tensor=image)
    pooled = keras.layers.GlobalAveragePooling2D()(base.get_layer("block4a_project_bn").output)
    base = keras.Model(image, pooled)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return keras.Model(image, keras.layers.Dense(num_classes, activation="softmax")(base.output))


def spoil(path: Path) -> None:
    """Make the first channel of every inner map huge and let nobody read it: the float network hardly changes.

    Eight bits give all channels of a map one scale, so that 10,000 in one of them leaves the others no step at all.
    """
    model = load_keras_model(path)
    layers = {layer.name: layer for layer in model._flatten_layers()}

    def blind(name: str, axis: int) -> None:
        kernel, *rest = layers[name].get_weights()
        kernel[(slice(None),) * axis + (0,)] = 0
        layers[name].set_weights([kernel, *rest])

    for name, layer in layers.items():
        read_by = {
            "stem_bn": [("block1a_dwconv", 2)],
            f"{name[:7]}_expand_bn": [(f"{name[:7]}_dwconv", 2)],
            f"{name[:7]}_bn": [(f"{name[:7]}_se_reduce", 2), (f"{name[:7]}_project_conv", 2)],
        }.get(name, [])
        if read_by:
            gamma, beta, mean, variance = layer.get_weights()
            gamma[0], beta[0] = 0, HUGE
            layer.set_weights([gamma, beta, mean, variance])
        for reader, axis in read_by:
            blind(reader, axis)
    model.save(path)


def write_parts(folder: Path) -> None:
    """Every third sample, to train on, and half of them again to be measured on: by heart is good enough here."""
    for label in sorted(path for path in SAMPLES.iterdir() if path.is_dir()):
        for number, path in enumerate(sorted(label.glob("*.jpg"))[::3]):
            try:
                picture = Image.fromarray(np.rint(pixels.load_for_model(path, SIDE, SIDE)).astype(np.uint8))
            except pixels.UnreadableImage:
                continue
            for part in ("train", "val" if number % 2 else "test"):
                (folder / part / label.name).mkdir(parents=True, exist_ok=True)
                picture.save(folder / part / label.name / f"{path.stem}.png")


@pytest.mark.slow
def test_a_network_that_eight_bits_ruin_is_refused_and_float16_shipped(tmp_path: Path) -> None:
    write_parts(tmp_path / "photos")
    done = imgclf("train", tmp_path / "photos", "--out", tmp_path / "run", "--backbone", f"{__name__}:build",
                  "--image-size", SIDE, "--epochs", "12", "--learning-rate", "0.001", "--batch-size", "16",
                  "--patience", "12", "--augment", "none", "--formats", "")  # fmt: skip
    assert done.returncode == 0, done.stderr
    spoil(tmp_path / "run" / runs.MODEL)

    done = imgclf_here("export", tmp_path / "run", "--formats", "float16,int8", "--calibration-images", 12)
    assert done.returncode == 0, done.stderr
    assert "model_int8.tflite is kept out of the exports" in done.stderr
    assert "points on" in done.stderr and "more than the 1 allowed" in done.stderr
    assert "model_int8.tflite: NOT to be shipped" in done.stdout
    assert f"ship {tmp_path / 'run' / 'exports' / 'model_float16.tflite'}" in done.stdout
    found = runs.read_json(tmp_path / "run" / "exports" / "verify.json")
    assert found["recommended"] == "float16" and found["files"]["int8"]["path"] == "refused/model_int8.tflite"
    assert "left in float" in "".join(found["files"]["int8"]["notes"]), "more care was tried first"
    guide = (tmp_path / "run" / "exports" / "README.md").read_text()
    assert "**Ship `model_float16.tflite`**" in guide and "Not to be shipped: `refused/model_int8.tflite`" in guide
