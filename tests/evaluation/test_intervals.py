"""Intervals against published tables, brute force and hand-worked cases; their coverage is in test_coverage.py."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from imgclf.evaluation.intervals import (
    Z95,
    balanced_accuracy_interval,
    f1_each,
    macro_f1_interval,
    wilson,
    wilson_each,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_the_published_table(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(324, 372), (0, 1), (1, 1), (372, 372)])
def test_wilson_ends_are_where_the_score_test_turns(successes: int, n: int) -> None:
    # At either end p, the observed share is 1.96 standard errors of p away (or the end is that of the scale).
    share = successes / n
    for end in wilson(successes, n):
        assert (share - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / n, rel=1e-5, abs=1e-12)


def test_wilson_of_the_clothing_baseline() -> None:
    assert wilson(324, 372) == pytest.approx((0.8331, 0.9013), abs=5e-5)


def test_many_at_once_are_those_of_each() -> None:
    successes, trials = np.array([81, 0, 1, 372, 0]), np.array([263, 20, 1, 372, 0])
    low, high = wilson_each(successes, trials)
    each = [wilson(done, n) for done, n in zip(successes[:4].tolist(), trials[:4].tolist(), strict=True)]
    assert np.stack([low[:4], high[:4]], axis=1) == pytest.approx(np.array(each))
    assert (low[4], high[4]) == (0, 1)  # nothing tried, nothing known


def test_f1_by_hand() -> None:
    # 81 of the 263 images that are of the class or predicted as it are both: Newcombe's 0.2553 to 0.3662.
    low, high = f1_each(np.array([81]), np.array([150]), np.array([194]))
    assert (low[0], high[0]) == pytest.approx((2 * 0.2553 / 1.2553, 2 * 0.3662 / 1.3662), abs=5e-5)


def test_equal_classes_have_the_interval_of_all_images_together() -> None:
    # Two classes with 90 of 100 right each are 180 of 200, but for the pull to the mean, which changes nothing here.
    confusion = np.array([[90, 10], [10, 90]])
    assert balanced_accuracy_interval(confusion) == pytest.approx(wilson(180, 200))


def test_unequal_classes_by_hand() -> None:
    # Recalls 0.9 of 100 and 0.5 of 10: mean 0.7. Pulled by two images of 0.7: 91.4 / 102 and 6.4 / 12.
    first, second = 91.4 / 102, 6.4 / 12
    variance = (first * (1 - first) / 100 + second * (1 - second) / 10) / 4
    size = 0.7 * 0.3 / variance
    assert balanced_accuracy_interval(np.array([[90, 10], [5, 5]])) == pytest.approx(wilson(0.7 * size, size))


def brute_force(confusion: np.ndarray) -> tuple[float, float]:
    """Macro F1 corrected, and its variance, by leaving out each image and asking scikit-learn."""
    pairs = np.array([pair for pair in np.ndindex(*confusion.shape) for _ in range(confusion[pair])])

    def macro(rows: np.ndarray) -> float:
        return float(f1_score(rows[:, 0], rows[:, 1], labels=np.unique(rows[:, 0]), average="macro", zero_division=0))

    n, whole = len(pairs), macro(pairs)
    without = np.array([macro(np.delete(pairs, index, axis=0)) for index in range(n)])
    return n * whole - (n - 1) * without.mean(), (n - 1) / n * ((without - without.mean()) ** 2).sum()


@pytest.mark.parametrize(
    "confusion",
    [
        [[8, 2, 0], [1, 9, 2], [3, 0, 5]],
        [[1, 0, 0], [0, 7, 1], [2, 0, 4]],  # a class of one image, found
        [[6, 1, 1], [1, 0, 0], [0, 1, 9]],  # a class of one image, missed
        [[5, 1, 2], [0, 6, 1], [0, 0, 0]],  # a class that is only predicted
    ],
)
def test_macro_f1_is_the_jackknife(confusion: list[list[int]]) -> None:
    counts = np.array(confusion)
    low, high = macro_f1_interval(counts)
    corrected, variance = brute_force(counts)
    # Solved for what Wilson's interval was taken of: ends of (centre + z²/2n ± ...) / (1 + z²/n).
    hits, support, said = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    mean = float((2 * hits / np.maximum(support + said, 1))[support > 0].mean())
    size = mean * (1 - mean) / variance
    assert (low, high) == pytest.approx(wilson(corrected * size, size), abs=1e-9)
    assert low <= mean <= high


@pytest.mark.parametrize("interval", [balanced_accuracy_interval, macro_f1_interval])
def test_all_right_and_all_wrong_are_not_certain(interval) -> None:
    right = np.diag([20, 20, 20])
    assert interval(right) == pytest.approx(wilson(60, 60))
    assert interval(right[[1, 2, 0]]) == pytest.approx(wilson(0, 60))
    one = np.array([[1, 0], [0, 0]])
    assert interval(one) == pytest.approx((1 / (1 + Z95**2), 1))
    assert interval(one[:, ::-1]) == pytest.approx((0, Z95**2 / (1 + Z95**2)))


@pytest.mark.parametrize("interval", [balanced_accuracy_interval, macro_f1_interval])
def test_a_perfect_small_class_weighs_as_much_as_it_should(interval) -> None:
    # The mean of a sure share and one of three images varies as a share of 4 / (1/500 + 1/3) = 11.93 images does.
    size = 4 / (1 / 500 + 1 / 3)
    assert interval(np.diag([500, 3])) == pytest.approx((size / (size + Z95**2), 1))
    # one error among the large class does not make the small one certain
    assert interval(np.array([[499, 1], [0, 3]]))[0] < 0.99
