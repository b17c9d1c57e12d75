"""The gate in the graph says what NumPy says, survives being saved, and is the same in LiteRT."""

from pathlib import Path

import keras
import numpy as np
import pytest

from imgclf import runs
from imgclf.evaluation.unknown import fit_gate, gated, softmax
from imgclf.models.convert import to_tflite
from imgclf.models.files import load_keras_model, save_keras_model
from imgclf.models.gate import with_gate
from imgclf.models.litert import LiteModel
from imgclf.models.network import assemble, head_features, head_layer, temper
from imgclf.predict import of_model


def network(binary: bool) -> object:
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(12, 3, activation="relu")(x)
    classes = ("a", "b") if binary else ("a", "b", "c")
    return assemble(keras.Model(image, x), classes, binary=binary, dropout=0.2, seed=0)


@pytest.mark.parametrize("binary", [False, True])
def test_the_graph_is_the_arithmetic(binary: bool, tmp_path: Path) -> None:
    net = network(binary)
    model = net.finished()
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.float32)
    before = model.predict(images, verbose=0)
    temper(model, 1.7)
    after = model.predict(images, verbose=0)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    np.testing.assert_allclose(np.diff(np.log(after)), np.diff(np.log(before)) / 1.7, atol=1e-5)

    features = keras.Model(model.inputs[0], head_features(model)).predict(images, verbose=0)
    kernel, bias = head_layer(model).get_weights()
    logits = features @ kernel + bias
    labels = np.arange(40) % len(net.classes)
    gate = fit_gate(features, labels, features, logits, coverage=0.8)
    expected = gated(softmax(logits), gate(features, logits))
    assert 0 < (expected.argmax(axis=1) == len(net.classes)).mean() <= 0.25
    whole = with_gate(model, gate.prototypes, gate.cosine, gate.energy, gate.offset)
    read = save_keras_model(whole, tmp_path / "model.keras")
    for found in (read.predict(images, verbose=0), LiteModel(to_tflite(read)).run(images)):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert of_model(tmp_path, read, net.classes).classes == (*net.classes, runs.UNKNOWN)
    # what goes on from it, or keeps its features, finds head and features behind the gate
    again = load_keras_model(tmp_path / "model.keras")
    np.testing.assert_allclose(head_layer(again).get_weights()[0], kernel, rtol=1e-6)
    rest = keras.Model(head_features(again), again.output)
    np.testing.assert_allclose(np.asarray(rest(features)), expected, atol=1e-3)
