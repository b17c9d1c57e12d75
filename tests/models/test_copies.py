"""Copies of networks: the same answers, also where a layer computes with copies of its weights."""

import keras
import numpy as np
import pytest

from imgclf.errors import InputError
from imgclf.models import backbones
from imgclf.models.build import build_backbone
from imgclf.models.copies import FULL, copied, in_float32
from imgclf.models.network import assemble

# EfficientNet has a Normalization layer in its graph
NETWORKS = ("tiny", pytest.param("efficientnet_b0", marks=pytest.mark.slow))


def pictures(side: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_gives_the_same_answers(name: str) -> None:
    network = build_backbone(backbones.get(name), None, (32, 32))
    np.testing.assert_array_equal(copied(network)(pictures(32)), network(pictures(32)))
    other = copied(network, image=keras.Input((64, 64, 3)))
    same = build_backbone(backbones.get(name), None, (64, 64))
    same.set_weights(network.get_weights())
    np.testing.assert_allclose(other(pictures(64)), same(pictures(64)), atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_arithmetic_is_all_that_changes(name: str) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        backbone = build_backbone(backbones.get(name), None, (32, 32))
        network = assemble(backbone, ("a", "b", "c"), binary=False, dropout=0.2, seed=0)
    finally:
        keras.config.set_dtype_policy(before)
    mixed = network.finished()
    full = in_float32(mixed)
    assert {layer.dtype_policy.name for layer in full.layers} == {FULL}
    np.testing.assert_allclose(full(pictures(32)), mixed(pictures(32)), atol=0.02)
    assert in_float32(full) is full


def test_a_network_at_another_size_has_the_same_weights_and_stays_frozen() -> None:
    network = assemble(
        build_backbone(backbones.get("tiny"), None, (48, 48)), ("a", "b"), binary=True, dropout=0.1, seed=0
    )
    network.backbone.layers[3].trainable = False
    small = network.at_size((32, 32))
    assert small.model.input_shape == (None, 32, 32, 3) and not small.backbone.layers[3].trainable
    for ours, theirs in zip(small.model.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_network_that_is_made_for_its_size_says_so() -> None:
    image = keras.Input((32, 32, 3))
    flat = keras.layers.Dense(4)(keras.layers.Flatten()(image))
    network = assemble(keras.Model(image, flat), ("a", "b"), binary=False, dropout=0.0, seed=0)
    with pytest.raises(InputError, match="take no images of 16 x 16 pixels"):
        network.at_size((16, 16))
