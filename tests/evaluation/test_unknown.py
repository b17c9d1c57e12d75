"""Where an image is called unknown: coverage kept on the validation images, strange features let go."""

import numpy as np
import pytest

from imgclf.evaluation.unknown import energy, fit_gate, gated, known_only, nearest, rejected, softmax


def features(seed: int, n: int, classes: int = 4, width: int = 64, strange: bool = False) -> tuple[np.ndarray, ...]:
    """Features around one direction for each class, as a ReLU leaves them, and the logits of a head that knows them."""
    centres = np.maximum(np.random.default_rng(99).normal(0, 1, (classes, width)), 0)
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    around = (
        np.maximum(draw.normal(0, 1, (n, width)), 0) if strange else centres[labels] + draw.normal(0, 0.3, (n, width))
    )
    rows = np.maximum(around, 0)
    return rows, labels, 0.3 * rows @ centres.T


@pytest.mark.parametrize("coverage", [0.9, 0.95, 1.0])
def test_so_many_validation_images_stay_known(coverage: float) -> None:
    (train, labels, _), (val, _, logits) = features(0, 400), features(1, 200)
    gate = fit_gate(train, labels, val, logits, coverage=coverage)
    found = gated(softmax(logits), gate(val, logits))
    known = (found.argmax(axis=1) < 4).mean()
    assert coverage <= known <= coverage + 0.011
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(known_only(found), softmax(logits), rtol=1e-6)
    assert (found[:, :4].argmax(axis=1) == logits.argmax(axis=1)).all(), "the order of the known classes stays"


def test_strange_images_are_let_go_and_new_ones_of_the_known_are_not() -> None:
    (train, labels, _), (val, _, val_logits) = features(0, 400), features(1, 200)
    gate = fit_gate(train, labels, val, val_logits)
    for seed, strange, low, high in ((2, False, 0.0, 0.12), (3, True, 0.95, 1.0)):
        rows, _, logits = features(seed, 300, strange=strange)
        unknown = gated(softmax(logits), gate(rows, logits)).argmax(axis=1) == 4
        assert low <= unknown.mean() <= high


def test_what_all_logits_have_in_common_does_not_matter() -> None:
    _, _, logits = features(4, 20)
    np.testing.assert_allclose(energy(logits + 7), energy(logits), atol=1e-9)
    two = np.array([[0.0, 3.0], [3.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(energy(two), [np.log(2 * np.cosh(1.5))] * 2 + [np.log(2)])


def test_the_nearest_prototype_by_hand() -> None:
    prototypes = np.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(nearest(np.array([[2.0, 0.0], [3.0, 4.0], [0.0, 0.0]]), prototypes), [1, 0.8, 0])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_images(count: int) -> None:
    """One image of each class: nothing is known of the spread, and nothing is refused."""
    train, labels, _ = features(0, 4 * count)
    val, _, logits = features(1, count)
    gate = fit_gate(train, labels, val, logits)
    assert np.isfinite([gate.cosine, gate.energy, gate.offset]).all()
    assert (gated(softmax(logits), gate(val, logits)).argmax(axis=1) < 4).all()


def test_the_same_seed_gives_the_same_gate() -> None:
    (train, labels, _), (val, _, logits) = features(0, 400), features(1, 200)
    first, second = (fit_gate(train, labels, val, logits, seed=5) for _ in range(2))
    assert (first.prototypes == second.prototypes).all() and first.offset == second.offset


def test_images_of_no_class_tune_what_counts() -> None:
    """Features like those of a class, with logits that are none: the energy tells, the cosine does not."""
    (train, labels, _), (val, _, val_logits) = features(0, 400), features(1, 200)
    rows, _, logits = features(5, 60)
    weak = logits * 0.2
    plain = fit_gate(train, labels, val, val_logits)
    tuned = fit_gate(train, labels, val, val_logits, strange=(rows, weak))
    assert rejected(tuned, rows, weak) >= rejected(plain, rows, weak)
    assert tuned.energy / tuned.cosine > plain.energy / plain.cosine
    known = (gated(softmax(val_logits), tuned(val, val_logits)).argmax(axis=1) < 4).mean()
    assert known >= 0.95, "the coverage is kept whatever is tuned"
    nothing_to_tell = fit_gate(train, labels, val, val_logits, strange=(np.zeros((0, 64)), np.zeros((0, 4))))
    assert nothing_to_tell.energy == plain.energy, "the first among equals"
