import numpy as np
import pytest

from imgclf.training.balance import class_weights, decide, draw_order


@pytest.mark.parametrize(
    ("asked", "counts", "expected", "said"),
    [
        ("auto", [100, 100], "none", ""),
        ("auto", [795, 112], "none", ""),
        ("auto", [400, 20], "weights", "20 times"),
        ("none", [400, 1], "none", ""),
        ("sampler", [30, 10], "sampler", "3 times"),
        ("focal", [30, 10], "focal", "3 times"),
    ],
)
def test_the_ratio_decides_and_is_said(asked: str, counts: list[int], expected: str, said: str) -> None:
    balance, note = decide(asked, np.array(counts))
    assert balance == expected
    assert (said in note) if said else not note


def test_every_class_weighs_the_same_and_an_image_one_on_average() -> None:
    counts = np.array([90, 9, 1])
    weights = class_weights(counts)
    np.testing.assert_allclose(weights * counts, [100 / 3] * 3, rtol=1e-6)
    assert (weights * counts).sum() == pytest.approx(counts.sum())


def test_the_sampler_shows_every_class_as_often_and_every_image_of_it() -> None:
    labels = np.array([0] * 80 + [1] * 15 + [2] * 5)
    order = draw_order(labels, "sampler", seed=3, number=0)
    assert len(order) == len(labels)
    shown = np.bincount(labels[order])
    assert shown.max() - shown.min() <= 1
    assert set(range(80, 100)) <= set(order.tolist())  # the rare ones are all there
    assert np.bincount(order)[:80].max() == 1 and np.bincount(order)[95:].max() <= 7


@pytest.mark.parametrize("balance", ["none", "sampler"])
def test_an_order_depends_on_seed_and_epoch_only(balance: str) -> None:
    labels = np.arange(40) % 4
    first = draw_order(labels, balance, 1, 2)
    np.testing.assert_array_equal(first, draw_order(labels, balance, 1, 2))
    assert (first != draw_order(labels, balance, 1, 3)).any() and (first != draw_order(labels, balance, 2, 2)).any()


def test_without_a_sampler_each_image_comes_once() -> None:
    assert sorted(draw_order(np.array([0, 0, 1]), "weights", 0, 0)) == [0, 1, 2]


def test_a_class_without_an_image_is_nobody_s_business() -> None:
    shown = np.array([0, 0, 2])[draw_order(np.array([0, 0, 2]), "sampler", 0, 1)]
    assert set(shown.tolist()) == {0, 2}
