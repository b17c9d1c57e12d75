"""Which places of an image a model cannot do without: they are hidden, one after the other. May import NumPy, Pillow.

Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks" (arXiv 1311.2901). It needs nothing of
the model but its answers, so that it serves a .tflite file as well, without TensorFlow.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from imgclf.explaining.explanation import normalised

Array = NDArray[np.float32]
Scores = Callable[[Array], Array]

# Rows and columns of the map, and how many of them are hidden at once: small patches alone hardly change an answer. On
# 50 test photos of clothing (MobileNetV2), hiding the hottest fifth lowers the probability by 0.59 with patches of
# 2 x 2 in 8 x 8 cells, by 0.71 with 3 x 3 in 8 x 8, by 0.75 with 3 x 3 in 7 x 7, which are fewer. (Chance: 0.15.)
CELLS, PATCH = 7, 3
BATCH = 16
BLUR = 0.1  # of the image's side: standard deviation of what is put in the place. A blurred image (Fong and Vedaldi
# 2017, arXiv 1704.03296) has no edges; a grey square would be something to see in itself
LEAST_DROP = 0.01  # of the probability, by the patch that counts most; where it is less, log-odds are compared
_LEAST = 1e-6  # of a probability and its rest: beyond it a float32 softmax has nothing more to say


def occlusion(scores: Scores, image: Array, wanted: int | None = None) -> tuple[Array, int, Array]:
    """Explain one image.

    Args:
        scores: float32 `(n, H, W, channels)`, 0..255, to probabilities `(n, C)`.
        image: float32 `(H, W, channels)`, 0..255.
        wanted: index of the class; None: the most probable one.

    Returns:
        Probabilities `(C,)`, the class that is explained, a map `(h, w)`, 0..1: by how much its probability falls when
        the place is hidden, a mean over the patches that it is in. (Its log-odds where it is too certain or too
        improbable for any patch to change that.)
    """
    probabilities = scores(image[np.newaxis])[0]
    chosen = int(probabilities.argmax()) if wanted is None else wanted
    height, width = (min(CELLS, side) for side in image.shape[:2])
    corners = [(row, column) for row in range(1 - PATCH, height) for column in range(1 - PATCH, width)]
    hidden = _hidden(image, height, width, corners)
    found = []
    while batch := list(islice(hidden, BATCH)):
        found.append(scores(np.stack(batch))[:, chosen])
    before, after = probabilities[chosen], np.concatenate(found)
    drops = before - after
    if drops.max() < LEAST_DROP:
        drops = _log_odds(before) - _log_odds(after)
    cells = np.zeros((height, width), np.float32)
    for (row, column), drop in zip(corners, drops, strict=True):
        cells[max(row, 0) : row + PATCH, max(column, 0) : column + PATCH] += drop
    return probabilities, chosen, normalised(cells)


def _hidden(image: Array, height: int, width: int, corners: list[tuple[int, int]]) -> Iterator[Array]:
    """The image with one patch after the other blurred; at the rims they reach beyond it, so that all cells count."""
    blurred = blur(image)
    rows, columns = _edges(image.shape[0], height), _edges(image.shape[1], width)
    for row, column in corners:
        place = (slice(rows[max(row, 0)], rows[min(row + PATCH, height)]),
                 slice(columns[max(column, 0)], columns[min(column + PATCH, width)]))  # fmt: skip
        changed = image.copy()
        changed[place] = blurred[place]
        yield changed


def blur(image: Array) -> Array:
    """An image `(H, W, channels)`, 0..255, in which nothing but large areas of colour can be told apart."""
    radius = BLUR * max(image.shape[:2])
    layers = [Image.fromarray(np.clip(np.rint(layer), 0, 255).astype(np.uint8)) for layer in np.moveaxis(image, -1, 0)]
    blurred = [np.asarray(layer.filter(ImageFilter.GaussianBlur(radius)), np.float32) for layer in layers]
    return np.stack(blurred, axis=-1)


def _edges(side: int, cells: int) -> list[int]:
    return [round(side * number / cells) for number in range(cells + 1)]


def _log_odds(probability: Array | float) -> Array:
    clipped = np.clip(np.asarray(probability, np.float64), _LEAST, 1 - _LEAST)
    odds: Array = np.log(clipped / (1 - clipped)).astype(np.float32)
    return odds
