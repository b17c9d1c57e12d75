"""Pixels -> Looks: what a picture looks like in a few numbers, a hash and a thumbnail. May import NumPy and Pillow.

The measures of quality are CleanVision's (https://github.com/cleanlab/cleanvision, 0.3.7), so that its documented
thresholds hold; the thresholds themselves are with the findings that use them.
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageStat

from imgclf.data.imageset import THUMBNAIL_SIDE, Looks
from imgclf.pixels import LUMA, Pixels

# Pixels of the longer and the shorter side that are enough for what is measured; larger pictures are shrunk first.
WORKING_SIDES = (128, 32)
SHARPNESS_SIDE = 64  # pixels, the longer side (CleanVision: MAX_RESOLUTION_FOR_BLURRY_DETECTION)
PIXELS_KEY_BYTES = 8

# Pictures with little information (digits, line drawings, a plain wall) look alike without being the same. Entropy of
# the thumbnail, measured: photos of clothes 5.1 to 7.9 bits, of faces 4.3 to 7.9, MNIST enlarged to 224 pixels 1.4
# to 4.4.
TELLING_ENTROPY = 4.5
TELLING_SIDE = 32  # pixels, the shorter side
RIM = 0.04  # share of each side; a crop by half or twice of it is still near


def look(pixels: Pixels, size: int) -> tuple[Looks, NDArray[np.uint8] | None]:
    """Measure a picture.

    Args:
        pixels: uint8 `(H, W, 3)`, upright RGB.
        size: of its file in bytes.

    Returns:
        The measures, and a grey thumbnail, uint8 `(64, 64)`; None where the picture is not telling.
    """
    key = _pixels_key(pixels)
    image = _working(pixels)
    rgb = np.asarray(image, np.float32)
    grey = Image.fromarray((rgb @ LUMA + 0.5).astype(np.uint8))
    # HSP, as CleanVision has it
    bright = np.sqrt((rgb * rgb) @ np.array([0.241, 0.691, 0.068], np.float32)) / 255
    darkest, brightest = _percentiles(bright, 0.05, 0.99)
    thumbnail = _thumbnail(grey) if min(pixels.shape[:2]) >= TELLING_SIDE else None
    return Looks(
        brightness=_rounded(bright.mean()),
        brightest=_rounded(brightest),
        darkest=_rounded(darkest),
        sharpness=_rounded(_sharpness(grey)),
        entropy=_rounded(grey.entropy()),
        colourfulness=_rounded(_colourfulness(rgb)),
        size=size,
        pixels=key,
        phash=_phash(grey) if thumbnail is not None else 0,
        inner=_phash(_without_rim(grey)) if thumbnail is not None else 0,
        telling=thumbnail is not None,
    ), thumbnail


def _pixels_key(pixels: Pixels) -> str:
    shape = "{}x{}".format(*pixels.shape[:2]).encode()
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=PIXELS_KEY_BYTES, person=shape).hexdigest()


def _thumbnail(grey: Image.Image) -> NDArray[np.uint8] | None:
    small = grey.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small) if small.entropy() >= TELLING_ENTROPY else None


def _working(pixels: Pixels) -> Image.Image:
    image = Image.fromarray(pixels)
    factor = min(max(image.size) // WORKING_SIDES[0], min(image.size) // WORKING_SIDES[1])
    return image.reduce(factor) if factor > 1 else image


def _percentiles(values: NDArray[np.float32], *shares: float) -> list[float]:
    """Values 0..1 below which shares of them lie, to within 1/255; sorting them all would take ten times as long."""
    counts = np.bincount((values * 255 + 0.5).astype(np.uint8).ravel(), minlength=256)
    below = np.cumsum(counts) / values.size
    return [float(np.searchsorted(below, share)) / 255 for share in shares]


def _sharpness(grey: Image.Image) -> float:
    """CleanVision's score: the spread of the edges, and for busy histograms their spread."""
    ratio = max(grey.size) / SHARPNESS_SIDE
    if ratio > 1:
        grey = grey.resize((max(int(grey.width // ratio), 1), max(int(grey.height // ratio), 1)))
    edges = math.sqrt(ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).var[0])
    spread = 1 - math.exp(-0.01 * float(np.std(grey.histogram())))
    return min(1 - math.exp(-0.01 * edges) + (spread if spread > 0.18 else 0.0), 1.0)


def _colourfulness(rgb: NDArray[np.float32]) -> float:
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    first, second = red - green, (red + green) / 2 - blue
    spread = math.hypot(float(first.std()), float(second.std()))
    return spread + 0.3 * math.hypot(float(first.mean()), float(second.mean()))


def _phash(grey: Image.Image) -> int:
    import imagehash

    return int(str(imagehash.phash(grey)), 16)


def _without_rim(grey: Image.Image) -> Image.Image:
    across, down = grey.width * RIM, grey.height * RIM
    return grey.transform(grey.size, Image.Transform.EXTENT, (across, down, grey.width - across, grey.height - down),
                          Image.Resampling.BILINEAR)  # fmt: skip


def _rounded(value: float) -> float:
    return round(float(value), 4)
