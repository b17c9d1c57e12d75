import keras
import numpy as np
import pytest
import tensorflow as tf

from imgclf.models.augmentation import augmenter

RECIPES = ("light", "medium", "strong")


def batch(count: int = 8, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = np.zeros((count, side, side, 3), np.float32)
    images[:, 8:24, 4:16] = rng.uniform(80, 255, (count, 1, 1, 3))
    return images, np.eye(3, dtype=np.float32)[rng.integers(0, 3, count)]


def varied(recipe: str, *, seed: int = 1, **options: bool) -> tuple[np.ndarray, np.ndarray]:
    augment = augmenter(recipe, seed=seed, **options)
    assert augment is not None
    images, labels = next(iter(augment(tf.data.Dataset.from_tensors(batch()), 0)))
    return images.numpy(), labels.numpy()


def test_none_is_nothing() -> None:
    assert augmenter("none") is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_pixels_stay_in_their_range_and_type(recipe: str) -> None:
    images, labels = varied(recipe)
    assert images.dtype == np.float32 and images.shape == batch()[0].shape
    assert images.min() >= 0 and images.max() <= 255
    assert images.max() > 1.5, "the values must not have become 0..1"
    assert not np.allclose(images, batch()[0])
    np.testing.assert_array_equal(labels, batch()[1])


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_seed_fixes_every_picture(recipe: str) -> None:
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()  # as training does
    np.testing.assert_array_equal(varied(recipe, seed=5)[0], varied(recipe, seed=5)[0])
    assert not np.array_equal(varied(recipe, seed=5)[0], varied(recipe, seed=6)[0])


def test_pictures_of_a_batch_vary_each_for_itself() -> None:
    images = np.repeat(batch()[0][:1], 8, axis=0)
    augment = augmenter("light", seed=1)
    found, _ = next(iter(augment(tf.data.Dataset.from_tensors((images, batch()[1])), 0)))
    assert len({picture.tobytes() for picture in found.numpy()}) == 8


def test_without_flip_left_stays_left() -> None:
    """The block lies left of the middle; only a mirror image has more light on the right."""

    def mirrored(flip: bool) -> int:
        augment = augmenter("light", flip=flip, seed=3)
        images, _ = next(iter(augment(tf.data.Dataset.from_tensors(batch(64)), 0)))
        light = images.numpy().sum(axis=(1, 3))
        return int((light[:, 16:].sum(axis=1) > light[:, :16].sum(axis=1)).sum())

    assert mirrored(flip=False) == 0
    assert mirrored(flip=True) > 10


def test_mixed_labels_are_soft_and_sum_to_one() -> None:
    _, labels = varied("strong", mix=True)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-5)
    assert ((labels > 0.01) & (labels < 0.99)).any()
