"""Reliability bins, calibration error and Brier score against hand-worked cases and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from imgclf.evaluation.calibration_curve import (
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    reliability,
)


def two_classes(first: list[float], dtype: type = np.float32) -> np.ndarray:
    return np.stack([np.array(first, dtype), 1 - np.array(first, dtype)], axis=1)


def test_bins_by_hand() -> None:
    # Most probable: 0.9, 0.9, 0.9, 0.9 (3 right), 0.62 (wrong), 1 (right); in fifteenths: 13.5, 9.3 and 15.
    bins = reliability(np.array([0, 0, 0, 1, 1, 1]), two_classes([0.9, 0.9, 0.9, 0.9, 0.62, 0.0]))
    assert [(each.low, each.n, each.accuracy) for each in bins] == [(9 / 15, 1, 0), (13 / 15, 4, 0.75), (14 / 15, 1, 1)]
    assert [each.confidence for each in bins] == pytest.approx([0.62, 0.9, 1])
    assert expected_calibration_error(bins) == pytest.approx((0.62 + 4 * 0.15 + 0) / 6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_edge_belongs_to_the_bin_below(dtype: type) -> None:
    # As in Guo et al.: ((m-1)/M, m/M]. Ninths of fifteen are 0.6 in either precision.
    (found,) = reliability(np.array([0]), two_classes([0.6], dtype))
    assert found.low == 8 / 15


def test_probability_zero_is_in_the_first_bin() -> None:
    assert reliability(np.array([0]), np.zeros((1, 2))) == (ReliabilityBin(0.0, 1, 0.0, 1.0),)


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_calibration_error_by_the_definition(classes: int) -> None:
    random = np.random.default_rng(3)
    probabilities = random.dirichlet(np.full(classes, 0.3), 500)
    labels = random.integers(0, classes, 500)
    best, right, expected = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, 0.0
    for at in range(15):
        inside = (best > at / 15) & (best <= (at + 1) / 15)
        if inside.any():
            expected += inside.sum() / 500 * abs(right[inside].mean() - best[inside].mean())
    bins = reliability(labels, probabilities)
    assert expected_calibration_error(bins) == pytest.approx(expected)
    assert sum(each.n for each in bins) == 500 and all(each.n for each in bins)


def test_honest_probabilities_have_a_small_error() -> None:
    random = np.random.default_rng(4)
    sure = random.uniform(0.5, 1, 20000)
    labels = (random.uniform(size=20000) > sure).astype(int)
    honest = expected_calibration_error(reliability(labels, two_classes(sure.tolist())))
    too_sure = expected_calibration_error(reliability(labels, two_classes((1 - (1 - sure) / 10).tolist())))
    assert honest < 0.015 < 0.2 < too_sure


def test_brier_equals_scikit_learn_and_a_hand_worked_case() -> None:
    random = np.random.default_rng(5)
    labels, first = random.integers(0, 2, 200), random.uniform(size=200)
    # scikit-learn's for two classes counts one of the two equal squares
    expected = 2 * brier_score_loss(labels == 0, first)
    assert brier_score(labels, two_classes(first.tolist(), np.float64)) == pytest.approx(expected)
    three = np.array([[0.6, 0.3, 0.1], [0.0, 0.0, 1.0]])
    assert brier_score(np.array([0, 0]), three) == pytest.approx((0.16 + 0.09 + 0.01 + 1 + 0 + 1) / 2)
    assert brier_score(np.array([0, 1]), np.eye(2, dtype=np.float32)) == 0
