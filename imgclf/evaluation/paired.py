"""Two models on the same images: who is right where the other is not, and whether that is chance. Imports NumPy."""

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

MOST_EXACT = 4000  # discordant images; beyond, the sum of binomial coefficients is left to its normal approximation


@dataclass(frozen=True)
class Paired:
    """What changed from one model to another on the same images.

    Attributes:
        n: number of images.
        lost: right before, wrong now.
        won: wrong before, right now.
        p: McNemar's exact test, two-sided: the probability of so uneven a change if both models were equally good.
    """

    n: int
    lost: int
    won: int
    p: float

    @property
    def drop(self) -> float:
        """By how much the accuracy fell, 0..1; negative where it rose."""
        return (self.lost - self.won) / self.n


def paired(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Paired:
    """Compare two models image by image.

    Args:
        before: whether the first model is right `(n,)`.
        after: whether the second one is, on the same images.

    References:
        Q. McNemar (1947), Note on the sampling error of the difference between correlated proportions. Psychometrika
        12, 153-157; the exact test is the binomial one on the images that changed.
    """
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    return Paired(len(before), lost, won, _binomial(min(lost, won), lost + won))


def _binomial(fewer: int, n: int) -> float:
    """Two-sided probability of `fewer` or less (or as few on the other side) in n throws of a fair coin."""
    if n == 0:
        return 1.0
    if n > MOST_EXACT:
        from math import erfc, sqrt

        return float(min(1.0, erfc((abs(n - 2 * fewer) - 1) / sqrt(2 * n))))
    return float(min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n))
