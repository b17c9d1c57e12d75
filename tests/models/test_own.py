import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgclf.config import TrainConfig
from imgclf.errors import InputError
from imgclf.models import backbones
from imgclf.models.build import build_backbone, cut_layer
from imgclf.models.own import find_builder


def features(input_shape: Any, num_classes: int) -> Any:
    image = keras.Input(input_shape)
    return keras.Model(image, keras.layers.Conv2D(5, 3)(keras.layers.Rescaling(1 / 255)(image)))


def classifier(input_shape: Any, num_classes: int) -> Any:
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(7),
        keras.layers.Dense(num_classes), keras.layers.Softmax(),
    ])  # fmt: skip


def built(builder: Any, classes: int = 3) -> Any:
    return build_backbone(backbones.get(builder), None, (16, 16), 1, classes=classes)


def test_a_feature_extractor_is_taken_as_it_is() -> None:
    model = built(features)
    assert model.input_shape == (None, 16, 16, 1) and model.output_shape == (None, 14, 14, 5)


def test_a_classifier_gives_what_its_last_layer_reads_and_sees_pixels_from_0_to_1() -> None:
    keras.utils.set_random_seed(0)
    model = built(classifier)
    assert model.output_shape == (None, 7)
    keras.utils.set_random_seed(0)
    own = classifier((16, 16, 1), 3)
    inner = keras.Model(own.inputs, own.layers[2].output)
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 1)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(model(images)), np.asarray(inner(images / 255)), atol=1e-4)


def test_a_convolutional_classifier_loses_its_softmax() -> None:
    model = built(lambda shape, classes: keras.Sequential([
        keras.Input(shape), keras.layers.Conv2D(classes, 3), keras.layers.GlobalAveragePooling2D(),
        keras.layers.Softmax(),
    ]))  # fmt: skip
    outputs = np.asarray(model(np.full((1, 16, 16, 1), 200, np.float32)))
    assert outputs.shape == (1, 3) and abs(outputs.sum() - 1) > 1e-3


def test_it_can_be_cut_below_its_features_only() -> None:
    model = built(features)
    assert cut_layer(backbones.get(features), "0", model).layer == "own_features"
    assert cut_layer(backbones.get(features), "auto", model).layer is None
    with pytest.raises(InputError, match="cannot be cut at 'x'"):
        cut_layer(backbones.get(features), "x", model)


def double(x: Any) -> Any:
    return 2 * x


class Foreign(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (lambda input_shape, num_classes: 3, "returned int"),
        (lambda input_shape, num_classes: 1 / 0, "ZeroDivisionError"),
        (lambda shape: None, "TypeError"),
        (lambda input_shape, num_classes: classifier((9, 9, 1), num_classes), r"\(9, 9, 1\)"),
        (lambda input_shape, num_classes: keras.Sequential([keras.layers.Flatten()]), "without one known input"),
        (lambda shape, num_classes: keras.Sequential([keras.Input(shape), keras.layers.Lambda(abs)]), "Lambda"),
        (lambda input_shape, num_classes: keras.Sequential([keras.Input(input_shape), Foreign()]), "Foreign"),
        (lambda shape, num_classes: keras.Sequential([keras.Input(shape), keras.layers.Dense(2, activation=double)]),
         "no saved model can hold"),
        (lambda input_shape, num_classes: keras.Sequential([keras.Input(input_shape), keras.layers.Reshape((16, 16))]),
         "outputs of shape"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_said(builder: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        built(builder)


def test_a_name_is_imported_also_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imgclf_test_nets.py").write_text(
        "import keras\nvalue = 3\n\ndef build(input_shape, num_classes):\n"
        "    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten()])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert built("imgclf_test_nets:build").output_shape == (None, 256)
    for name, message in (
        ("imgclf_test_nets:other", "has no attribute 'other'"), ("imgclf_test_nets:value", "is no function"),
        ("imgclf_test_absent:build", "No module named"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            built(name)


def test_a_function_is_written_down_by_its_name() -> None:
    config = TrainConfig(backbone=features)
    assert config.to_json()["backbone"] == "tests.models.test_own:features"
    assert find_builder(config.to_json()["backbone"]) is features
