"""Groups of test images, by size, light, shape, colour and folder, on which a model is worse. Imports NumPy."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.evaluation.intervals import wilson

FEWEST = 10  # images of a group, and of the rest, below which a difference says nothing
WEAK = 0.05  # a group is called weak where the chance of being so much worse, corrected for all groups, is below

# Shares of the images below which a group ends. Models fail at the extremes: these get a tenth each where that is
# enough images to see it.
QUANTILES = ((200, (0.1, 0.5, 0.9)), (0, (1 / 3, 2 / 3)))  # from so many images on
SHAPES = (
    (0.0, "tall, below 1:2"),
    (0.5, "upright"),
    (0.9, "about square"),
    (1 / 0.9, "lying"),
    (2.0, "wide, from 2:1"),
)
NO_FOLDER = "(no sub-folder)"

Groups = list[str | None]


@dataclass(frozen=True)
class Properties:
    """What is known of N images beside their class.

    Attributes:
        pixels: width times height, float (N,); NaN where unknown, here and below.
        aspect: width through height, float (N,).
        brightness: mean of the perceived brightness, 0..1, float (N,).
        grey: N times whether no pixel has a colour; None where unknown.
        folder: N times the folder below that of the class, "" for none; None where unknown.
    """

    pixels: NDArray[np.float64]
    aspect: NDArray[np.float64]
    brightness: NDArray[np.float64]
    grey: Sequence[bool | None]
    folder: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Slice:
    """A group of test images and how the model fares on it.

    Attributes:
        property: what the images have in common: a name of `PROPERTIES`.
        group: which of its values, in words.
        n: number of images in the group.
        right: of which the model got so many right.
        accuracy: share of them, 0..1.
        accuracy_low: lower end of its 95 % Wilson interval.
        accuracy_high: upper end of it.
        rest: accuracy on the other images of which the property is known.
        p: the chance of a group that is at least so much worse than the rest if it were no worse (Fisher's exact test,
            one-sided), corrected for the number of groups that were tried (Holm); 0..1.
        weak: whether p is below 0.05.
    """

    property: str
    group: str
    n: int
    right: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    rest: float
    p: float
    weak: bool

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{'weak: ' if self.weak else ''}{self.property} {self.group}: accuracy {self.accuracy:.3f} "
            f"({self.right} of {self.n}; 95 % interval {self.accuracy_low:.3f} to {self.accuracy_high:.3f}), "
            f"elsewhere {self.rest:.3f}, p = {self.p:.2g}"
        )


def find_slices(right: NDArray[np.bool_], properties: Properties) -> tuple[Slice, ...]:
    """Compare the model's accuracy on groups of images with that on the rest.

    Args:
        right: whether the model is right, (N,).
        properties: of the same images.

    Returns:
        The groups of 10 images or more, where there are as many others to compare with; weak ones first, then by p.

    References:
        R. A. Fisher (1922), On the interpretation of chi-squared from contingency tables. J. R. Stat. Soc. 85, 87-94.
        S. Holm (1979), A simple sequentially rejective multiple test procedure. Scand. J. Statist. 6, 65-70.
    """
    right = np.asarray(right, bool)
    tried: list[tuple[str, str, int, int, int, int]] = []
    for name, groups_of in PROPERTIES.items():
        groups = groups_of(properties)
        known = np.array([group is not None for group in groups], bool)
        n, hits = int(known.sum()), int(right[known].sum())
        members: dict[str, list[int]] = {}
        for index, group in enumerate(groups):
            if group is not None:
                members.setdefault(group, []).append(index)
        tried += [
            (name, group, len(some), int(right[some].sum()), n, hits)
            for group, some in members.items()
            if FEWEST <= len(some) <= n - FEWEST
        ]
    chances = holm([worse_by_chance(inside, n, hits, total) for _, _, n, inside, total, hits in tried])
    found = []
    for (name, group, n, inside, total, hits), p in zip(tried, chances, strict=True):
        low, high = wilson(inside, n)
        rest = (hits - inside) / (total - n)
        found.append(Slice(name, group, n, inside, inside / n, low, high, rest, p, p < WEAK))
    return tuple(sorted(found, key=lambda each: (each.p, each.accuracy)))


def worse_by_chance(inside: int, n: int, hits: int, total: int) -> float:
    """Fisher's exact test, one-sided: the chance that of n images drawn from all at most so many are right.

    Args:
        inside: images of the group that are right, 0..n.
        n: images of the group.
        hits: images that are right, in the group and outside.
        total: images in the group and outside.
    """
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])  # of the factorials

    def ways(among: int, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = logs[among] - logs[chosen] - logs[among - chosen]
        return found

    numbers = np.arange(max(0, n - (total - hits)), inside + 1)
    exponents = ways(hits, numbers) + ways(total - hits, n - numbers) - ways(total, np.array([n]))
    return min(1.0, float(np.exp(exponents).sum()))


def holm(chances: Sequence[float]) -> list[float]:
    """Chances of several tests corrected so that one false alarm among all is as unlikely as it says (Holm 1979)."""
    corrected, largest = [0.0] * len(chances), 0.0
    for rank, index in enumerate(sorted(range(len(chances)), key=lambda at: chances[at])):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[index]))
        corrected[index] = largest
    return corrected


def _by_quantile(values: NDArray[np.float64], form: str, unit: str = "") -> Groups:
    """Groups of numbers, each named by its smallest and largest."""
    known = np.isfinite(values)
    groups: Groups = [None] * len(values)
    if not known.any():
        return groups
    shares = next(shares for fewest, shares in QUANTILES if int(known.sum()) >= fewest)
    edges = np.quantile(values[known], shares, method="inverted_cdf")
    place = np.where(known, np.searchsorted(edges, values, side="left"), -1)
    for at in range(len(shares) + 1):
        members = np.flatnonzero(place == at)
        if len(members):
            low, high = (format(end, form) for end in (values[members].min(), values[members].max()))
            for index in members:
                groups[index] = (low if low == high else f"{low} to {high}") + unit
    return groups


def _by_shape(aspect: NDArray[np.float64]) -> Groups:
    edges = [low for low, _ in SHAPES]
    place = np.searchsorted(edges, aspect, side="right") - 1
    return [SHAPES[at][1] if math.isfinite(value) else None for at, value in zip(place, aspect, strict=True)]


# What images are grouped by -> the group of each image. One more is one more row here and a field of `Properties`.
PROPERTIES: dict[str, Callable[[Properties], Groups]] = {
    "size": lambda known: _by_quantile(known.pixels, ",.0f", " pixels"),
    "brightness": lambda known: _by_quantile(known.brightness, ".3f"),
    "shape": lambda known: _by_shape(known.aspect),
    "colour": lambda known: [None if grey is None else "grey" if grey else "coloured" for grey in known.grey],
    "folder": lambda known: [None if folder is None else folder or NO_FOLDER for folder in known.folder],
}
