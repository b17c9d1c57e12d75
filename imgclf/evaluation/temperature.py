"""One temperature by which a network becomes as sure as it is right. Imports NumPy and SciPy.

C. Guo, G. Pleiss, Y. Sun, K. Weinberger (2017), On calibration of modern neural networks, arXiv 1706.04599: one number
by which all logits are divided makes a network as sure as it is right, and leaves its answers as they are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.evaluation.calibration_curve import expected_calibration_error, reliability

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]

LEAST, MOST = 0.2, 10.0  # temperatures beyond are no calibration but a broken network
# How far from 0 the logarithm of a temperature is before anything was seen: where a handful of images are all right,
# the likelihood alone would make the network as sure as it can be. 300 images outweigh it a hundred times.
PRIOR = 0.5
TINY = 1e-12


@dataclass(frozen=True)
class Calibration:
    """What one temperature did to probabilities.

    Attributes:
        n: number of images.
        ece_before: expected calibration error without it, 0..1.
        ece_after: with it.
        log_loss_before: mean negative logarithm of the true class's probability without it.
        log_loss_after: with it.
    """

    n: int
    ece_before: float
    ece_after: float
    log_loss_before: float
    log_loss_after: float


def fit_temperature(probabilities: Floats, labels: Labels) -> float:
    """The temperature at which images that nothing was trained on are most probable.

    Args:
        probabilities: `(n, C)` of the validation images, as the network gives them.
        labels: their classes `(n,)`.

    Returns:
        The temperature, above 1 for a network that is too sure of itself.
    """
    from scipy.optimize import minimize_scalar

    logits = np.log(np.clip(probabilities.astype(np.float64), TINY, 1.0))

    def cost(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        peak = scaled.max(axis=1, keepdims=True)
        norm = peak[:, 0] + np.log(np.exp(scaled - peak).sum(axis=1))
        loss = float((norm - scaled[np.arange(len(labels)), labels]).sum())
        return loss + 0.5 * (log_temperature / PRIOR) ** 2

    found = minimize_scalar(cost, bounds=(np.log(LEAST), np.log(MOST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """Probabilities `(n, C)` as they are when the logits are divided by a temperature."""
    powers = np.clip(probabilities.astype(np.float64), TINY, 1.0) ** (1 / temperature)
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


def compared(after: Floats, labels: Labels, temperature: float) -> Calibration:
    """What a temperature that is in the probabilities already has changed.

    Args:
        after: `(n, C)`, with it.
        labels: true classes `(n,)`.
        temperature: what was divided by.
    """
    before = tempered(after, 1 / temperature)
    losses = [float(-np.log(np.clip(each[np.arange(len(labels)), labels], 1e-7, 1)).mean()) for each in (before, after)]
    errors = [expected_calibration_error(reliability(labels, each)) for each in (before, after)]
    return Calibration(len(labels), *errors, *losses)
