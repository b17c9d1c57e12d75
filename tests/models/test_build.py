import importlib
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgclf.errors import InputError
from imgclf.models import backbones, pretrained
from imgclf.models.build import Cut, articulation_layers, build_backbone, cut_layer, freeze_batchnorm, snake_case
from imgclf.models.convert import freeze
from imgclf.models.litert import LiteModel
from tests.models.families import SCALED

QUICK = {"mobilenet", "mobilenet_v2", "mobilenet_v3_small", "tiny"}
ROWS = [
    pytest.param(row, id=row.name, marks=() if row.name in QUICK else pytest.mark.slow)
    for row in (*pretrained.ROWS, backbones.get("tiny"))
]

# keras.applications.MODULE.preprocess_input is what the weights of rows that do not rescale inside were trained with.
MODULES = {
    "mobilenet": "mobilenet", "mobilenet_v2": "mobilenet_v2", "inception_v3": "inception_v3", "xception": "xception",
    "resnet50": "resnet", "resnet50_v2": "resnet_v2", "densenet121": "densenet", "vgg16": "vgg16",
    "nasnet_mobile": "nasnet",
}  # fmt: skip
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def size(row: backbones.Backbone) -> int:
    return max(64, row.min_size)  # at 32 px BatchNorm sees two numbers a channel, and gradients explode


@pytest.fixture(params=ROWS, scope="module")  # module: pytest then does all tests of a row before the next row
def row(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def model(row: backbones.Backbone) -> Any:
    return build_backbone(row, None, (size(row), size(row)))


@pytest.fixture(scope="module")
def v2() -> Any:
    return build_backbone(backbones.get("mobilenet_v2"), None, (32, 32))


def ramp(side: int) -> Any:
    """Every value 0..255, another order in each channel."""
    values = np.arange(side * side * 3, dtype=np.float32) % 256
    return values.reshape(1, side, side, 3)


def trained_on(row: backbones.Backbone, pixels: Any) -> Any:
    """What the first layer with weights was trained on, from Keras' functions and the papers' own definitions."""
    if row.name in MODULES:
        return importlib.import_module(f"keras.applications.{MODULES[row.name]}").preprocess_input(pixels.copy())
    if row.name.startswith(("efficientnet_b", "efficientnet_v2_b", "convnext")):
        return (pixels / 255 - MEAN) / STD
    return pixels / 128 - 1 if row.name == "efficientnet_v2_s" else pixels / 127.5 - 1


def test_pixels_reach_the_first_layer_in_the_range_of_its_weights(row: backbones.Backbone, model: Any) -> None:
    first = next(
        layer for layer in model.layers if isinstance(layer, (keras.layers.Conv2D, keras.layers.ZeroPadding2D))
    )
    pixels = ramp(size(row))
    found = np.asarray(keras.Model(model.input, first.input)(pixels))
    np.testing.assert_allclose(found, trained_on(row, pixels), atol=2e-5 * np.abs(found).max())
    assert found.min() < -0.9 and found.max() > 0.9


def test_graph_is_flat_from_image_to_feature_map(row: backbones.Backbone, model: Any) -> None:
    assert model.input.name == "image" and model.name == row.name
    assert model.input.shape == (None, size(row), size(row), 3) and model.input.dtype == "float32"
    assert len(model.output.shape) == 4
    assert not any(isinstance(layer, (keras.Model, keras.layers.Lambda)) for layer in model.layers)


def test_cuts_are_articulation_points_from_the_top(row: backbones.Backbone, model: Any) -> None:
    places = articulation_layers(model)
    positions = [places.index(cut) for cut in row.cuts]
    assert positions == sorted(positions)
    assert places[-1] == "image" and model.get_layer(places[0]).output is model.output
    order = [layer.name for layer in model.layers]
    above = [sum(layer.count_params() for layer in model.layers[order.index(cut) + 1 :]) for cut in row.cuts]
    assert all(few < many for few, many in zip([0, *above], above, strict=False))  # each block has weights


def test_no_name_depends_on_what_was_built_before(row: backbones.Backbone, model: Any) -> None:
    counted = [
        operation.name
        for operation in model.operations
        if re.fullmatch(rf"{snake_case(type(operation).__name__)}(_\d+)?", operation.name)
    ]
    assert counted == []


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v2", "resnet50", "mobilenet_v3_small", *(pytest.param(name, marks=pytest.mark.slow)
     for name in ("inception_v3", "xception", "convnext_tiny", "efficientnet_b0"))],
)  # fmt: skip
def test_two_builds_have_the_same_names(name: str) -> None:
    row = backbones.get(name)
    first, second = (build_backbone(row, None, (96, 96)) for _ in range(2))
    assert [operation.name for operation in first.operations] == [operation.name for operation in second.operations]


def require_still_batchnorm(model: Any, whole: Any, images: Any) -> None:
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before, kept = [layer.get_weights() for layer in norms], whole.get_weights()
    assert freeze_batchnorm(model) == len(norms)
    whole.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
    whole.fit(images, np.array([0, 1]), verbose=0)
    for layer, values in zip(norms, before, strict=True):
        for old, new in zip(values, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(new, old, err_msg=layer.name)
        layer.trainable = True  # as other tests find it
    whole.set_weights(kept)  # without BatchNorm's help a second step may explode


def test_a_training_step_survives_saving_and_conversion(row: backbones.Backbone, model: Any, tmp_path: Path) -> None:
    if row.name in SCALED:
        pytest.skip("asked of the smallest of its family")
    pooled = keras.layers.GlobalAveragePooling2D()(model.output)
    whole = keras.Model(model.input, keras.layers.Dense(2, activation="softmax")(pooled))
    images = np.random.default_rng(0).uniform(0, 255, (2, size(row), size(row), 3)).astype(np.float32)
    before = [weight.numpy() for weight in model.trainable_weights]
    whole.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
    whole.fit(images, np.array([0, 1]), verbose=0)
    moved = [not np.array_equal(old, new.numpy()) for old, new in zip(before, model.trainable_weights, strict=True)]
    assert np.mean(moved) > 0.5
    require_still_batchnorm(model, whole, images)
    whole.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    expected = np.asarray(whole(images, training=False))
    assert np.isfinite(expected).all()
    graph = freeze(reloaded)  # what leaves imgclf is converted from the saved file
    single = graph.convert()
    np.testing.assert_allclose(LiteModel(single).run(images), expected, atol=1e-4)
    if row.name in QUICK:
        half = graph.convert(float16=True)
        np.testing.assert_allclose(LiteModel(half).run(images), expected, atol=3e-2)
        assert len(half) < 0.7 * len(single)


def test_parameters_of_every_width(row: backbones.Backbone, model: Any) -> None:
    for variant in row.variants:
        width = model if variant.alpha == 1.0 else build_backbone(row, variant.alpha, (32, 32))
        assert width.count_params() == variant.parameters


@pytest.mark.parametrize("name", ["mobilenet_v2", "vgg16", "tiny", "mobilenet_v3_small"])
def test_odd_oblong_grey_images(name: str) -> None:
    grey = build_backbone(backbones.get(name), None, (33, 70), channels=1)
    assert grey.input.shape == (None, 33, 70, 1)
    assert grey.output.shape[0] is None and None not in grey.output.shape[1:]


def test_grey_is_read_as_rgb_with_three_equal_channels() -> None:
    row = backbones.get("mobilenet_v2")
    grey, colour = build_backbone(row, 0.35, (64, 64), channels=1), build_backbone(row, 0.35, (64, 64))
    grey.set_weights(colour.get_weights())
    image = ramp(64)[..., :1]
    expected = np.asarray(colour(np.repeat(image, 3, axis=-1)))
    np.testing.assert_allclose(np.asarray(grey(image)), expected, atol=1e-5)


def test_articulation_layers_of_a_hand_made_graph() -> None:
    image = keras.Input((4, 4, 1), name="image")
    stem = keras.layers.Conv2D(2, 1, name="stem")(image)
    left, right = keras.layers.Conv2D(2, 1, name="left")(stem), keras.layers.Conv2D(2, 1, name="right")(stem)
    joined = keras.layers.Add(name="joined")([keras.layers.ReLU(name="bent")(left), right])
    skipped = keras.layers.Add(name="skipped")([keras.layers.Conv2D(2, 1, name="block")(joined), joined])
    model = keras.Model(image, keras.layers.ReLU(name="top")(skipped))
    assert articulation_layers(model) == ["top", "skipped", "joined", "stem", "image"]


@pytest.mark.parametrize(
    ("value", "cut"),
    [
        ("auto", Cut("block_12_add", 5, "5")),
        ("1", Cut("block_16_project_BN", 1, "1")),
        ("18", Cut("Conv1_relu", 18, "18")),
        ("0", Cut("out_relu", 0, "0")),
        ("all", Cut(None, None, "all")),
        ("block_12_add", Cut("block_12_add", 5, "block_12_add")),
        ("block_16_expand", Cut("block_16_expand", 2, "block_16_expand")),
        ("Conv_1", Cut("Conv_1", 1, "Conv_1")),
    ],
)
def test_unfreeze_is_resolved(value: str, cut: Cut, v2: Any) -> None:
    assert cut_layer(backbones.get("mobilenet_v2"), value, v2) == cut


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("19", "mobilenet_v2 has 18 blocks to unfreeze, not 19; expected 0 to 18, all or auto"),
        ("-1", "mobilenet_v2 cannot be cut at '-1'"),
        ("block_15_expand", "mobilenet_v2 cannot be cut at 'block_15_expand'; .*such as block_12_add"),  # beside a skip
        ("block_99", "mobilenet_v2 cannot be cut at 'block_99'"),
    ],
)
def test_bad_unfreeze_says_what_is_allowed(value: str, message: str, v2: Any) -> None:
    with pytest.raises(InputError, match=message):
        cut_layer(backbones.get("mobilenet_v2"), value, v2)


def test_frozen_batchnorm_does_not_move_in_fit() -> None:
    backbone = build_backbone(backbones.get("tiny"), None, (32, 32))
    assert freeze_batchnorm(backbone) == 4
    model = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)])
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [weight.numpy() for norm in norms for weight in norm.weights]
    kernel = backbone.get_layer("stage1_conv").kernel.numpy()
    model.compile("sgd", "mse")
    model.fit(np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)), np.ones(8), verbose=0)
    after = [weight.numpy() for norm in norms for weight in norm.weights]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert not np.array_equal(kernel, backbone.get_layer("stage1_conv").kernel.numpy())


def drawing(kind: int, rng: np.random.Generator) -> Any:
    """A disc, a square or a ring of any size, place and colour on a noisy ground of any colour, 48 px."""
    y, x = np.mgrid[:48, :48] - rng.uniform(16, 32, (2, 1, 1))
    radius = rng.uniform(8, 15)
    distance = np.maximum(abs(x), abs(y)) if kind == 1 else np.hypot(x, y)
    inside = (distance < radius) & ((kind != 2) | (distance > radius * 0.6))
    ground, colour = rng.uniform(0, 255, (2, 3))
    colour = np.where(abs(colour - ground) < 60, (ground + 128) % 256, colour)
    image = np.where(inside[..., None], colour, ground) + rng.normal(0, 12, (48, 48, 3))
    return np.clip(image, 0, 255).astype(np.float32)


@pytest.mark.slow
def test_tiny_learns_drawn_shapes_from_nothing() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(900) % 3
    images = np.stack([drawing(kind, rng) for kind in labels])
    keras.utils.set_random_seed(1)
    backbone = build_backbone(backbones.get("tiny"), None, (48, 48))
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(3, activation="softmax")(pooled))
    rate = keras.optimizers.schedules.CosineDecay(2e-3, decay_steps=10 * 19)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[:600], labels[:600], epochs=10, verbose=0)
    assert model.evaluate(images[600:], labels[600:], verbose=0)[1] > 0.9
