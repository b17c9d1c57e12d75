import keras
import numpy as np
import pytest

from imgclf.models import backbones
from imgclf.models.build import build_backbone
from imgclf.models.network import Network, assemble

IMAGES = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype(np.float32)


def network(binary: bool, name: str = "tiny") -> Network:
    keras.utils.set_random_seed(0)
    backbone = build_backbone(backbones.get(name), None, (32, 32))
    classes = ("a", "b") if binary else ("a", "b", "c")
    return assemble(backbone, classes, binary=binary, dropout=0.2, seed=0)


def test_one_sigmoid_unit_leaves_as_two_probabilities() -> None:
    net = network(binary=True)
    net.head.get_layer("scores").set_weights([np.random.default_rng(1).normal(size=(128, 1)), np.array([0.3])])
    second = np.asarray(net.model(IMAGES))
    found = np.asarray(net.finished()(IMAGES))
    assert second.shape == (5, 1) and found.shape == (5, 2)
    np.testing.assert_allclose(found, np.concatenate([1 - second, second], axis=1), atol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_below_and_above_a_cut_are_the_whole(binary: bool) -> None:
    net = network(binary, "mobilenet_v2")
    for cut in ("block_12_add", "block_16_project_BN"):
        halves = net.above(cut)(net.below(cut)(IMAGES))
        np.testing.assert_allclose(np.asarray(halves), np.asarray(net.model(IMAGES)), atol=1e-6)
    np.testing.assert_allclose(np.asarray(net.head(net.pooled(IMAGES))), np.asarray(net.model(IMAGES)), atol=1e-6)


def test_what_the_head_learns_the_whole_model_knows() -> None:
    net = network(binary=False)
    net.head.get_layer("scores").set_weights([np.ones((128, 3)), np.array([9.0, 0.0, 0.0])])
    assert (np.asarray(net.finished()(IMAGES)).argmax(axis=1) == 0).all()


def test_targets_of_a_binary_head_are_the_second_class() -> None:
    one_hot = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    assert network(binary=True).targets(one_hot).tolist() == [[0], [1], [1]]
    assert network(binary=False).targets(one_hot) is one_hot
