"""Staged images as inputs of a network: as they are, or in a view. May import TensorFlow, models/, data/."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.cut.engine import BATCH
from imgclf.data.batches import read_in_order, taken
from imgclf.data.imageset import StagedImage
from imgclf.models import augmentation

Array = NDArray[np.float32]
Positions = NDArray[np.int64]

READING = 1  # of the way from a file to pixels and views; a change of it makes everything that was kept stale


@dataclass(frozen=True)
class Pixels:
    """Staged images: as they are (view 0), or varied by a recipe (view 1 and up).

    Attributes:
        images: in the order of their positions.
        image_size: (height, width) in pixels.
        channels: 3 or 1.
        augment: the recipe, as `models/augmentation.py` has it; "none" where there is only view 0.
        flip: whether the recipe mirrors.
        seed: of the recipe.
        staged_for: side of the images that the files were staged for, which large photos were shrunk by.
    """

    images: tuple[StagedImage, ...]
    image_size: tuple[int, int]
    channels: int
    augment: str
    flip: bool
    seed: int
    staged_for: int = 0

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def identity(self) -> dict[str, Any]:
        """The way from a file to pixels."""
        staged = {} if self.staged_for in (0, max(self.image_size)) else {"staged for": self.staged_for}
        return {"reading": READING, "size": self.image_size, "channels": self.channels, **staged}

    def keys(self, view: int) -> list[str]:
        """The hash of each file, and what its view was drawn by."""
        drawn = f"{self.augment}/{'flip' if self.flip else 'as-is'}/{self.seed}/{view}" if view else "0"
        if view and not self.by_image:
            drawn += f"/{self._together}"
        return [f"{image.key}:{drawn}" for image in self.images]

    @property
    def by_image(self) -> bool:
        """Whether a view depends on its image alone; KerasCV draws numbers that go on from one image to the next."""
        return self.augment in augmentation.KEYED

    @property
    def _together(self) -> str:
        """A hash of all the images, in their order."""
        keys = "\n".join(image.key for image in self.images)
        return hashlib.blake2b(keys.encode(), digest_size=8).hexdigest()

    def batches(self, view: int, positions: Positions) -> Iterator[Array]:
        """Pixels float32 `(n, H, W, channels)`, values 0..255."""
        if view and not self.by_image:
            yield from self._picked(view, positions)
            return
        chosen = [self.images[position] for position in positions]
        draws, vary = None, None
        if view:
            draws = augmentation.view_draws([image.key for image in chosen], self.seed, view)
            vary = augmentation.keyed_view(self.augment, flip=self.flip)
        dataset = read_in_order(
            [image.path for image in chosen], self.image_size, BATCH, channels=self.channels, draws=draws, vary=vary
        )
        for images, _ in taken(dataset):
            yield images.numpy()

    def _picked(self, view: int, positions: Positions) -> Iterator[Array]:
        """Some images of a view, in rising order; all are varied, so that each of them is what it always is."""
        recipe = augmentation.augmenter(self.augment, flip=self.flip, seed=self.seed)
        assert recipe is not None, f"{self.augment} has one view only"
        paths = [image.path for image in self.images]
        dataset = recipe(read_in_order(paths, self.image_size, BATCH, channels=self.channels), view)
        wanted, start, last = set(positions.tolist()), 0, max(positions.tolist(), default=-1)
        found: list[Array] = []
        for images, _ in taken(dataset):
            here = [index for index in range(len(images)) if start + index in wanted]
            found += [images[index].numpy() for index in here]
            start += len(images)
            if start > last:
                break
            while len(found) >= BATCH:
                yield np.stack(found[:BATCH])
                found = found[BATCH:]
        if found:
            yield np.stack(found)
