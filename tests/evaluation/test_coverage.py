"""Whether 95 % intervals hold the truth in 95 of 100 test sets: drawn from known classifiers, 2,000 times each."""

from collections import defaultdict

import numpy as np
import pytest

from imgclf.evaluation.metrics import compute

DRAWS = 2000
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1")
OF_A_CLASS = ("precision", "recall", "f1")


def classifier(classes: int, accuracy: float, imbalance: float) -> np.ndarray:
    """The chances of true class by predicted class: classes more or less frequent, easy, and alike."""
    random = np.random.default_rng(5)
    frequency = np.linspace(1, imbalance, classes)
    recall = accuracy + np.linspace(0.06, -0.06, classes)
    mixed_up = random.dirichlet(np.full(classes, 0.6), classes)
    np.fill_diagonal(mixed_up, 0)
    mixed_up *= ((1 - recall) / mixed_up.sum(axis=1))[:, None]
    np.fill_diagonal(mixed_up, recall)
    return mixed_up * (frequency / frequency.sum())[:, None]


def truth(chances: np.ndarray) -> dict[str, np.ndarray | float]:
    hits, true, said = np.diagonal(chances), chances.sum(axis=1), chances.sum(axis=0)
    f1 = 2 * hits / (true + said)
    return {"accuracy": hits.sum(), "balanced_accuracy": (hits / true).mean(), "macro_f1": f1.mean(),
            "precision": hits / said, "recall": hits / true, "f1": f1}  # fmt: skip


def coverage(n: int, classes: int, accuracy: float, imbalance: float) -> dict[str, float]:
    """How often each interval holds the true value; those of classes are taken together."""
    chances = classifier(classes, accuracy, imbalance)
    true, random, held = truth(chances), np.random.default_rng(11), defaultdict(list)
    names = tuple(map(str, range(classes)))
    rows = np.eye(classes, dtype=np.float32)
    for _ in range(DRAWS):
        cells = random.choice(classes**2, n, p=chances.ravel())
        found = compute(cells // classes, rows[cells % classes], names)
        for name in FIGURES:
            held[name].append(getattr(found, f"{name}_low") <= true[name] <= getattr(found, f"{name}_high"))
        for index, entry in enumerate(found.per_class):
            for name in OF_A_CLASS:
                if getattr(entry, name) is not None:
                    low, high = getattr(entry, f"{name}_low"), getattr(entry, f"{name}_high")
                    held[name].append(low <= true[name][index] <= high)
    return {name: float(np.mean(some)) for name, some in held.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "classes", "accuracy", "imbalance"),
    [(400, 5, 0.85, 3), (60, 5, 0.8, 1), (372, 10, 0.91, 6), (400, 50, 0.85, 1)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(n: int, classes: int, accuracy: float, imbalance: float) -> None:
    held = coverage(n, classes, accuracy, imbalance)
    assert set(held) == {*FIGURES, *OF_A_CLASS}
    assert {name: share for name, share in held.items() if not 0.93 <= share <= 0.97} == {}
