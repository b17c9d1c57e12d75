"""Occlusion of models whose answers are worked out by hand."""

from typing import Any

import numpy as np
import pytest

from imgclf.explaining.occlusion import CELLS, occlusion

SIDE = 56
CELL = SIDE // CELLS


def bright(row: int, column: int) -> Any:
    image = np.zeros((SIDE, SIDE, 3), np.float32)
    image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = 255
    return image


def brightness(top: float, span: float) -> Any:
    """A model that says of one cell, whose light it is: `top - span` in the dark, `top` when it is bright."""

    def scores(images: Any) -> Any:
        light = images[:, CELL : 2 * CELL, 4 * CELL : 5 * CELL].mean((1, 2, 3)) / 255
        first = top - span * (1 - light)
        return np.stack([first, 1 - first], axis=1).astype(np.float32)

    return scores


@pytest.mark.parametrize("span", [0.5, 0.001], ids=["drop of the probability", "drop of the log-odds"])
def test_the_place_that_the_answer_hangs_on_is_hottest(span: float) -> None:
    probabilities, chosen, cells = occlusion(brightness(0.999, span), bright(1, 4))
    assert chosen == 0 and probabilities[0] == pytest.approx(0.999)
    assert cells.shape == (CELLS, CELLS) and cells.dtype == np.float32
    assert np.unravel_index(cells.argmax(), cells.shape) == (1, 4) and cells.max() == 1
    assert not cells[4:].any() and not cells[:, :2].any(), "out of reach of every patch that hides the place"


def test_nothing_is_hot_where_nothing_matters_or_all_speaks_against_the_class() -> None:
    assert not occlusion(brightness(0.9, 0.0), bright(1, 4))[2].any()
    assert not occlusion(brightness(0.9, 0.5), bright(1, 4), 1)[2].any()


def test_an_image_of_fewer_pixels_than_cells() -> None:
    def scores(images: Any) -> Any:
        light = images[:, 2, 3, 0] / 255
        return np.stack([light, 1 - light], axis=1)

    image = np.zeros((4, 5, 1), np.float32)
    image[2, 3] = 255
    _, _, cells = occlusion(scores, image)
    assert cells.shape == (4, 5) and cells[2, 3] == 1
