"""Temperature, against simulations whose answer is known."""

import numpy as np
import pytest

from imgclf.evaluation.calibration_curve import expected_calibration_error, reliability
from imgclf.evaluation.temperature import compared, fit_temperature, tempered
from imgclf.evaluation.unknown import softmax


def drawn(seed: int, n: int, classes: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a network whose logits are `factor` times what they should be, and labels drawn by the truth."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (n, classes))
    labels = np.array([draw.choice(classes, p=row) for row in softmax(logits)])
    return softmax(factor * logits), labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("classes", [2, 6])
def test_the_temperature_that_was_put_in_is_found(factor: float, classes: int) -> None:
    probabilities, labels = drawn(0, 4000, classes, factor)
    found = fit_temperature(probabilities, labels)
    assert found == pytest.approx(factor, rel=0.12)
    change = compared(tempered(probabilities, found), labels, found)
    ece = expected_calibration_error(reliability(labels, probabilities))
    if factor != 1:
        assert change.ece_after < 0.5 * change.ece_before and change.log_loss_after < change.log_loss_before
    assert change.ece_before == pytest.approx(ece, abs=1e-6)


def test_answers_stay_what_they_are() -> None:
    probabilities, _ = drawn(1, 500, 5, 1.0)
    for temperature in (0.6, 1.7, 5.0):
        assert (tempered(probabilities, temperature).argmax(axis=1) == probabilities.argmax(axis=1)).all()
        again = tempered(tempered(probabilities, temperature), 1 / temperature)
        np.testing.assert_allclose(again, probabilities, atol=1e-6)


def test_a_few_images_that_are_all_right_do_not_make_it_sure() -> None:
    probabilities = np.tile([0.9, 0.1], (5, 1))
    assert 0.5 < fit_temperature(probabilities, np.zeros(5, int)) < 1.0
    assert 0.2 <= fit_temperature(np.tile([1.0, 0.0], (5, 1)), np.ones(5, int)) <= 10
