"""Model soups, by hand: networks of one weight, whose loss is the distance from where the best one would be."""

import numpy as np
import pytest

from imgclf.training.soup import Member, greedy_soup


def members(*values: float, best: float) -> list[Member]:
    return [Member(abs(value - best), [np.array([value], np.float32)]) for value in values]


@pytest.mark.parametrize(
    ("values", "best", "used", "weight"),
    [
        ((1.0,), 0.0, (0,), 1.0),
        ((1.0, -1.0), 0.0, (0, 1), 0.0),  # the middle of two that miss on either side is right
        ((1.0, 3.0), 0.0, (0,), 1.0),  # the second would pull it away
        ((3.0, -1.0, 1.0), 0.0, (1, 2), 0.0),  # the best first; the third would pull it away
        ((2.0, -1.0, 0.5), 0.0, (2, 1), -0.25),  # with 2.0 it would be 0.5
    ],
)
def test_members_are_taken_in_as_long_as_the_loss_does_not_rise(
    values: tuple[float, ...], best: float, used: tuple[int, ...], weight: float
) -> None:
    soup = greedy_soup(members(*values, best=best), lambda weights: abs(float(weights[0][0]) - best))
    assert soup.used == used
    assert soup.weights[0] == pytest.approx(weight) and soup.weights[0].dtype == np.float32
    assert soup.loss == pytest.approx(abs(weight - best))
