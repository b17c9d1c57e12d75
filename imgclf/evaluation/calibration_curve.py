"""Whether probabilities mean what they say: reliability, calibration error, Brier and log loss. Imports NumPy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # Guo et al. 2017


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The images whose most probable class has a probability in one range.

    Attributes:
        low: lower edge of the range, which is BINS-th of the whole wide; the edge itself belongs to the bin below.
        n: number of images, at least 1.
        confidence: mean of that probability, 0..1.
        accuracy: share of the images that are right, 0..1; equal to the confidence where probabilities are honest.
    """

    low: float
    n: int
    confidence: float
    accuracy: float


def reliability(labels: NDArray[Any], probabilities: NDArray[Any], bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """The points of a reliability diagram, by the probability of the predicted class.

    Args:
        labels: (N,) integers, the true class indices, 0..C-1.
        probabilities: (N, C) floats 0..1.
        bins: ranges of equal width that 0..1 is cut into.

    Returns:
        One entry for each range that holds an image, lowest first.

    References:
        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger (2017), On calibration of modern neural networks, arXiv 1706.04599.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = (np.arange(1, bins) / bins).astype(confidence.dtype)  # 0.2 as a float32 is above 0.2 as a float64
    place = np.searchsorted(edges, confidence, side="left")
    count, hits, total = (np.bincount(place, weights, bins) for weights in (None, right, confidence))
    return tuple(
        ReliabilityBin(low=at / bins, n=int(count[at]), confidence=float(total[at] / count[at]),
                       accuracy=float(hits[at] / count[at]))
        for at in np.flatnonzero(count).tolist()
    )  # fmt: skip


def expected_calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """The mean distance between confidence and accuracy over the images, bin by bin, 0..1; 0 is honest.

    Args:
        bins: as `reliability` gives them, at least one.
    """
    return sum(each.n * abs(each.accuracy - each.confidence) for each in bins) / sum(each.n for each in bins)


def brier_score(labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """The squared error of the probabilities, summed over the classes, mean over the images: 0 perfect, 2 worst.

    Args:
        labels: (N,) integers, the true class indices, 0..C-1; N at least 1.
        probabilities: (N, C) floats 0..1.

    References:
        G. W. Brier (1950), Verification of forecasts expressed in terms of probability. Mon. Weather Rev. 78, 1-3.
    """
    squares = np.einsum("nc,nc->n", probabilities, probabilities, dtype=np.float64)
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return max(0.0, float((squares - 2 * true + 1).mean()))


def log_loss(labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """The mean negative natural logarithm of the true class's probability; 0 is perfect.

    Args:
        labels: (N,) integers, the true class indices, 0..C-1; N at least 1.
        probabilities: (N, C) floats 0..1.
    """
    # The floor is the probabilities' own rounding error, as in scikit-learn: one confident error is not infinite.
    floor = np.finfo(probabilities.dtype).eps
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(true, floor, 1 - floor)).mean())
