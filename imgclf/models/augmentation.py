"""How training images are varied: recipes of Keras and KerasCV layers. May import TensorFlow, Keras and KerasCV.

The layers run in tf.data only; none of them ever becomes part of a saved or exported graph.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

VALUE_RANGE = (0.0, 255.0)

Augment = Callable[[Any, Any], tuple[Any, Any]]


def resolve(name: str, from_scratch: bool) -> str:
    """What "auto" stands for: light.

    On pretrained features stronger recipes cost time and gained nothing measurable in the few epochs that a CPU
    allows; see docs/benchmarks.md. A small network from scratch learns slower under medium.
    """
    del from_scratch
    return "light" if name == "auto" else name


def augmenter(name: str, *, flip: bool = True, seed: int = 0, mix: bool = False) -> Augment | None:
    """Build a recipe.

    Args:
        name: "none", "light" (flip, small rotation, zoom, contrast), "medium" (and RandAugment, cut-out holes) or
            "strong" (more of both, and with `mix` also CutMix and MixUp).
        flip: mirror half of the images left to right.
        seed: of all its random numbers.
        mix: whether labels may become soft, as CutMix and MixUp need.

    Returns:
        None for "none", otherwise a function, traced once and with random numbers that go on from call to call, for `tf.data.Dataset.map`: batches `(images, labels)`, float32
        `(n, H, W, 3)` with values 0..255 and float32 one-hot `(n, C)`, to the same.

    RandAugment: Cubuk 2019, arXiv 1909.13719; cut-out: DeVries 2017, arXiv 1708.04552; GridMask: Chen 2020, arXiv
    2001.04086; CutMix: Yun 2019, arXiv 1905.04899; MixUp: Zhang 2017, arXiv 1710.09412.
    """
    if name == "none":
        return None
    layers = _light(flip, seed)
    if name in ("medium", "strong"):
        layers += _cv_layers(name == "strong", seed)
    mixers = _mixers(seed) if mix and name == "strong" else []

    def augment(images: Any, labels: Any) -> tuple[Any, Any]:
        tf.random.set_seed(seed)  # some of KerasCV's operations have no seed of their own
        shape, static_labels = images.shape, labels.shape
        for layer in layers:
            images = layer(images, training=True)
        images = tf.clip_by_value(tf.cast(images, tf.float32), *VALUE_RANGE)
        for mixer in mixers:
            mixed = mixer({"images": images, "labels": labels})
            images, labels = mixed["images"], mixed["labels"]
        return tf.ensure_shape(images, shape), tf.ensure_shape(labels, static_labels)

    return tf.function(augment, reduce_retracing=True)  # traced once, not in every epoch


def _light(flip: bool, seed: int) -> list[Any]:
    layers = keras.layers
    flips = [layers.RandomFlip("horizontal", seed=seed)] if flip else []
    return [
        *flips,
        layers.RandomRotation(0.05, fill_mode="reflect", seed=seed + 1),  # of a full turn: up to 18 degrees
        layers.RandomZoom((-0.3, 0.0), (-0.3, 0.0), fill_mode="reflect", seed=seed + 2),
        layers.RandomContrast(0.25, value_range=VALUE_RANGE, seed=seed + 3),
    ]


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
