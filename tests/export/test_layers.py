"""The layers of a float file: what comes in, times the weights, is what comes out."""

import keras
import numpy as np
import pytest

from imgclf.export import layers as module
from imgclf.export.layers import FloatModel, observe
from imgclf.models.convert import to_tflite
from imgclf.models.litert import LiteModel


def network(padding: str, strides: int) -> keras.Model:
    image = keras.Input((13, 11, 3))
    x = keras.layers.Conv2D(8, (3, 5), strides=strides, padding=padding, bias_initializer="normal")(image)
    x = keras.layers.DepthwiseConv2D(3, strides=strides, padding=padding, bias_initializer="normal")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(4, activation="softmax", bias_initializer="normal")(x))


IMAGES = np.random.default_rng(0).uniform(0, 1, (3, 13, 11, 3)).astype(np.float32)


@pytest.mark.parametrize(("padding", "strides"), [("same", 1), ("same", 2), ("valid", 1), ("valid", 2)])
def test_patches_times_weights_are_the_output(padding: str, strides: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POSITIONS", 10_000)  # every place
    model = network(padding, strides)
    lite = FloatModel(to_tflite(model))
    assert [layer.kind for layer in lite.layers] == ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    inputs = [model.inputs[0], model.layers[1].output, model.layers[3].output]
    outputs = [model.layers[1].output, model.layers[2].output]
    given = [np.asarray(value) for value in keras.Model(model.inputs, inputs)(IMAGES)]
    expected = [np.asarray(value) for value in keras.Model(model.inputs, outputs)(IMAGES)]
    for layer, image, out in zip(lite.layers[:2], given, expected, strict=False):
        patches = layer.patches(image[:1], np.random.default_rng(0))
        rows = layer.rows(lite.read(layer.weights).reshape(layer.shape))
        found = np.einsum("pkc,ck->pc", patches, rows) if layer.depthwise else patches @ rows.T
        assert layer.bias is not None
        np.testing.assert_allclose(found + lite.read(layer.bias), out[0].reshape(-1, 8), atol=1e-5)
        np.testing.assert_array_equal(layer.from_rows(rows).ravel(), lite.read(layer.weights))


def test_moments_and_ranges_are_those_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POSITIONS", 10_000)
    model = network("same", 2)
    lite = FloatModel(to_tflite(model))
    seen = observe(lite, list(IMAGES), largest=100)
    first = keras.Model(model.inputs, model.layers[1].output)(IMAGES)
    low, high = seen.ranges[lite.layers[0].name]
    assert (low, high) == pytest.approx((float(np.min(first)), float(np.max(first))), abs=1e-5)
    assert seen.variances[lite.layers[0].name] == pytest.approx(float(np.var(first)), rel=1e-4)
    conv, depthwise, dense = lite.layers
    patches = np.concatenate([conv.patches(image[None], np.random.default_rng(0)) for image in IMAGES])
    np.testing.assert_allclose(seen.first[0], patches.mean(axis=0), atol=1e-6)
    assert seen.second[0] is not None and seen.second[1] is not None
    np.testing.assert_allclose(seen.second[0], patches.T @ patches / len(patches), atol=1e-5)
    assert seen.second[1].shape == (8, 9, 9) and seen.first[1].shape == (8, 9)
    assert seen.second[2] is None, "as few inputs as images say nothing about many weights"
    assert observe(lite, list(IMAGES), largest=10).second[0] is None
    assert (depthwise.depthwise, dense.bias is not None) == (True, True)


def test_other_numbers_in_a_buffer_change_that_layer_only() -> None:
    lite = FloatModel(to_tflite(network("same", 1)))
    last = lite.layers[-1]
    assert last.bias is not None
    changed = LiteModel(lite.with_buffers({last.bias: np.array([50, 0, 0, 0], np.float32)}))
    assert (changed.run(IMAGES).argmax(axis=1) == 0).all()
    np.testing.assert_array_equal(LiteModel(lite.with_buffers({})).run(IMAGES), LiteModel(lite.content).run(IMAGES))
