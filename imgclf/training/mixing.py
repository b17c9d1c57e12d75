"""MixUp and CutMix of batches, of pixels or of activations. May import TensorFlow.

MixUp blends two images and their labels (Zhang 2018, arXiv 1710.09412; of activations: Verma 2019, arXiv 1806.05236),
CutMix puts a piece of one onto the other (Yun 2019, arXiv 1905.04899). An image's partner is its neighbour in the
batch, whose order is random. All random numbers depend on seed, epoch and batch only.
"""

from typing import Any

import tensorflow as tf

ALPHA = {"mixup": 0.2, "cutmix": 1.0}  # of the beta distribution of the shares, as in the papers


def mix_batches(dataset: Any, kind: str, seed: int, epoch: int) -> Any:
    """Mix every batch with itself.

    Args:
        dataset: of batches `(inputs, targets)`, float32 `(n, H, W, channels)` and `(n, C)`.
        kind: "mixup" or "cutmix".
        seed: of the training.
        epoch: number of the epoch.

    Returns:
        A dataset of the same form; targets are shares of two labels.
    """
    numbers = tf.data.Dataset.range(epoch << 32, (epoch + 1) << 32)
    mix = {"mixup": mixup, "cutmix": cutmix}[kind]

    def one(number: Any, batch: Any) -> Any:
        inputs, targets = batch
        return mix(inputs, targets, tf.stack([tf.constant(seed, tf.int64), number]))

    zipped = tf.data.Dataset.zip(numbers, dataset)
    return zipped.map(one, num_parallel_calls=1, deterministic=True)


def mixup(inputs: Any, targets: Any, seed: Any) -> tuple[Any, Any]:
    """Blend each image of a batch with the next one; shapes stay."""
    share = _shares(tf.shape(inputs)[0], ALPHA["mixup"], seed)
    mixed = _blend(inputs, tf.roll(inputs, 1, axis=0), share[:, None, None, None])
    return tf.ensure_shape(mixed, inputs.shape), _blend(targets, tf.roll(targets, 1, axis=0), share[:, None])


def cutmix(inputs: Any, targets: Any, seed: Any) -> tuple[Any, Any]:
    """Put a rectangle of the next image of the batch onto each; the labels count by area. Shapes stay."""
    count, height, width = tf.shape(inputs)[0], inputs.shape[1], inputs.shape[2]
    side = tf.sqrt(1 - _shares(count, ALPHA["cutmix"], seed))
    middle = tf.random.stateless_uniform((2, count), seed + 1)
    rows = _inside(height, middle[0], side)
    columns = _inside(width, middle[1], side)
    mask = rows[:, :, None] * columns[:, None, :]
    kept = 1 - tf.reduce_mean(mask, axis=(1, 2))
    mixed = _blend(inputs, tf.roll(inputs, 1, axis=0), 1 - mask[..., None])
    return tf.ensure_shape(mixed, inputs.shape), _blend(targets, tf.roll(targets, 1, axis=0), kept[:, None])


def _shares(count: Any, alpha: float, seed: Any) -> Any:
    """Draws from Beta(alpha, alpha), `(count,)`: a gamma variate's share of two."""
    first, second = tf.unstack(tf.random.stateless_gamma((2, count), seed, alpha))
    return tf.math.divide_no_nan(first, first + second)


def _inside(length: int, middle: Any, side: Any) -> Any:
    """1.0 where a cell's centre lies within a stretch, cut off at the borders; `(count, length)`."""
    centres = (tf.range(length, dtype=tf.float32) + 0.5) / length
    return tf.cast(tf.abs(centres[None, :] - middle[:, None]) < side[:, None] / 2, tf.float32)


def _blend(ours: Any, theirs: Any, share: Any) -> Any:
    return ours * share + theirs * (1 - share)
