"""Weights onto the grid of eight bits so that the layer's output changes least. Imports NumPy only.

Rounding each weight to the nearest step is not the best rounding of a layer: what matters is the output, a sum over
many weights, on the inputs that really come. Two remedies are known, and they add up:

- *bias correction*: the mean of the output moves by the rounding errors times the mean input; the bias takes it back
  (M. Nagel et al. (2019), Data-free quantization through weight equalization and bias correction, arXiv 1906.04721);
- *rounding one weight after the other*, each time letting the weights that are not rounded yet make up for the error,
  as the second moments of the inputs tell (E. Frantar et al. (2022), GPTQ, arXiv 2210.17323, after B. Hassibi and D.
  Stork (1993), Second order derivatives for network pruning).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

STEPS = 127  # of int8 on either side of zero: TFLite's weights are symmetric
DAMPING = 0.01  # of the mean second moment: without it inputs that never vary would be rounded as one likes
MORE_DAMPING = (1.0, 10.0, 100.0)  # tried in turn where rounding errors have made the covariance indefinite


def steps(rows: Floats) -> Floats:
    """The size of a step for each row: its largest weight is 127 of them."""
    largest = np.abs(rows).max(axis=1) / STEPS
    return np.where(largest > 0, largest, 1.0)


def nearest(rows: Floats) -> Floats:
    """Every weight at the nearest step."""
    step = steps(rows)[:, None]
    return np.clip(np.rint(rows / step), -STEPS, STEPS) * step


def in_turn(rows: Floats, covariance: Floats) -> Floats:
    """Round one weight of each row after the other, and let the rest of the row make up for it.

    Args:
        rows: weights `(rows, K)`.
        covariance: of the inputs `(K, K)`, or `(rows, K, K)` where each row has inputs of its own.

    Returns:
        The weights, each a multiple of its row's step.
    """
    size = rows.shape[1]
    factor = _answers(covariance)
    if factor is None:
        return nearest(rows)
    left, step, largest = rows.astype(np.float64), steps(rows), np.abs(rows).argmax(axis=1)
    rounded = np.empty_like(left)
    for at in range(size):
        answer = factor[..., at, :]
        wanted = np.where(largest == at, rows[:, at], left[:, at])  # the largest weight stays: it sets the grid
        rounded[:, at] = np.clip(np.rint(wanted / step), -STEPS, STEPS) * step
        error = (left[:, at] - rounded[:, at]) / answer[..., at]
        left[:, at + 1 :] -= error[:, None] * np.broadcast_to(answer, (len(rows), size))[:, at + 1 :]
    return rounded


def _answers(covariance: Floats) -> Floats | None:
    """How the weights that are left answer for an error of one in each: the upper factor of the inverse, row by row.

    None where there is none: what is left of a covariance beside a mean that is a million times as large is noise.
    """
    size = covariance.shape[-1]
    damping = np.maximum(DAMPING * np.einsum("...ii->...i", covariance).mean(axis=-1), 1e-8)
    for more in MORE_DAMPING:
        try:
            inverse = np.linalg.inv(covariance + more * damping[..., None, None] * np.eye(size))
            factor: Floats = np.linalg.cholesky((inverse + np.swapaxes(inverse, -1, -2)) / 2)
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(factor).all():
            return np.swapaxes(factor, -1, -2)
    return None


def round_rows(rows: Floats, mean: Floats, second: Floats | None) -> tuple[Floats, Floats]:
    """Round a layer's weights, and say by how much the mean of each output moves.

    Args:
        rows: weights `(rows, K)`.
        mean: of the inputs `(K,)`, or `(rows, K)`.
        second: mean of their outer products `(K, K)` or `(rows, K, K)`; None rounds to the nearest step.

    Returns:
        The weights on their grid, and what the bias has to take back `(rows,)`.
    """
    # the bias answers for the mean, the rounding for what varies about it
    rounded = nearest(rows) if second is None else in_turn(rows, second - mean[..., :, None] * mean[..., None, :])
    return rounded, ((rounded - rows) * mean).sum(axis=1)
