"""Pictures and sets for the tests of the dataset doctor."""

from pathlib import Path

import numpy as np
from PIL import Image

from imgclf.data.imageset import ImageFile, ImageSet, Looks

ROOT = Path("photos")


def texture(seed, side=96, height=None, waves=24, colour=True, fastest=9):
    """A random smooth picture, of which no two seeds look alike; uint8 `(height, side, 3)`."""
    rng = np.random.default_rng(seed)
    height = side if height is None else height
    y, x = np.mgrid[:height, :side] / side
    planes = np.zeros((height, side, 3))
    for _ in range(waves):
        across, down = rng.uniform(-fastest, fastest, 2)
        wave = np.sin(2 * np.pi * (across * x + down * y + rng.uniform()))
        planes += rng.uniform(0.3, 1) * wave[:, :, np.newaxis] * (rng.uniform(0.6, 1, 3) if colour else 1)
    return np.clip(128 + 60 * (planes - planes.mean()) / planes.std(), 0, 255).astype(np.uint8)


def save(pixels, path, **options):
    """Write a picture; the folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def looks(pixels, **others):
    """Looks of a picture that is nothing but its name."""
    plain = {"brightness": 0.5, "brightest": 0.9, "darkest": 0.1, "sharpness": 0.8, "entropy": 7.0,
             "colourfulness": 30.0, "size": 1000, "phash": 0, "inner": 0, "telling": True}  # fmt: skip
    return Looks(**{**plain, "pixels": pixels, **others})


def picture(name, label="a", part="", key=None, pixels=None, group=""):
    """An inspected image that exists in name only."""
    folder = ROOT / part / label if part else ROOT / label
    return ImageFile(folder / f"{name}.jpg", label, part, key or f"key {name}", "JPEG", 64, 64, "fine",
                     looks=looks(pixels or f"{name}"), group=group)  # fmt: skip


def image_set(images, has_parts=False):
    images = tuple(images)
    return ImageSet(ROOT, tuple(sorted({image.label for image in images})), images, {}, has_parts)


def images_of(root):
    """The images below a folder of class folders, whatever is in them."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    images = tuple(ImageFile(path, path.relative_to(root).parts[0]) for path in paths)
    return ImageSet(root, tuple(sorted({image.label for image in images})), images)
