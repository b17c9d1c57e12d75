"""Every network from scratch: its sizes, one step of training, its files; and what convolution and pooling compute."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgclf.errors import InputError
from imgclf.models import backbones, scratch
from imgclf.models.build import PixelStatistics, build_backbone
from imgclf.models.convert import freeze
from imgclf.models.litert import LiteModel
from imgclf.models.network import assemble

# zfnet and vgg11 are of alexnet's kinds of layers, resnet34 of resnet18's
MARKS = {**dict.fromkeys(("alexnet", "googlenet", "densenet_bc"), pytest.mark.slow),
         **dict.fromkeys(("zfnet", "vgg11", "resnet34"), pytest.mark.sweep)}  # fmt: skip
ROWS = [pytest.param(row, id=row.name, marks=MARKS.get(row.name, ())) for row in scratch.ROWS]


@pytest.mark.parametrize("row", ROWS)
def test_a_grey_network_learns_a_step_and_its_files_agree(row: backbones.Backbone, tmp_path: Path) -> None:
    side = max(28, row.min_size)
    backbone = build_backbone(row, None, (side, side), channels=1)
    model = assemble(backbone, ("a", "b", "c"), binary=False, dropout=0.2, seed=0).model
    assert model.input_shape == (None, side, side, 1)
    images = np.random.default_rng(0).uniform(0, 255, (4, side, side, 1)).astype(np.float32)
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
    model.fit(images, np.array([0, 1, 2, 0]), verbose=0)
    moved = [not np.array_equal(old, new.numpy()) for old, new in zip(before, model.trainable_weights, strict=True)]
    assert np.mean(moved) > 0.8
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    expected = np.asarray(model(images, training=False))
    assert np.isfinite(expected).all()
    graph = freeze(reloaded)  # what leaves imgclf is converted from the saved file
    single, half = LiteModel(graph.convert()), LiteModel(graph.convert(float16=True))
    assert single.input_shape == (side, side, 1), "a grey model takes grey images"
    np.testing.assert_allclose(single.run(images), expected, atol=1e-4)
    np.testing.assert_allclose(half.run(images), expected, atol=3e-2)


@pytest.mark.slow
@pytest.mark.parametrize("row", scratch.ROWS, ids=lambda row: row.name)
def test_a_colour_network_of_224_pixels_builds_and_the_table_counts_right(row: backbones.Backbone) -> None:
    model = build_backbone(row, None, (224, 224))
    assert model.input_shape == (None, 224, 224, 3) and None not in model.output.shape[1:]
    if row.default_size != 224:
        del model
        model = build_backbone(row, None, (row.default_size, row.default_size))
    assert model.count_params() == row.variant().parameters
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names) and not any(isinstance(layer, keras.layers.Lambda) for layer in model.layers)


@pytest.mark.parametrize("row", [row for row in scratch.ROWS if row.min_size > 16], ids=lambda row: row.name)
def test_the_smallest_size_is_the_smallest(row: backbones.Backbone) -> None:
    with pytest.raises(InputError, match=f"{row.name} cannot take images"):
        backbones.check_size(row, row.min_size - 1)
    with pytest.raises(ValueError):
        build_backbone(row, None, (row.min_size - 1, row.min_size - 1))


# Layers of the tutorials as they describe them: Conv2D(filters), MaxPooling2D, Dense(units), in order.
LAYOUTS = {
    "cnn_mnist": (32, "pool", 64, "pool", 64, "dense 64"),
    "cnn_mnist_basic": (32, "pool", 64, "pool"),
    "cnn_cifar": (32, "pool", 64, "pool", "dense 128"),
    "cnn_cifar_wide": (32, "pool", 64, "pool", 64, "dense 128", "dense 256"),
    "cnn_cifar_bn": (32, "norm", 32, "norm", "pool", 64, "norm", 64, "norm", "pool", "dense 512", "norm"),
    "cnn_binary": (16, "pool", 32, "pool", 64, "pool", "dense 512"),
    "dense_basic": ("dense 128",),
}


def layout(model: Any) -> tuple[Any, ...]:
    found: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert layer.kernel_size == (3, 3)
            found.append(layer.filters)
        elif isinstance(layer, keras.layers.MaxPooling2D):
            assert layer.pool_size == (2, 2)
            found.append("pool")
        elif isinstance(layer, keras.layers.Dense):
            found.append(f"dense {layer.units}")
        elif isinstance(layer, keras.layers.BatchNormalization):
            found.append("norm")
    return tuple(found)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_tutorials_networks_are_laid_out_as_they_say(name: str) -> None:
    row = backbones.get(name)
    assert layout(build_backbone(row, None, (row.default_size, row.default_size))) == LAYOUTS[name]


def test_batch_norm_can_be_added_and_left_out() -> None:
    def norms(name: str, norm: bool | None) -> int:
        model = build_backbone(backbones.get(name), None, (32, 32), norm=norm)
        return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)

    assert (norms("cnn_cifar", None), norms("cnn_cifar", True), norms("cnn_cifar", False)) == (0, 3, 0)
    assert norms("cnn_cifar_bn", None) == 5 and norms("cnn_cifar_bn", False) == 0


@pytest.mark.parametrize(
    ("scaling", "expected"), [("unit", (0.0, 1.0)), ("tf", (-1.0, 1.0)), ("data", (-100 / 50, 155 / 50))]
)
def test_pixels_are_scaled_as_asked(scaling: Any, expected: tuple[float, float]) -> None:
    model = build_backbone(backbones.get("cnn_mnist"), None, (28, 28), 1, scaling=scaling,
                           statistics=PixelStatistics((100.0,), (50.0,)))  # fmt: skip
    scaled = keras.Model(model.input, model.get_layer("scale").output)
    images = np.zeros((1, 28, 28, 1), np.float32)
    images[0, 0, 0, 0] = 255
    found = np.asarray(scaled(images))
    np.testing.assert_allclose((found.min(), found.max()), expected, atol=1e-6)


def test_convolution_and_pooling_give_the_known_answers() -> None:
    """The example of docs/tutorials/mnist.md, by hand: 2 + 4, 4 + 2, 1 + 6, 4 + 8."""
    image = np.array([[2, 4, 5], [1, 4, 2], [7, 6, 8]], np.float32).reshape(1, 3, 3, 1)
    kernel = np.array([[1, 0], [0, 1]], np.float32).reshape(2, 2, 1, 1)
    convolution = keras.layers.Conv2D(1, 2, use_bias=False)
    convolution.build(image.shape)
    convolution.set_weights([kernel])
    np.testing.assert_array_equal(np.asarray(convolution(image))[0, :, :, 0], [[6, 6], [7, 12]])
    pixels = np.array([[1, 3, 2, 0], [4, 2, 1, 1], [0, 5, 6, 2], [1, 2, 7, 8]], np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(np.asarray(keras.layers.MaxPooling2D(2)(pixels))[0, :, :, 0], [[4, 2], [5, 8]])
