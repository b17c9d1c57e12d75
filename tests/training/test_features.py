import numpy as np
import pytest
import tensorflow as tf

from imgclf.models import backbones
from imgclf.models.build import build_backbone
from imgclf.progress import Bar
from imgclf.training import features
from imgclf.training.features import Below, below, compute


@pytest.fixture(scope="module")
def part() -> Below:
    return below(build_backbone(backbones.get("mobilenet_v2"), 0.35, (32, 32)))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (count, 32, 32, 3)).astype(np.float32)


def test_litert_is_compared_with_keras_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_backbone(backbones.get("tiny"), None, (32, 32))
    assert below(model).engine in ("LiteRT", "Keras")
    monkeypatch.setattr(features.LiteModel, "run", lambda self, batch: np.full((len(batch), 2, 2, 128), np.nan))
    assert below(model).engine == "Keras"


def test_activations_come_in_the_order_of_the_images(part: Below) -> None:
    pixels, labels = images(21), np.eye(3, dtype=np.float32)[np.arange(21) % 3]
    dataset = tf.data.Dataset.from_tensor_slices((pixels, labels)).batch(8)
    found, targets = compute(part, dataset, 21, Bar())
    expected = np.asarray(part.model(pixels, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_array_equal(targets, labels)


def test_a_mapped_dataset_gives_the_same(part: Below) -> None:
    pixels = images(10)
    dataset = tf.data.Dataset.from_tensor_slices((pixels, np.arange(10))).batch(4)
    parts = list(part.map(dataset))
    np.testing.assert_allclose(np.concatenate([x.numpy() for x, _ in parts]), part(pixels), atol=1e-4)
    assert np.concatenate([y.numpy() for _, y in parts]).tolist() == list(range(10))


def test_too_few_images_are_noticed(part: Below) -> None:
    dataset = tf.data.Dataset.from_tensor_slices((images(3), np.zeros((3, 2), np.float32))).batch(2)
    with pytest.raises(AssertionError, match="3 images of 5"):
        compute(part, dataset, 5, Bar())
