"""Staged images as batches of pixels, decoded once where there is room: the only module of data/ with TensorFlow."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import psutil
import tensorflow as tf
from numpy.typing import NDArray

from imgclf.data.imageset import Part, StagedSet
from imgclf.data.stage import Late, complete
from imgclf.errors import ImgclfError
from imgclf.pixels import LUMA
from imgclf.progress import step
from imgclf.storage.readers import side_by_side

Place = Literal["memory", "file", "nothing"]

MEMORY_SHARE = 0.25  # of the memory that is free: the rest is for the network and for other programs
DISK_SHARE = 0.5  # of the disk that is free

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
        channels: 3 for RGB, 1 for grey (ITU-R BT.601 luma, as `pixels.load_for_model`; TensorFlow's own grey reading
            weighs a PNG otherwise than a JPEG).
        shuffle: a random order, fixed by the seed; otherwise the order of `staged.parts[part]`.
        seed: of the order.

    Returns:
        Batches `(images, labels)`: float32 `(n, height, width, channels)`, values 0..255; float32 one-hot `(n, C)`.
    """
    complete(staged, part)
    folder = staged.root / part
    dataset = keras.utils.image_dataset_from_directory(
        str(folder),
        class_names=list(staged.folders),
        label_mode="categorical",
        color_mode="rgb",
        image_size=image_size,
        interpolation="bilinear",
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        verbose=False,
    )
    if channels == 1:
        dataset = dataset.map(lambda images, labels: (tf.tensordot(images, LUMA[:, None], 1), labels))
    return dataset.prefetch(tf.data.AUTOTUNE)


def read_in_order(
    paths: Sequence[Path], image_size: tuple[int, int], batch_size: int, *, channels: int = 3,
    draws: NDArray[np.float32] | None = None, vary: Callable[[Any, Any], Any] | None = None,
) -> Any:  # fmt: skip
    """Any staged files, in their order, read as `batches` reads them.

    Args:
        paths: staged files, or images at addresses (`stage.Late`), which are read side by side and not kept here.
        image_size: (height, width) in pixels.
        batch_size: images a batch; the last may be smaller.
        channels: 3 or 1.
        draws: random numbers of each image, float32 `(n, k)`, for `vary`.
        vary: images `(1, H, W, channels)` and their draws `(1, k)` to varied images.

    Returns:
        A `tf.data.Dataset` of batches `(images, empty labels)`: float32 `(n, H, W, channels)`, values 0..255, and
        float32 `(n, 0)`.
    """
    numbers = draws if draws is not None else np.zeros((len(paths), 0), np.float32)
    late = any(isinstance(path, Late) for path in paths)

    def read(source: Any, drawn: Any) -> tuple[Any, Any]:
        # what keras.utils.image_dataset_from_directory does with a file
        content = source if late else tf.io.read_file(source)
        image = tf.image.decode_image(content, channels=3, expand_animations=False)
        image = tf.image.resize(image, image_size, method="bilinear")
        images = tf.ensure_shape(image, (*image_size, 3))[None]
        if channels == 1:
            images = tf.tensordot(images, LUMA[:, None], 1)
        if vary is not None:
            # one by one: the sine of an image's angle differs in its last bit with the image's place in a batch
            images = vary(images, drawn[None])
        return images[0], drawn[:0]

    sources = _contents(paths) if late else tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    dataset = tf.data.Dataset.zip((sources, tf.data.Dataset.from_tensor_slices(numbers)))
    dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(batch_size).prefetch(2)


def _contents(paths: Sequence[Path]) -> Any:
    """The bytes of staged files, one by one."""

    def contents() -> Iterator[bytes]:
        try:
            yield from side_by_side(_content, paths)
        except ImgclfError as error:
            _failures.append(error)
            raise

    return tf.data.Dataset.from_generator(contents, output_signature=tf.TensorSpec((), tf.string))


def _content(path: Path) -> bytes:
    return path.contents() if isinstance(path, Late) else path.read_bytes()


_failures: list[ImgclfError] = []  # of readers within TensorFlow, which makes texts of exceptions


def taken(dataset: Any) -> Iterator[Any]:
    """The batches of a dataset of `read_in_order`.

    Raises:
        ImgclfError: why an image could not be read.
    """
    try:
        yield from dataset
    except tf.errors.OpError:
        if _failures:
            raise _failures.pop() from None
        raise


def place_for(size: int, folder: Path) -> Place:
    """Where decoded images of `size` bytes are kept: in memory, in a file in `folder`, or nowhere."""
    if size <= MEMORY_SHARE * psutil.virtual_memory().available:
        return "memory"
    return "file" if size <= DISK_SHARE * shutil.disk_usage(folder).free else "nothing"


class DecodedImages:
    """One part, epoch by epoch; decoded once as uint8, where that fits in memory or on the disk.

    Epochs after the first then cost no decoding. A stretched pixel is rounded to a whole number, as a photo has it.

    Attributes:
        count: number of images.
        place: where they are kept.
        order: number of an epoch to the positions of its images; None: each image once, by the seed.
    """

    def __init__(
        self, staged: StagedSet, part: Part, image_size: tuple[int, int], batch_size: int, *,
        channels: int = 3, seed: int = 0, order: Callable[[int], NDArray[np.int64]] | None = None,
    ) -> None:  # fmt: skip
        self.order = order
        self._given, self.part, self.image_size, self.batch_size = staged, part, image_size, batch_size
        self.channels, self.seed = channels, seed
        self.count = len(staged.parts[part])
        self.place = place_for(self.count * image_size[0] * image_size[1] * channels, staged.root)

    @cached_property
    def staged(self) -> StagedSet:
        """The images as files; those at addresses are copied when the first of them is asked for."""
        return complete(self._given, self.part)

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-self.count // self.batch_size)

    def epoch(self, number: int, augment: Augment | None = None) -> Any:
        """The batches of one epoch in an order fixed by the seed and the epoch's number, augmented."""
        seed = (self.seed * 100_003 + number) % 2**32
        order = self.order(number) if self.order is not None else np.random.default_rng(seed).permutation(self.count)
        dataset = self._picked(order)
        if augment is not None:
            dataset = augment(dataset, number)
        return dataset.prefetch(2)

    def in_order(self) -> Any:
        """The batches in the order of `staged.parts[part]`, as they are."""
        return self._picked(np.arange(self.count)).prefetch(2)

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the pixels per channel, 0..255."""
        count, total, squares = 0, np.zeros(self.channels), np.zeros(self.channels)
        for images, _ in self.in_order():
            pixels = images.numpy().reshape(-1, self.channels).astype(np.float64)
            count, total, squares = count + len(pixels), total + pixels.sum(0), squares + (pixels**2).sum(0)
        mean = total / count
        return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(squares / count - mean**2, 0)).tolist())

    def _picked(self, order: NDArray[np.int64]) -> Any:
        if self.place == "nothing":
            return self._read(order)
        picks = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size)
        return picks.map(self._pick, num_parallel_calls=1, deterministic=True)

    def _read(self, order: NDArray[np.int64]) -> Any:
        """Decoded anew, to the pixels that would have been kept."""
        items = [self.staged.parts[self.part][position] for position in order]
        images = read_in_order([item.path for item in items], self.image_size, self.batch_size, channels=self.channels)
        labels = np.eye(len(self.staged.classes), dtype=np.float32)[[item.label for item in items]]
        targets = tf.data.Dataset.from_tensor_slices(labels).batch(self.batch_size)
        return tf.data.Dataset.zip(images, targets).map(lambda batch, target: (tf.round(batch[0]), target))

    @cached_property
    def _pick(self) -> Any:
        """From indices to a batch."""
        images, labels = self._decoded
        shape = (None, *self.image_size, self.channels)
        if self.place == "memory":
            with tf.device("CPU"):  # a GPU has better uses for its memory
                images, labels = tf.constant(images), tf.constant(labels)
            return tf.function(lambda pick: (tf.cast(tf.gather(images, pick), tf.float32), tf.gather(labels, pick)))

        def read(pick: Any) -> tuple[Any, Any]:
            # stateless: otherwise determinism makes tf.data read only when the training asks for it
            found = tf.numpy_function(lambda indices: images[indices], [pick], tf.uint8, stateful=False)
            return tf.cast(tf.ensure_shape(found, shape), tf.float32), tf.gather(labels, pick)

        return tf.function(read)

    @property
    def _decoded(self) -> tuple[Any, Any]:
        """uint8 `(N, H, W, channels)` in memory or in a file, and float32 one-hot `(N, C)`."""
        shape = (self.count, *self.image_size, self.channels)
        images = np.empty(shape, np.uint8) if self.place == "memory" else np.lib.format.open_memmap(
            self.staged.root / f"{self.part}-{self.image_size[0]}.npy", "w+", np.uint8, shape
        )  # fmt: skip
        labels = np.empty((self.count, len(self.staged.classes)), np.float32)
        done = 0
        with step("decoding images", self.count) as bar:
            for pixels, targets in batches(self.staged, self.part, self.image_size, 64, channels=self.channels):
                images[done : done + len(pixels)] = np.rint(pixels.numpy())
                labels[done : done + len(pixels)] = targets.numpy()
                done += len(pixels)
                bar.update(len(pixels))
        assert done == self.count, f"{done} images of {self.count} were read"
        return images, labels
