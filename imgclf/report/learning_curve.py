"""What more training images would bring: heads on parts of the features, carried on. Imports NumPy and SciPy.

The error of a classifier falls with the number of its training images about as a power of it (J. Hestness et al. 2017,
Deep learning scaling is predictable, empirically, arXiv 1712.00409), until it reaches what no image can tell.
So it rather promises too much: from a quarter and from half of 3,068 photos of clothes (6 draws each, 341 validation
images) it foretold 2.9 and 2.1 points on the average, and 2.0 and 1.1 came; 8 of the 12 lay in their intervals, to
which the luck of the larger part, that is not in them, adds about a point.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]

# share of the training images -> how often it is drawn: a small part depends more on which images are in it
DRAWS = {1 / 8: 5, 1 / 4: 4, 1 / 2: 3, 1.0: 1}
FEWEST = 5  # images of a class on the average in the smallest part; below it there is no curve
FEWEST_VAL = 30  # validation images
MOST = 6000  # training images; more would take more than a few seconds, and have said all there is to say
KEPT = 192  # directions of the features that a head reads
STRENGTH = 0.3  # of the head's regularization, inverse, on directions scaled to the strongest's spread
ROUNDS = 40  # of the solver
PASSES = 3  # over the features to find them
TOWARDS = 2.0  # the larger parts count so much more in the law: what matters is where the curve is going
DRAWN = 1000  # resamples of the validation images


@dataclass(frozen=True)
class LearningCurve:
    """How heads on parts of the training images do on the validation images, and where that leads.

    Attributes:
        points: number of training images and accuracy on the validation images, 0..1, smallest first.
        n: validation images.
        gain: by how much twice the images would raise the accuracy, by the fitted power law, 0..1; may be negative.
        gain_low: lower end of its 95 % interval, by drawing validation and training images again.
        gain_high: upper end of it.
    """

    points: tuple[tuple[int, float], ...]
    n: int
    gain: float
    gain_low: float
    gain_high: float

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "LearningCurve":
        """From what `to_json` gave."""
        return cls(**{**told, "points": tuple((int(images), float(share)) for images, share in told["points"])})

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON types."""
        return {"points": [list(point) for point in self.points], "n": self.n, "gain": self.gain,
                "gain_low": self.gain_low, "gain_high": self.gain_high}  # fmt: skip


def learning_curve(
    train: Floats, labels: Labels, val: Floats, val_labels: Labels, *, seed: int = 0
) -> LearningCurve | None:  # fmt: skip
    """Train heads on an eighth, a quarter, half and all of the features.

    Args:
        train: features of the training images `(n, F)`.
        labels: their classes `(n,)`.
        val: features of the validation images `(m, F)`.
        val_labels: their classes `(m,)`.
        seed: of the parts.

    Returns:
        The curve; None where there are too few images for one.
    """
    classes = len(np.unique(labels))
    if classes < 2 or len(labels) * min(DRAWS) < FEWEST * classes or len(val) < FEWEST_VAL or len(labels) > MOST:
        return None
    from threadpoolctl import threadpool_limits

    draw = np.random.default_rng(seed)
    right: dict[int, Floats] = {}
    spread = []  # of the accuracy between draws of one size, squared
    with threadpool_limits(1):  # threads add in an order of their own, and for products as small as these only wait
        train, val = _directions(train, val, draw)
        for share, times in DRAWS.items():
            some = [_part(labels, share, draw) for _ in range(times)]
            found = np.stack([_right(train[part], labels[part], val, val_labels) for part in some])
            right[len(some[0])] = found.mean(axis=0)
            spread += [found.mean(axis=1).var(ddof=1)] if times > 1 else []
    sizes, hits = np.array(list(right)), np.stack(list(right.values()))  # (sizes,), (sizes, m)
    again = draw.multinomial(len(val), np.full(len(val), 1 / len(val)), DRAWN) / len(val)
    # other images of the same kind would have been drawn: all of them at once, the smaller parts several times
    luck = np.sqrt(np.mean(spread) / np.array(list(DRAWS.values())))[:, None] * draw.standard_normal(
        (len(sizes), DRAWN)
    )
    low, high = np.quantile(doubled(sizes, np.minimum(hits @ again.T + luck, 1.0), len(val)), (0.025, 0.975))
    gain = doubled(sizes, hits.mean(axis=1, keepdims=True), len(val))[0]
    points = tuple((int(size), float(share)) for size, share in zip(sizes, hits.mean(axis=1), strict=True))
    return LearningCurve(points, len(val), float(gain), float(low), float(high))


def doubled(sizes: Floats, accuracies: Floats, n: int) -> Floats:
    """By how much the accuracy rises from the largest size to twice it, by power laws fitted to the errors.

    Args:
        sizes: numbers of training images `(s,)`, rising.
        accuracies: of several curves `(s, k)`, 0..1.
        n: images that they were measured on: no error is taken for less than half an image.

    Returns:
        Gains `(k,)`.
    """
    last, power = _law(sizes, accuracies, n)
    gains: Floats = last * (1 - 2.0**power)
    return gains


def fitted_end(curve: LearningCurve) -> float:
    """The accuracy with all images by the fitted power law, 0..1, from which the gain counts."""
    sizes, shares = np.array(curve.points).T
    return float(1 - _law(sizes, shares[:, None], curve.n)[0][0])


def _law(sizes: Floats, accuracies: Floats, n: int) -> tuple[Floats, Floats]:
    """The power laws of the errors: error at the largest size, power (below 0 where more images help)."""
    errors = np.log(np.maximum(1 - accuracies, 0.5 / n))
    place = np.log(sizes / sizes[-1])
    weights = np.arange(1.0, len(sizes) + 1)[:, None] ** TOWARDS
    weights /= weights.sum()
    middle, average = (weights[:, 0] * place).sum(), (weights * errors).sum(axis=0)
    centred = weights[:, 0] * (place - middle)
    power = centred @ (errors - average) / (centred @ (place - middle))
    return np.exp(average - power * middle), power


def _directions(train: Floats, val: Floats, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """Features in the directions in which the training images differ most: a head on them is as good and faster.

    By a random range finder (N. Halko, P. G. Martinsson, J. A. Tropp (2011), SIAM Rev. 53, 217-288): all eigenvectors
    of 1,280 features would take ten times as long.
    """
    middle = train.mean(axis=0)
    centred, asked = (train - middle).astype(np.float32), (val - middle).astype(np.float32)
    kept = min(KEPT, *train.shape)
    axes = draw.standard_normal((train.shape[1], kept)).astype(np.float32)
    for _ in range(PASSES):
        axes, _ = np.linalg.qr(centred.T @ (centred @ axes))
    read, seen = (each @ axes for each in (centred, asked))
    spread = float(np.linalg.eigvalsh(read.T @ read)[-1]) / len(read)  # along the strongest direction, squared
    scale = math.sqrt(max(spread, 0.0)) or 1.0
    return read / scale, seen / scale


def _part(labels: Labels, share: float, draw: np.random.Generator) -> NDArray[np.int64]:
    """Positions of a share of the images of every class, at least one of each."""
    found = []
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        found.append(draw.permutation(here)[: max(1, round(share * len(here)))])
    return np.concatenate(found)


def _right(train: Floats, labels: Labels, val: Floats, val_labels: Labels) -> Floats:
    """Whether a logistic head names each validation image correctly `(m,)`, 0 or 1.

    By SciPy, as importing scikit-learn takes longer than the whole curve.
    """
    from scipy.optimize import minimize

    (n, width), classes = train.shape, int(labels.max()) + 1
    targets = np.eye(classes, dtype=train.dtype)[labels]

    def cost(flat: Floats) -> tuple[float, Floats]:
        kernel = flat.reshape(width + 1, classes).astype(train.dtype)
        logits = train @ kernel[:-1] + kernel[-1]
        logits -= logits.max(axis=1, keepdims=True)
        norm = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        off = np.exp(logits - norm) - targets
        slope = np.concatenate([train.T @ off + kernel[:-1] / STRENGTH, off.sum(axis=0, keepdims=True)])
        loss = (norm[:, 0] - (logits * targets).sum(axis=1)).sum(dtype=np.float64)
        loss += 0.5 / STRENGTH * float((kernel[:-1] ** 2).sum())
        return float(loss) / n, slope.astype(np.float64).ravel() / n

    start = np.zeros((width + 1) * classes)
    found = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS}).x.reshape(-1, classes)
    right: Floats = ((val @ found[:-1] + found[-1]).argmax(axis=1) == val_labels).astype(np.float64)
    return right
