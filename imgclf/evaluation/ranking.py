"""What the order of the scores is worth: ROC AUC, average precision, top-k accuracy. Imports NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def one_against_rest(labels: NDArray[Any], probabilities: NDArray[Any]) -> tuple[float | None, float]:
    """How well each class's score tells it from the others, mean over the classes.

    Args:
        labels: (N,) integers, the true class indices, 0..C-1; N at least 1.
        probabilities: (N, C) floats.

    Returns:
        The area under the ROC curve, mean over the classes with some images of theirs and some of others, None where
        there is none; the average precision, mean over the classes with images. Images of equal scores are taken
        together, as scikit-learn does.
    """
    found = [_of_class(probabilities[:, index], labels == index) for index in np.unique(labels)]
    areas = [area for area, _ in found if area is not None]
    return float(np.mean(areas)) if areas else None, float(np.mean([precision for _, precision in found]))


def _of_class(scores: NDArray[Any], positive: NDArray[np.bool_]) -> tuple[float | None, float]:
    negatives, positives = np.sort(scores[~positive]), np.sort(scores[positive])
    below, not_above = (np.searchsorted(negatives, positives, side) for side in ("left", "right"))
    # Among the images that score at least as high as a positive one, so many are positive.
    right = len(positives) - np.searchsorted(positives, positives, "left")
    precision = float((right / (right + len(negatives) - below)).mean())
    if not len(negatives):
        return None, precision
    # The area under the ROC curve is the chance that a random positive scores above a random negative, ties half.
    return float((below + not_above).mean() / (2 * len(negatives))), precision


def top_k_accuracy(labels: NDArray[Any], probabilities: NDArray[Any], k: int) -> float:
    """The share of images whose true class is among the k most probable ones, 0..1.

    Args:
        labels: (N,) integers, the true class indices, 0..C-1; N at least 1.
        probabilities: (N, C) floats.
        k: from 1 on. Of equally probable classes the first ones count as predicted, as for the accuracy.
    """
    true = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    before = (probabilities > true) | ((probabilities == true) & earlier)
    return float((before.sum(axis=1) < k).mean())
