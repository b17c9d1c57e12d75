"""Thresholds by hand, by search, and in a model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgclf.errors import InputError
from imgclf.evaluation.threshold import Rule, choose, offset

P = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.2])
Y = np.array([1, 1, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        ("f1", 0.5),
        ("recall>=0.95", 0.5),
        ("recall >= 0.6", 0.75),
        ("precision>=0.95", 0.75),
        ("0.3", 0.3),
        (".25", 0.25),
    ],
)
def test_by_hand(rule: str, threshold: float) -> None:
    # called positive at 0.5: four, three of them right: recall 1, precision 0.75, F1 6/7
    assert choose(Rule.parse(rule), P, Y) == pytest.approx(threshold)


@pytest.mark.parametrize("text", ["", "f2", "recall", "recall>=2", "recall<=0.5", "1.5", "0", "precision>=x"])
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(InputError, match="--threshold"):
        Rule.parse(text)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1)), min_size=1, max_size=30),
    st.sampled_from(["f1", "r", "p"]),
)
def test_no_other_threshold_is_better(rows: list[tuple[int, int]], kind: str) -> None:
    p, y = np.array([row[0] / 20 for row in rows]), np.array([row[1] for row in rows])
    rule = {"f1": Rule("f1"), "r": Rule("recall", 0.8), "p": Rule("precision", 0.8)}[kind]

    def figures(threshold: float) -> tuple[float, float, float]:
        called, hits = int((p >= threshold).sum()), int((y[p >= threshold] == 1).sum())
        total = max(int(y.sum()), 1)
        return 2 * hits / (called + total), hits / total, hits / max(called, 1)

    found = figures(choose(rule, p, y))
    others = [figures(value) for value in np.unique(p) if value > 0]
    if kind == "f1":
        assert found[0] >= max((other[0] for other in others), default=0) - 1e-9
    else:
        held, free = (1, 2) if kind == "r" else (2, 1)
        kept = [other[free] for other in others if other[held] >= 0.8]
        if kept and y.any():
            assert found[held] >= 0.8 - 1e-9 and found[free] >= max(kept) - 1e-9


def test_the_offset_makes_a_half_of_the_threshold() -> None:
    for threshold in (0.1, 0.5, 0.93):
        logit = np.log(threshold / (1 - threshold)) - offset(threshold)
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(0.5)
