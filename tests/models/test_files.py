"""A model on disk is the model that was trained, or it is not there."""

from pathlib import Path

import keras
import numpy as np
import pytest

from imgclf.errors import CheckFailed, InputError
from imgclf.models.files import load_keras_model, read_back, save_keras_model, write_keras_model


def _model(seed: int = 0) -> keras.Model:
    image = keras.Input((8, 8, 3))
    weights = keras.initializers.RandomNormal(stddev=1e-4, seed=seed)  # no score is near 0 or 1
    return keras.Model(
        image, keras.layers.Dense(2, "softmax", kernel_initializer=weights)(keras.layers.Flatten()(image))
    )


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    model = _model()
    again = save_keras_model(model, tmp_path / "model.keras")
    images = np.random.default_rng(1).uniform(0, 255, (3, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(model(images), again(images), atol=1e-6)


def test_a_file_that_holds_another_model_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    write_keras_model(_model(), path)
    with pytest.raises(CheckFailed, match="differs from the trained one"):
        read_back(_model(1), path)
    assert list(tmp_path.iterdir()) == []


def test_a_lambda_layer_is_not_run(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(keras.layers.Lambda(lambda value: value * 2)(image))
    keras.Model(image, keras.layers.Dense(2)(flat)).save(tmp_path / "code.keras")
    with pytest.raises(InputError, match="cannot be read as a Keras model"):
        load_keras_model(tmp_path / "code.keras")
