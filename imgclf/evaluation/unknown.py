"""How like the training images an image is, and from where on it is called unknown. Imports NumPy and scikit-learn.

The largest probability does not tell a strange image: a network that knows ten kinds of clothes is sure that a face is
one of them. Two things do, and their sum does better than either (docs/benchmarks.md, "Unknown"):

- the cosine of the pooled features and the nearest of a few *prototypes* of each class, the centres of its training
  images (J. Snell et al. (2017), arXiv 1703.05175, for one prototype a class);
- the *energy* of the logits (W. Liu et al. (2020), arXiv 2010.03759), less their mean, so that what all classes have in
  common, which training leaves open, does not matter.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]

PROTOTYPES = 8  # of a class
IMAGES_EACH = 10  # training images that a prototype must stand for
ENERGY = 0.5  # weight of the energy against the cosine, both in standard deviations of the validation images
ENERGIES = (ENERGY, 0.0, 0.25, 1.0, 2.0)  # what is tried where images of no class are at hand; the first among equals
WIDTH = 0.25  # of the passage from unknown to known, in the same units
COVERAGE = 0.95
LEAST_SPREAD = (2e-3, 2e-2)  # of cosines and energies: below, the rounding of a float32 would open and shut the gate


@dataclass(frozen=True)
class UnknownGate:
    """How sure it is that an image is one of the known: sigmoid(cosine * a + energy * b + offset).

    Attributes:
        prototypes: unit vectors `(P, F)`.
        cosine: a.
        energy: b.
        offset: of the sum.
    """

    prototypes: NDArray[np.float32]
    cosine: float
    energy: float
    offset: float

    def __call__(self, features: Floats, logits: Floats) -> Floats:
        """The gate 0..1 of images `(n,)`, from pooled features `(n, F)` and logits `(n, C)`."""
        inner = self.cosine * nearest(features, self.prototypes) + self.energy * energy(logits) + self.offset
        return 1 / (1 + np.exp(-inner))


def fit_gate(
    train: Floats, labels: Labels, val: Floats, val_logits: Floats, *, coverage: float = COVERAGE, seed: int = 0,
    strange: tuple[Floats, Floats] | None = None,
) -> UnknownGate:  # fmt: skip
    """Find the prototypes, and where the gate opens.

    Args:
        train: pooled features of the training images `(n, F)`.
        labels: their classes `(n,)`.
        val: pooled features of the validation images `(m, F)`.
        val_logits: what the calibrated head makes of them `(m, C)`.
        coverage: share of the validation images that must stay known.
        seed: of the prototypes.
        strange: pooled features and logits of images of no class; the energy's weight that finds most of them is taken.
    """
    prototypes = np.concatenate([_centres(unit(train[labels == label]), seed) for label in np.unique(labels)])
    weights = ENERGIES if strange is not None else (ENERGY,)
    gates = [_opened(prototypes.astype(np.float32), val, val_logits, coverage, weight) for weight in weights]
    if strange is None:
        return gates[0]
    return max(gates, key=lambda gate: rejected(gate, *strange))  # the first of the best


def rejected(gate: UnknownGate, features: Floats, logits: Floats) -> int:
    """How many images, by features `(n, F)` and logits `(n, C)`, a gate calls unknown."""
    return int((gated(softmax(logits), gate(features, logits)).argmax(axis=1) == logits.shape[1]).sum())


def _opened(
    prototypes: NDArray[np.float32], val: Floats, val_logits: Floats, coverage: float, weight: float
) -> UnknownGate:  # fmt: skip
    """The gate with one weight of the energy, as far open as the coverage asks for."""
    cosines, energies = nearest(val, prototypes), energy(val_logits)
    spread = [max(float(values.std()), least) for values, least in zip((cosines, energies), LEAST_SPREAD, strict=True)]
    a, b = 1 / (spread[0] * WIDTH), weight / (spread[1] * WIDTH)
    # `unknown` wins where 1 - g > g * p: where the logit of g is below -log p
    sure = a * cosines + b * energies + np.log(softmax(val_logits).max(axis=1))
    left = np.sort(sure)
    at = min(int((1 - coverage) * len(left)), len(left) - 1)
    lower = left[at - 1] if at else left[at] - 1.0  # between the last that is let go and the first that stays
    return UnknownGate(prototypes, float(a), float(b), float(-(left[at] + lower) / 2))


def gated(probabilities: Floats, gate: Floats) -> Floats:
    """Probabilities `(n, C)` behind a gate `(n,)`: `(n, C + 1)`, the last for unknown."""
    return np.concatenate([probabilities * gate[:, None], 1 - gate[:, None]], axis=1)


def known_only(probabilities: Floats) -> Floats:
    """What `(n, C + 1)` gated probabilities say of the known classes alone: `(n, C)` that sum to 1."""
    known = np.clip(probabilities[:, :-1], 1e-30, None)
    found: Floats = (known / known.sum(axis=1, keepdims=True)).astype(probabilities.dtype)
    return found


def nearest(features: Floats, prototypes: Floats) -> Floats:
    """Cosine of features `(n, F)` and the nearest prototype, `(n,)`."""
    found: Floats = (unit(features) @ prototypes.T).max(axis=1)
    return found


def energy(logits: Floats) -> Floats:
    """Logarithm of the sum of exponentials of logits `(n, C)`, less their mean, `(n,)`."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    peak = centred.max(axis=1)
    found: Floats = peak + np.log(np.exp(centred - peak[:, None]).sum(axis=1))
    return found


def softmax(logits: Floats) -> Floats:
    """Logits `(n, C)` as probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


def unit(features: Floats) -> Floats:
    """Rows of length one; rows of zeros stay."""
    found: Floats = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return found


def _centres(rows: Floats, seed: int) -> Floats:
    """A few unit vectors that stand for the rows."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    count = int(np.clip(len(rows) // IMAGES_EACH, 1, PROTOTYPES))
    if count == 1:
        return unit(rows.mean(axis=0, keepdims=True))
    with threadpool_limits(1):  # threads add in an order of their own: the same seed must give the same weights
        return unit(KMeans(count, n_init=2, random_state=seed).fit(rows).cluster_centers_)
