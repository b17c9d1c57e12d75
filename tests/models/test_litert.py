"""Anybody's .tflite file: its own normalisation, dtypes and shapes."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from imgclf import predict
from imgclf.models.convert import to_tflite
from imgclf.models.litert import LiteModel
from imgclf.models.tflite_metadata import Metadata, write

LABELS = ("a", "b", "c")
SIDE = 4


def mean_of_channels(*, flat: bool = True) -> keras.Model:
    """A network whose scores are the means of the channels of its input."""
    image = keras.Input((SIDE, SIDE, 3))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(keepdims=not flat)(image))


IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3)).astype(np.float32)
MEANS = IMAGES.mean(axis=(1, 2))


def quantized(kind: tf.DType) -> bytes:
    """As TensorFlow's converter makes it of a network that wants -1..1."""
    converter = tf.lite.TFLiteConverter.from_keras_model(mean_of_channels())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None] / 127.5 - 1] for image in IMAGES)
    converter.inference_input_type = converter.inference_output_type = kind
    content: bytes = converter.convert()
    return content


def test_a_float_input_is_normalised_as_the_file_says() -> None:
    content = to_tflite(mean_of_channels())
    np.testing.assert_allclose(LiteModel(content).run(IMAGES), MEANS, rtol=1e-5)
    one = LiteModel(write(content, Metadata(labels=LABELS, mean=(127.5,), std=(127.5,))))
    np.testing.assert_allclose(one.run(IMAGES), MEANS / 127.5 - 1, atol=1e-5)
    each = LiteModel(write(content, Metadata(labels=LABELS, mean=(1, 2, 3), std=(1, 2, 4))))
    np.testing.assert_allclose(each.run(IMAGES), (MEANS - [1, 2, 3]) / [1, 2, 4], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [tf.uint8, tf.int8])
def test_an_integer_input_is_fed_as_mediapipe_does(kind: tf.DType) -> None:
    content = quantized(kind)
    said = write(content, Metadata(labels=LABELS, mean=(127.5,), std=(127.5,)))
    model = LiteModel(said)
    assert model.input_dtype == kind.as_numpy_dtype
    np.testing.assert_allclose(model.run(IMAGES), MEANS / 127.5 - 1, atol=0.03)
    np.testing.assert_allclose(LiteModel(content).run(IMAGES), MEANS / 127.5 - 1, atol=0.03)


def test_scores_may_keep_their_ones(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(to_tflite(mean_of_channels(flat=False)))
    model = LiteModel(file)
    assert model.output_shape == (3,)
    np.testing.assert_allclose(model.run(IMAGES), MEANS, rtol=1e-5)
    (tmp_path / "labels.txt").write_text("0 red\r\n1 green\r\n2 blue\r\n")
    assert predict.load(file).classes == ("red", "green", "blue")
    file.write_bytes(write(file.read_bytes(), Metadata(labels=LABELS)))
    assert predict.load(file).classes == LABELS, "what the file says of itself goes first"
