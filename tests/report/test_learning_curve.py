"""What twice the images would bring: the law, the heads, what is said."""

from dataclasses import replace

import numpy as np
import pytest

from imgclf.report.advice import advise
from imgclf.report.learning_curve import LearningCurve, doubled, fitted_end, learning_curve
from imgclf.report.page import render
from tests.report.pages import Page
from tests.report.test_page import facts_of


def blobs(n: int, seed: int, classes: int = 4, noise: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes in 60 dimensions, of which the first few tell them apart."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    middle = np.zeros((classes, 60))
    middle[np.arange(classes), np.arange(classes)] = 10
    return middle[labels] + draw.normal(0, noise, (n, 60)), labels


def test_a_power_law_is_carried_on() -> None:
    sizes = np.array([100, 200, 400, 800])
    accuracies = 1 - 4 * sizes[:, None] ** -0.5
    # the error of 4 / sqrt(800) becomes 4 / sqrt(1600)
    assert doubled(sizes, accuracies, 10_000) == pytest.approx([4 / 800**0.5 - 4 / 1600**0.5])
    flat = doubled(sizes, np.full((4, 1), 0.8), 100)
    assert flat == pytest.approx([0.0])
    perfect = doubled(sizes, np.ones((4, 1)), 100)  # no mistakes is no promise that there are none
    assert np.isfinite(perfect).all() and perfect == pytest.approx([0.0])


def test_heads_get_better_with_images_and_what_is_foretold_comes() -> None:
    features, labels = blobs(800, 1)
    val, val_labels = blobs(2000, 2)
    half = learning_curve(features[:400], labels[:400], val, val_labels)
    whole = learning_curve(features, labels, val, val_labels)
    assert half is not None and whole is not None
    assert [images for images, _ in half.points] == [48, 100, 200, 400]  # 12 of 100 of each class
    shares = [share for _, share in half.points]
    assert shares == sorted(shares) and half.gain_low < half.gain < half.gain_high
    assert half.gain == pytest.approx(whole.points[-1][1] - half.points[-1][1], abs=0.03)
    assert half == learning_curve(features[:400], labels[:400], val, val_labels), "the same every time"
    assert LearningCurve.from_json(half.to_json()) == half


def test_too_few_images_give_no_curve() -> None:
    features, labels = blobs(100, 1)
    val, val_labels = blobs(100, 2)
    assert learning_curve(features, labels, val, val_labels) is None, "an eighth has 3 of a class"
    features, labels = blobs(400, 1)
    assert learning_curve(features, labels, val[:20], val_labels[:20]) is None
    assert learning_curve(features, labels * 0, val, val_labels) is None


CURVE = LearningCurve(((100, 0.7), (200, 0.75), (400, 0.8), (800, 0.84)), 150, 0.0312, 0.012, 0.05)


def test_the_page_and_the_advice_say_it_with_its_uncertainty() -> None:
    facts = replace(facts_of(("cat", "dog"), history=(), exports=()), learning=CURVE)
    shown = Page(render(facts)).text
    assert "says +3.1 points (95 % interval +1.2 to +5.0" in shown and "150 validation images" in shown
    said = next("".join(each.text) for each in advise(facts) if each.title == "Collect more training images")
    assert "Twice the photos would bring about +3.1 points (1.2 to 5.0)" in said.replace("\u00a0", " ")
    assert fitted_end(CURVE) == pytest.approx(0.84, abs=0.01)
    for nothing in (replace(CURVE, gain=0.003), replace(CURVE, gain_low=-0.01)):
        titles = [each.title for each in advise(replace(facts, learning=nothing))]
        assert "Collect more training images" not in titles
