"""MixUp and CutMix: what happens to the labels is what happens to the images."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from imgclf.training.mixing import cutmix, mix_batches, mixup

MIXES = {"mixup": mixup, "cutmix": cutmix}


def painted(count: int = 12, classes: int = 3, height: int = 10, width: int = 8) -> tuple[Any, Any]:
    """Images whose every cell is the image's own one-hot label."""
    labels = np.eye(classes, dtype=np.float32)[np.arange(count) % classes]
    return tf.constant(np.broadcast_to(labels[:, None, None, :], (count, height, width, classes)).copy()), tf.constant(
        labels
    )


@pytest.mark.parametrize("kind", MIXES)
@pytest.mark.parametrize("seed", range(5))
def test_a_label_is_the_share_of_the_image_that_has_it(kind: str, seed: int) -> None:
    images, labels = painted()
    mixed, targets = MIXES[kind](images, labels, tf.constant([seed, 3], tf.int64))
    assert mixed.shape == images.shape and targets.shape == labels.shape
    np.testing.assert_allclose(mixed.numpy().mean(axis=(1, 2)), targets, atol=1e-5)
    np.testing.assert_allclose(targets.numpy().sum(axis=1), 1, atol=1e-5)
    partners = np.roll(labels.numpy(), 1, axis=0)
    assert (targets.numpy()[(labels.numpy() + partners) == 0] == 0).all(), "no third class comes in"
    assert not np.array_equal(targets, labels)


def test_cutmix_leaves_every_cell_one_of_the_two_and_the_piece_in_one_place() -> None:
    images, labels = painted(count=64)
    mixed, targets = cutmix(images, labels, tf.constant([0, 0], tf.int64))
    assert set(np.unique(mixed)) == {0.0, 1.0}
    changed = (mixed.numpy() != images.numpy()).any(axis=-1)
    for mask in changed:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    # with Beta(1, 1) the shares are even; pieces that reach over the border are smaller
    own = (targets.numpy() * labels.numpy()).sum(axis=1)
    assert 0.4 < own.mean() < 0.8


def test_mixup_mostly_keeps_one_of_the_two() -> None:
    images, labels = painted(count=512)
    _, targets = mixup(images, labels, tf.constant([0, 0], tf.int64))
    own = (targets.numpy() * labels.numpy()).sum(axis=1)
    assert abs(own.mean() - 0.5) < 0.06  # Beta(0.2, 0.2) is even, and far from its middle
    assert (np.abs(own - 0.5) > 0.4).mean() > 0.5


@pytest.mark.parametrize("kind", MIXES)
def test_epochs_differ_and_the_same_epoch_is_the_same(kind: str) -> None:
    images, labels = painted()
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)

    def targets(seed: int, epoch: int) -> Any:
        return np.concatenate([batch[1] for batch in mix_batches(batches, kind, seed, epoch)])

    np.testing.assert_array_equal(targets(0, 0), targets(0, 0))
    assert not np.array_equal(targets(0, 0), targets(0, 1))
    assert not np.array_equal(targets(0, 0), targets(1, 0))
    first, second, _ = (batch[1].numpy() for batch in mix_batches(batches, kind, 0, 0))
    assert not np.array_equal(first, second)


def test_a_binary_label_becomes_a_share() -> None:
    images = tf.zeros((6, 4, 4, 1))
    labels = tf.constant([[0.0], [1.0], [0.0], [1.0], [0.0], [1.0]])
    _, targets = mixup(images, labels, tf.constant([1, 1], tf.int64))
    assert targets.shape == (6, 1) and ((targets.numpy() >= 0) & (targets.numpy() <= 1)).all()
