"""Two thumbnails -> how far they are the same picture, once laid upon each other. May import NumPy only.

A copy that was cropped or resized is found by aligning it first: scale and shift on both axes, by Gauss-Newton steps
from coarse to fine (Lucas and Kanade, "An iterative image registration technique", 1981). What is compared then are
details, without the broad light and dark that all pictures of one kind share.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

MOST_SCALE = 0.2  # a crop may have taken this share of a side
MOST_SHIFT = 0.12  # as a share of the side
STEPS = (6, 4, 3)  # at 16, 32 and 64 pixels
DETAIL = 2  # pixels around, whose mean is taken away from each pixel
BROADER = 3  # the same, where structure is wanted that a step can follow
BLOCK = 8  # pixels; what differs within one such square is seen


class Agreement(NamedTuple):
    """How far pairs of pictures agree.

    Attributes:
        correlation: of the details after alignment, float32 `(n,)`, -1..1.
        worst: by how many grey levels the mean of that square differs that differs most, float32 `(n,)`, 0..255. A
            mask drawn onto a face shows here and hardly in the correlation; a fine edge that is a little off does not.
    """

    correlation: Array
    worst: Array


def agreement(first: NDArray[np.uint8], second: NDArray[np.uint8], least: tuple[float, float]) -> Agreement:
    """Align the second thumbnail of each pair with the first, and compare.

    Args:
        first: uint8 `(n, 64, 64)`, grey.
        second: likewise.
        least: correlations at 16 and at 32 pixels below which a pair is given up; its correlation is then that one.

    Returns:
        The agreement of each pair.
    """
    levels = [(first.astype(np.float32), second.astype(np.float32))]
    for _ in STEPS[1:]:
        levels.insert(0, (halved(levels[0][0]), halved(levels[0][1])))
    correlation = np.zeros(len(first), np.float32)
    worst = np.full(len(first), np.inf, np.float32)
    alive = np.arange(len(first))
    warp = np.zeros((len(first), 4), np.float32)
    for (a, b), steps, bound in zip(levels, STEPS, (*least, -np.inf), strict=True):
        a, b = a[alive], b[alive]
        warp = _aligned(details(a, BROADER), details(b, BROADER), warp, steps)
        correlation[alive] = _correlation(details(a, DETAIL), details(b, DETAIL), warp)
        good = correlation[alive] >= bound
        if bound == -np.inf:
            worst[alive] = _worst(a, b, warp)
        alive, warp = alive[good], warp[good] * np.array([1, 2, 1, 2], np.float32)
        if not len(alive):
            break
    return Agreement(correlation, worst)


def halved(images: Array) -> Array:
    """Means of 2 x 2 pixels: `(n, S, S)` to `(n, S / 2, S / 2)`."""
    rows = images[:, ::2] + images[:, 1::2]
    small: Array = (rows[:, :, ::2] + rows[:, :, 1::2]) / np.float32(4)
    return small


def details(images: Array, around: int) -> Array:
    """Each pixel less the mean of the square `around` pixels about it."""
    from scipy.ndimage import uniform_filter

    width = 2 * around + 1
    means: Array = uniform_filter(images, size=(1, width, width), mode="nearest")
    return images - means


def _aligned(first: Array, second: Array, warp: Array, steps: int) -> Array:
    """Improve the warps `(n, 4)`: scale less one and shift in pixels, across and down, seen from the middle."""
    side = first.shape[1]
    middle = np.arange(side, dtype=np.float32) - (side - 1) / 2
    most = np.array([MOST_SCALE, MOST_SHIFT * side] * 2, np.float32)
    largest_step = np.array([0.06, 1.5] * 2, np.float32)
    for _ in range(steps):
        moved, seen = _warped(second, warp)
        gain = (first * moved * seen).sum((1, 2)) / np.maximum((moved * moved * seen).sum((1, 2)), 1e-6)
        moved *= np.clip(gain, 0.3, 3)[:, None, None]
        across, down = np.zeros_like(moved), np.zeros_like(moved)
        across[:, :, 1:-1] = (moved[:, :, 2:] - moved[:, :, :-2]) / 2
        down[:, 1:-1] = (moved[:, 2:] - moved[:, :-2]) / 2
        across *= seen
        down *= seen
        slopes = np.stack([across * middle, across, down * middle[:, None], down], 1).reshape(len(first), 4, -1)
        curvature = slopes @ slopes.transpose(0, 2, 1)
        damping = 1e-3 * np.trace(curvature, axis1=1, axis2=2) / 4 + 1e-3
        curvature += damping[:, None, None] * np.eye(4, dtype=np.float32)
        error = ((first - moved) * seen).reshape(len(first), -1, 1)
        step = np.linalg.solve(curvature, slopes @ error)[:, :, 0]
        warp = np.clip(warp + np.clip(step, -largest_step, largest_step), -most, most).astype(np.float32)
    return warp


def _warped(images: Array, warp: Array) -> tuple[Array, Array]:
    """Sample images bilinearly under their warps; also where there was something to sample (1 or 0)."""
    side = images.shape[1]
    left, inside_left = _sampling(warp[:, 2], warp[:, 3], side)
    right, inside_right = _sampling(warp[:, 0], warp[:, 1], side)
    seen = (inside_left[:, :, None] & inside_right[:, None, :]).astype(np.float32)
    return left @ images @ right.transpose(0, 2, 1), seen


def _sampling(scale: Array, shift: Array, side: int) -> tuple[Array, NDArray[np.bool_]]:
    """One axis of a warp as matrices `(n, side, side)`: row i holds the weights of the pixels that i is made of."""
    centre = (side - 1) / 2
    middle = np.arange(side, dtype=np.float32) - centre
    place = (1 + scale)[:, None] * middle + shift[:, None] + centre
    weights = np.maximum(0, 1 - np.abs(place[:, :, None] - np.arange(side, dtype=np.float32)))
    inside = (place >= 0) & (place <= side - 1)
    return weights * inside[:, :, None], inside


def _correlation(first: Array, second: Array, warp: Array) -> Array:
    moved, seen = _warped(second, warp)
    a, b = _centred(first, seen), _centred(moved, seen)
    both: Array = (a * b).sum((1, 2)) / np.sqrt(np.maximum((a * a).sum((1, 2)) * (b * b).sum((1, 2)), 1e-6))
    return both


def _centred(images: Array, seen: Array) -> Array:
    means = (images * seen).sum((1, 2)) / np.maximum(seen.sum((1, 2)), 1)
    centred: Array = (images - means[:, None, None]) * seen
    return centred


def _worst(first: Array, second: Array, warp: Array) -> Array:
    """The largest difference between the means of a square, when light and contrast have been made alike."""
    moved, seen = _warped(second, warp)
    a, b = _centred(first, seen), _centred(moved, seen)
    gain = np.clip((a * b).sum((1, 2)) / np.maximum((b * b).sum((1, 2)), 1e-6), 0.5, 2)
    differences = _blocks(a - gain[:, None, None] * b) / np.maximum(_blocks(seen), 0.25)
    worst: Array = np.abs(differences).max(1)
    return worst


def _blocks(images: Array) -> Array:
    number = images.shape[1] // BLOCK
    means: Array = images.reshape(len(images), number, BLOCK, number, BLOCK).mean((2, 4))
    return means.reshape(len(images), -1)
