"""Where trials find their images. May import data/, pixels, runs; no TensorFlow."""

from dataclasses import dataclass, replace
from pathlib import Path

from imgclf import pixels
from imgclf.data.imageset import ImageSet, StagedSet
from imgclf.data.stage import stage


@dataclass(frozen=True)
class Stages:
    """Image size in pixels to staged images: trials share one folder, but for sizes to which photos are shrunk first.

    Attributes:
        images: with parts.
        folder: for staged images, and nothing else.
        workers: number of processes; None takes one per processor.
    """

    images: ImageSet
    folder: Path
    workers: int | None

    def __call__(self, size: int) -> StagedSet:
        """The images, staged."""
        shrunk = any(pixels.needs_shrinking(image.width, image.height, size) for image in self.images.usable)
        return stage(self.images, self.folder / (str(size) if shrunk else "all"), (size, size), workers=self.workers)

    def absolute(self) -> "Stages":
        """The same for a machine that works in another folder."""
        images = tuple(replace(image, path=image.path.absolute()) for image in self.images.images)
        root = self.images.root.absolute()
        return replace(self, images=replace(self.images, root=root, images=images), folder=self.folder.absolute())
