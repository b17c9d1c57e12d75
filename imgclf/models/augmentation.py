"""How training images are varied: recipes of Keras and KerasCV layers. May import TensorFlow, Keras and KerasCV.

The recipes run in tf.data only; nothing of them ever becomes part of a saved or exported graph.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgclf.pixels import LUMA

VALUE_RANGE = (0.0, 255.0)
DRAWS = 5  # random numbers that an image takes in "light" and "shift"
KEYED = ("light", "shift")  # what a view of an image shows depends on the image, the seed and its number only

# A `tf.data.Dataset` of batches and a number (of the epoch, or of the view) to the dataset with varied images.
Augment = Callable[[Any, int], Any]


def resolve(name: str) -> str:
    """What "auto" stands for: light. In the few epochs that a CPU allows, more only costs (docs/benchmarks.md)."""
    return "light" if name == "auto" else name


def augmenter(name: str, *, flip: bool = True, seed: int = 0, mix: bool = False) -> Augment | None:
    """Build a recipe.

    Args:
        name: "none", "shift" (flip, shift by whole pixels, one cut-out hole: for small images), "light" (flip, small
            rotation, zoom, contrast), "medium" (and RandAugment, cut-out holes) or "strong" (more of both, and with
            `mix` also CutMix and MixUp).
        flip: mirror half of the images left to right.
        seed: of all its random numbers.
        mix: whether labels may become soft, as CutMix and MixUp need.

    Returns:
        None for "none", otherwise a function: a dataset of batches `(images, labels)`, float32 `(n, H, W, 3)` with
        values 0..255 and float32 one-hot `(n, C)`, and the number of the epoch, to a dataset of the same form. Random
        numbers depend on seed, epoch and batch only.

    RandAugment: Cubuk 2019, arXiv 1909.13719; cut-out: DeVries 2017, arXiv 1708.04552; GridMask: Chen 2020, arXiv
    2001.04086; CutMix: Yun 2019, arXiv 1905.04899; MixUp: Zhang 2017, arXiv 1710.09412.
    """
    if name == "none":
        return None
    view = _view(name)
    vary = tf.function(lambda number, batch: (view(batch[0], _draws(batch[0], (seed, number)), flip=flip), batch[1]))
    strengthen = None if name in ("light", "shift") else _cv_function(name == "strong", seed, mix)

    def augment(dataset: Any, number: int) -> Any:
        numbers = tf.data.Dataset.range(number << 32, (number + 1) << 32)
        # A pure function: it runs in parallel and ahead of the training and still gives the same every time. With
        # random numbers of its own it would do neither, because determinism makes tf.data wait for each batch.
        dataset = tf.data.Dataset.zip(numbers, dataset).map(
            lambda number, batch: vary(number, batch), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        if strengthen is None:
            return dataset
        numbered = tf.data.Dataset.zip(numbers, dataset)
        return numbered.map(lambda number, batch: strengthen(number, *batch), num_parallel_calls=1, deterministic=True)

    return augment


def view_draws(keys: Sequence[str], seed: int, view: int) -> NDArray[np.float32]:
    """The random numbers of one view of images: float32 `(n, DRAWS)` in 0..1, by each image's key alone."""
    digests = [hashlib.blake2b(f"{key}/{seed}/{view}".encode(), digest_size=4 * DRAWS).digest() for key in keys]
    numbers: NDArray[np.float32] = np.frombuffer(b"".join(digests), np.uint32).reshape(-1, DRAWS) / np.float32(2**32)
    return numbers.astype(np.float32)


def keyed_view(name: str, *, flip: bool) -> Callable[[Any, Any], Any]:
    """The recipe as a function of images `(n, H, W, channels)` and their draws `(n, DRAWS)`; `name` is one of KEYED."""
    view = _view(name)
    return lambda images, draws: view(images, draws, flip=flip)


def _view(name: str) -> Callable[..., Any]:
    return random_shift if name == "shift" else random_view


def _draws(images: Any, seed: tuple[int, Any]) -> Any:
    return tf.random.stateless_uniform((tf.shape(images)[0], DRAWS), tf.cast(tf.stack(seed), tf.int64))


def random_view(
    images: Any, draws: Any, *, flip: bool, rotation: float = 0.05, zoom: float = 0.3, contrast: float = 0.25
) -> Any:
    """Flip, rotate and zoom each image of a batch by one bilinear transformation, and change its contrast.

    What Keras' RandomFlip, RandomRotation and RandomZoom do one after the other in 13 ms for an image of 224 x 224
    pixels takes 4 ms as one, and the image is interpolated once instead of twice. Edges are reflected.

    Args:
        images: float32 `(n, H, W, channels)`, values 0..255.
        draws: evenly spread random numbers, float32 `(n, DRAWS)`, 0..1.
        flip: mirror half of the images left to right.
        rotation: largest angle to either side, in turns (0.05 is 18 degrees).
        zoom: an image shows between 1 - zoom and 1 of each side, drawn apart for height and width.
        contrast: the distance of a pixel from the image's mean is changed by up to this share.

    Returns:
        As `images`.
    """
    ops = keras.ops
    height, width = images.shape[1:3]
    numbers = tf.unstack(draws, DRAWS, axis=1)

    def between(low: float, high: float) -> Any:
        return low + numbers.pop() * (high - low)

    angle = between(-rotation, rotation) * (2 * math.pi)
    down, across, factor = between(1 - zoom, 1), between(1 - zoom, 1), between(1 - contrast, 1 + contrast)
    if flip:
        across = across * ops.sign(between(-1, 1))
    # from a pixel of the result, seen from the middle, to the pixel of the image it is taken from
    a, b = ops.cos(angle) * across, -ops.sin(angle) * down
    c, d = ops.sin(angle) * across, ops.cos(angle) * down
    x, y, zero = (width - 1) / 2, (height - 1) / 2, ops.zeros_like(a)
    matrix = ops.stack([a, b, x - a * x - b * y, c, d, y - c * x - d * y, zero, zero], axis=1)
    images = ops.image.affine_transform(images, matrix, interpolation="bilinear", fill_mode="reflect")
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    factor = factor[:, None, None, None]
    return tf.clip_by_value(images * factor + mean * (1 - factor), *VALUE_RANGE)


def random_shift(images: Any, draws: Any, *, flip: bool, shift: float = 0.125, hole: float = 0.25) -> Any:
    """Flip each image of a batch, shift it by whole pixels, and cut a square hole into it.

    The usual augmentation of CIFAR (He 2015, arXiv 1512.03385: padding by 4 pixels and cropping) with cut-out (DeVries
    2017, arXiv 1708.04552). Pixels are moved, not interpolated, which would blur small images. Edges are reflected; the
    hole, whose middle may lie anywhere, is as bright as the image.

    Args:
        images: float32 `(n, H, W, channels)`, values 0..255.
        draws: evenly spread random numbers, float32 `(n, DRAWS)`, 0..1.
        flip: mirror half of the images left to right.
        shift: largest shift to any side, as a share of the side.
        hole: side of the hole, as a share of the image's shorter side.

    Returns:
        As `images`.
    """
    ops = keras.ops
    height, width = images.shape[1:3]
    signed = tf.unstack(draws * 2 - 1, DRAWS, axis=1)
    down, across = tf.round(signed[0] * shift * height), tf.round(signed[1] * shift * width)
    mirrored = ops.sign(signed[2]) if flip else ops.ones_like(down)
    zero, one = ops.zeros_like(down), ops.ones_like(down)
    start = tf.where(mirrored < 0, width - 1.0, 0.0) + across
    matrix = ops.stack([mirrored, zero, start, zero, one, down, zero, zero], axis=1)
    images = ops.image.affine_transform(images, matrix, interpolation="nearest", fill_mode="reflect")
    half = hole * min(height, width) / 2
    rows = abs(tf.range(height, dtype=tf.float32) - ((signed[3] + 1) / 2 * height)[:, None]) < half
    columns = abs(tf.range(width, dtype=tf.float32) - ((signed[4] + 1) / 2 * width)[:, None]) < half
    inside = (rows[:, :, None] & columns[:, None, :])[..., None]
    return tf.where(inside, tf.reduce_mean(images, axis=(1, 2), keepdims=True), images)


def _cv_function(strong: bool, seed: int, mix: bool) -> Any:
    """The KerasCV part of medium and strong; its random numbers depend on the seed and the batch's number."""
    layers = _cv_layers(strong, seed)
    mixers = _mixers(seed) if mix and strong else []
    generators = [tf.random.get_global_generator()]
    for layer in (*layers, *mixers):
        generators += [item._random_generator for item in (layer, *getattr(layer, "_layers", ()))]

    def strengthen(number: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        tf.random.set_seed(seed)  # some of KerasCV's operations have no seed of their own
        for index, generator in enumerate(generators):  # they would go on from batch to batch
            generator.state.assign(tf.stack([tf.constant(0, tf.int64), number, tf.constant(seed + index, tf.int64)]))
        shapes = images.shape, labels.shape
        grey = images.shape[-1] == 1  # some of RandAugment's operations know colour images only
        if grey:
            images = tf.repeat(images, 3, axis=-1)
        for layer in layers:
            images = layer(images, training=True)
        images = tf.clip_by_value(tf.cast(images, tf.float32), *VALUE_RANGE)
        if grey:
            images = tf.tensordot(images, LUMA[:, None], 1)
        for mixer in mixers:
            mixed = mixer({"images": images, "labels": labels})
            images, labels = mixed["images"], mixed["labels"]
        return tf.ensure_shape(images, shapes[0]), tf.ensure_shape(labels, shapes[1])

    return tf.function(strengthen, reduce_retracing=True)


def _cv_layers(strong: bool, seed: int) -> list[Any]:
    from keras_cv import layers

    # half of the layers draw from the global generator, whatever their seed
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
    hole = 0.35 if strong else 0.25
    holes = (
        layers.GridMask(ratio_factor=(0.2, 0.5), rotation_factor=0.1, fill_mode="constant", seed=seed + 5)
        if strong
        else layers.RandomCutout(height_factor=(0.0, hole), width_factor=(0.0, hole), seed=seed + 5)
    )
    return [
        layers.RandAugment(
            value_range=VALUE_RANGE, augmentations_per_image=2, magnitude=0.4 if strong else 0.2,
            geometric=False, seed=seed + 4,
        ),
        holes,
    ]  # fmt: skip


def _mixers(seed: int) -> list[Any]:
    from keras_cv import layers

    return [layers.CutMix(alpha=0.4, seed=seed + 6), layers.MixUp(alpha=0.1, seed=seed + 7)]
