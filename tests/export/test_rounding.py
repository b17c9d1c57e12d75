"""Rounding weights so that a layer's output changes least."""

import numpy as np
import pytest

from imgclf.export.rounding import STEPS, in_turn, nearest, round_rows, steps


def inputs(seed: int, count: int = 4000, size: int = 12) -> np.ndarray:
    """Inputs that vary together and have a mean, as the outputs of a ReLU do."""
    draw = np.random.default_rng(seed)
    return np.maximum(draw.normal(0.3, 1, (count, 4)) @ draw.normal(0, 1, (4, size)) + draw.normal(0, 0.2, size), 0)


def error(rows: np.ndarray, rounded: np.ndarray, given: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Mean square of what each output changes by."""
    return (((given @ (rounded - rows).T) - moved) ** 2).mean(axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_weights_lie_on_their_grid_and_the_largest_stays(seed: int) -> None:
    rows, given = np.random.default_rng(seed).normal(size=(7, 12)), inputs(seed)
    covariance = np.cov(given.T, bias=True)
    for rounded in (nearest(rows), in_turn(rows, covariance)):
        count = rounded / steps(rows)[:, None]
        np.testing.assert_allclose(count, np.rint(count), atol=1e-9)
        assert np.abs(count).max() <= STEPS + 1e-9
        np.testing.assert_allclose(steps(rounded), steps(rows), rtol=1e-12)


def test_outputs_change_less_than_by_rounding_to_the_nearest() -> None:
    rows, given = np.random.default_rng(1).normal(size=(64, 12)), inputs(1)
    mean, second = given.mean(axis=0), given.T @ given / len(given)
    plain = error(rows, nearest(rows), given, np.zeros(64))
    rounded, moved = round_rows(rows, mean, None)
    corrected = error(rows, rounded, given, moved)
    rounded, moved = round_rows(rows, mean, second)
    assert corrected.mean() < 0.7 * plain.mean()
    assert error(rows, rounded, given, moved).mean() < 0.7 * corrected.mean()


def test_the_mean_of_the_output_does_not_move() -> None:
    rows, given = np.random.default_rng(2).normal(size=(9, 12)), inputs(2)
    for second in (None, given.T @ given / len(given)):
        rounded, moved = round_rows(rows, given.mean(axis=0), second)
        change = (given @ (rounded - rows).T - moved).mean(axis=0)
        np.testing.assert_allclose(change, 0, atol=1e-9)


def test_rows_with_inputs_of_their_own_are_rounded_each_by_them() -> None:
    rows = np.random.default_rng(3).normal(size=(3, 12))
    covariances = np.stack([np.cov(inputs(seed).T, bias=True) for seed in range(3)])
    together = in_turn(rows, covariances)
    for row, covariance, found in zip(rows, covariances, together, strict=True):
        np.testing.assert_allclose(in_turn(row[None], covariance)[0], found, atol=1e-12)


def test_dead_inputs_and_rows_of_zeros() -> None:
    rows = np.zeros((2, 5))
    rows[1] = [1, 0.503, 0, 0, -0.2]
    found = in_turn(rows, np.zeros((5, 5)))
    assert (found[0] == 0).all()
    np.testing.assert_allclose(found[1], nearest(rows)[1], atol=1e-12)


@pytest.mark.parametrize("noise", [1e-3, 1e3])
def test_a_mean_that_drowns_what_varies_is_no_error(noise: float) -> None:
    """In float32 the covariance beside a channel of constantly 10,000 is noise, and may be of no real inputs at all."""
    rows, given = np.random.default_rng(4).normal(size=(6, 12)), inputs(4)
    covariance = np.cov(given.T, bias=True)
    covariance[0, 0] = -noise
    found = in_turn(rows, covariance)
    count = found / steps(rows)[:, None]
    np.testing.assert_allclose(count, np.rint(count), atol=1e-9)
    assert np.abs(count).max() <= STEPS + 1e-9
