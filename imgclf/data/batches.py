"""Staged images as batches of pixels: the only module of data/ that imports TensorFlow."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imgclf.data.imageset import Part, StagedSet

# An array of decoded images up to this size is kept in memory: epochs after the first then decode nothing.
IN_MEMORY_BYTES = 512 * 2**20

Augment = Callable[[Any, int], Any]  # as models/augmentation.py has it


def batches(
    staged: StagedSet,
    part: Part,
    image_size: tuple[int, int],
    batch_size: int = 32,
    *,
    channels: int = 3,
    shuffle: bool = False,
    seed: int = 0,
) -> Any:
    """One part as a `tf.data.Dataset`.

    Args:
        staged: what `stage` made; every part is read by its own call with the classes given, never by Keras'
            `validation_split`, which leaks or degenerates.
        part: "train", "val" or "test".
        image_size: (height, width) in pixels; images are stretched to it, bilinear, half-pixel centres.
        batch_size: images a batch; the last batch may be smaller.
        channels: 3 for RGB, 1 for grey.
        shuffle: a random order, fixed by the seed; otherwise the order of `staged.parts[part]`.
        seed: of the order.

    Returns:
        Batches `(images, labels)`: float32 `(n, height, width, channels)`, values 0..255; float32 one-hot `(n, C)`.
    """
    folder = staged.root / part
    dataset = keras.utils.image_dataset_from_directory(
        str(folder),
        class_names=list(staged.folders),
        label_mode="categorical",
        color_mode="rgb" if channels == 3 else "grayscale",
        image_size=image_size,
        interpolation="bilinear",
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        verbose=False,
    )
    return dataset.prefetch(tf.data.AUTOTUNE)


class TrainingImages:
    """The training part, epoch by epoch: each epoch in another order, fixed by the seed and the epoch's number.

    Small sets are decoded once and kept in memory (IN_MEMORY_BYTES at most); others are read from the staged files in
    every epoch.
    """

    def __init__(
        self, staged: StagedSet, image_size: tuple[int, int], batch_size: int, *, channels: int = 3, seed: int = 0
    ) -> None:
        self.staged, self.image_size, self.batch_size = staged, image_size, batch_size
        self.channels, self.seed = channels, seed
        self.count = len(staged.parts["train"])
        size = self.count * image_size[0] * image_size[1] * channels * 4
        self.arrays = as_arrays(batches(staged, "train", image_size, channels=channels)) if (
            size <= IN_MEMORY_BYTES
        ) else None  # fmt: skip
        self._pick = tf.function(lambda pick: tuple(tf.gather(array, pick) for array in self.arrays or ()))

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-self.count // self.batch_size)

    def epoch(self, number: int, augment: Augment | None = None) -> Any:
        """The batches of one epoch, as `batches` gives them, augmented."""
        seed = self.seed * 100_003 + number
        if self.arrays is None:
            dataset = batches(self.staged, "train", self.image_size, self.batch_size, channels=self.channels,
                              shuffle=True, seed=seed)  # fmt: skip
        else:
            order = np.random.default_rng(seed).permutation(self.count)
            picks = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size)
            dataset = picks.map(self._pick)
        if augment is not None:
            dataset = augment(dataset, number)
        return dataset.prefetch(2)


def as_arrays(dataset: Any) -> tuple[Any, Any]:
    """A whole dataset as two tensors on the CPU: images `(N, H, W, channels)` and one-hot labels `(N, C)`."""
    parts = list(dataset)
    with tf.device("CPU"):  # a GPU has better uses for its memory
        return tf.concat([images for images, _ in parts], 0), tf.concat([labels for _, labels in parts], 0)
