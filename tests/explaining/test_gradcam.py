"""Grad-CAM against maps worked out by hand, and on every network of the table."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from imgclf.explaining.gradcam import GradCam
from imgclf.models import backbones, scratch
from imgclf.models.build import build_backbone
from imgclf.models.network import assemble
from tests.explaining.maps import assert_explains

QUICK = {"tiny", "cnn_mnist", "dense_basic"}
ROWS = [pytest.param(row, id=row.name, marks=() if row.name in QUICK else pytest.mark.slow) for row in scratch.ROWS]


def pooled(kernel: list[list[float]], bias: list[float], *, inner: bool = False) -> Any:
    """Pixels `(N, 4, 4, 1)`, a convolution that changes nothing, their mean, a softmax."""
    image = keras.Input((4, 4, 1))
    convolution = keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones")
    network = keras.Sequential([keras.Input((4, 4, 1)), convolution]) if inner else convolution
    x = keras.layers.GlobalAveragePooling2D()(network(image))
    head = keras.layers.Dense(len(bias), activation="softmax")
    model = keras.Model(image, head(keras.layers.Dropout(0.5)(x)))
    head.set_weights([np.array(kernel), np.array(bias)])
    return model


def spotted(row: int, column: int, value: float = 200.0) -> Any:
    image = np.zeros((1, 4, 4, 1), np.float32)
    image[0, row, column] = value
    return image


def alone(row: int, column: int) -> Any:
    return spotted(row, column, 1.0)[0, ..., 0]


@pytest.mark.parametrize("inner", [False, True], ids=["flat", "nested"])
def test_what_speaks_for_a_class_is_hot_and_what_speaks_against_it_is_not(inner: bool) -> None:
    explain = GradCam(pooled([[1.0, -1.0, 0.0]], [0.0, 0.0, 0.0], inner=inner))
    images = np.concatenate([spotted(1, 2), spotted(3, 0)])
    scores, classes, maps = explain(images)
    assert classes.tolist() == [0, 0] and scores.shape == (2, 3)
    np.testing.assert_allclose(maps, [alone(1, 2), alone(3, 0)])
    _, classes, against = explain(images, 1)
    assert classes.tolist() == [1, 1] and not against.any()


def test_the_map_is_that_of_the_logit_so_that_certainty_does_not_hide_it() -> None:
    scores, _, maps = GradCam(pooled([[1.0, -1.0, 0.0]], [0.0, 0.0, 0.0]))(spotted(1, 2, 1e4))
    assert scores[0, 0] == 1.0, "the gradient of this probability is 0"
    np.testing.assert_allclose(maps[0], alone(1, 2))


@pytest.mark.parametrize(("weight", "wanted"), [(2.0, 1), (-2.0, 0)])
def test_either_class_of_a_binary_model(weight: float, wanted: int) -> None:
    """One logit was trained, the other is 0 whatever comes in: the first class is what speaks against the second."""
    explain = GradCam(pooled([[0.0, weight]], [0.0, 0.0]))
    _, classes, maps = explain(spotted(0, 3))
    assert classes.tolist() == [wanted]
    np.testing.assert_allclose(maps[0], alone(0, 3))
    assert not explain(spotted(0, 3), 1 - wanted)[2].any()


def test_behind_flatten_each_place_has_its_own_weight() -> None:
    image = keras.Input((2, 2, 1))
    head = keras.layers.Dense(3, name="head")
    model = keras.Model(image, keras.layers.Softmax()(head(keras.layers.Flatten()(image))))
    head.set_weights([np.array([[3.0, 0, 0], [1.0, 0, 0], [0, 0, 0], [-2.0, 0, 0]]), np.zeros(3)])
    _, _, maps = GradCam(model)(np.ones((1, 2, 2, 1), np.float32), 0)
    np.testing.assert_allclose(maps[0], [[1, 1 / 3], [0, 0]], rtol=1e-6)


def test_the_map_is_the_last_one_that_has_places() -> None:
    """Pooling may keep its dimensions, and layers may follow it."""
    image = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Multiply()([x, keras.layers.Conv2D(4, 1, activation="sigmoid")(gate)])
    x = keras.layers.Conv2D(5, 1, activation="relu")(keras.layers.GlobalAveragePooling2D(keepdims=True)(x))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x)))
    _, _, maps = GradCam(model)(np.random.default_rng(0).uniform(0, 255, (2, 12, 12, 3)).astype(np.float32))
    assert maps.shape == (2, 6, 6)


def test_a_last_map_of_few_cells_gives_way_to_the_last_finer_one_that_all_paths_go_through() -> None:
    image = keras.Input((24, 24, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", strides=2)(image)  # 12 x 12
    stem = keras.layers.Conv2D(4, 3, padding="same", activation="relu", strides=2)(x)  # 6 x 6
    beside = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(stem)  # 6 x 6 too, with a way around it
    x = keras.layers.Concatenate()([keras.layers.MaxPooling2D(2)(beside), keras.layers.AveragePooling2D(2)(stem)])
    head = keras.layers.Dense(3)
    logits = head(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, keras.layers.Softmax()(logits))
    images = np.random.default_rng(0).uniform(0, 255, (1, 24, 24, 3)).astype(np.float32)
    _, classes, maps = GradCam(model)(images)
    activations = keras.Model(image, stem)(images)
    with tf.GradientTape() as tape:
        tape.watch(activations)
        score = keras.Model(stem, logits)(activations)[0, classes[0]]
    product = np.asarray(tape.gradient(score, activations) * activations).sum(-1)
    np.testing.assert_allclose(maps, np.maximum(product, 0) / product.max(), atol=1e-4)


@pytest.mark.parametrize("row", ROWS)
def test_every_network_from_scratch(row: backbones.Backbone) -> None:
    """The pretrained ones are explained where they are built anyway: tests/training/test_batchnorm.py."""
    side = row.min_size
    network = assemble(
        build_backbone(row, row.alphas[0], (side, side)), ("a", "b", "c"), binary=False, dropout=0.2, seed=0
    )
    assert_explains(network.finished(), side, 3)


def test_a_finished_binary_network() -> None:
    network = assemble(
        build_backbone(backbones.get("tiny"), None, (32, 32)), ("a", "b"), binary=True, dropout=0, seed=0
    )
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    maps = [GradCam(network.finished())(images, wanted)[2][0] for wanted in (0, 1)]
    assert max(cells.max() for cells in maps) == 1
    assert not (maps[0] * maps[1]).any(), "no place speaks for both of two classes"
