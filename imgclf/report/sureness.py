"""How sure a model is: what calibration.json says, and what of a calibration error is chance. Imports evaluation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imgclf.evaluation.calibration_curve import ReliabilityBin
from imgclf.evaluation.metrics import wilson


@dataclass(frozen=True, slots=True)
class Share:
    """So many of n images.

    Attributes:
        hits: 0..n.
        n: number of images, above 0.
    """

    hits: int
    n: int

    @property
    def share(self) -> float:
        """The proportion, 0..1."""
        return self.hits / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % Wilson interval."""
        return wilson(self.hits, self.n)


@dataclass(frozen=True, slots=True)
class Sureness:
    """What was done to the probabilities of a model, and what that is worth.

    Attributes:
        temperature: by which the logits are divided; None without calibration.
        n: images that the calibration errors are of.
        ece_before: expected calibration error without the temperature, 0..1; None where it was not measured.
        ece_after: with it.
        threshold: probability from which `threshold_class` is named; None where it is the usual half.
        threshold_class: the class that the threshold is of.
        threshold_rule: what it was chosen for ("f1", "recall>=0.9").
        threshold_n: validation images that it was chosen on.
        coverage_asked: share of the validation images that must stay known to the gate; None without a gate.
        coverage: images of the known classes that stayed known.
        rejected: images of no class that were called unknown; None where there were none.
    """

    temperature: float | None = None
    n: int = 0
    ece_before: float | None = None
    ece_after: float | None = None
    threshold: float | None = None
    threshold_class: str = ""
    threshold_rule: str = ""
    threshold_n: int = 0
    coverage_asked: float | None = None
    coverage: Share | None = None
    rejected: Share | None = None

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Sureness":
        """From calibration.json, as training/trust.py and evaluation/evaluate.py write it."""
        tested = told.get("test", {})
        threshold, gate = told.get("threshold", {}), told.get("unknown", {})
        known, strange = gate.get("test"), gate.get("strange")
        return cls(
            temperature=told.get("temperature"), n=tested.get("n", 0), ece_before=tested.get("ece_before"),
            ece_after=tested.get("ece_after"), threshold=threshold.get("value"),
            threshold_class=" ".join(str(threshold.get("class", "")).splitlines()),
            threshold_rule=str(threshold.get("rule", "")), threshold_n=threshold.get("n", 0),
            coverage_asked=gate.get("coverage_asked"),
            coverage=Share(known["known"], known["n"]) if known else None,
            rejected=Share(strange["rejected"], strange["n"]) if strange else None,
        )  # fmt: skip


def error_by_chance(bins: Sequence[ReliabilityBin]) -> tuple[float, float]:
    """The calibration error that a perfectly honest model would show on so many images, by their choice alone.

    With few images a bin is never quite as right as it is sure, so the error is never zero. In a bin of n images of
    confidence c the number that are right would be binomial; the mean of its distance from n c is known.

    Args:
        bins: as `reliability` gives them, at least one.

    Returns:
        Mean and standard deviation of the error, 0..1.

    References:
        P. Diaconis, S. Zabell (1991), Closed form summation for classical distributions: variations on a theme of De
        Moivre. Statist. Sci. 6, 284-302 (the mean absolute deviation of a binomial).
    """
    total = sum(each.n for each in bins)
    mean = variance = 0.0
    for each in bins:
        deviation = _mean_deviation(each.n, each.confidence)
        mean += deviation / total
        variance += max(0.0, each.n * each.confidence * (1 - each.confidence) - deviation**2) / total**2
    return mean, math.sqrt(variance)


def _mean_deviation(n: int, p: float) -> float:
    """Mean absolute deviation of a binomial from n p: 2 m C(n, m) p^m q^(n - m + 1), m the next integer above n p."""
    if p <= 0 or p >= 1:
        return 0.0
    m = min(math.floor(n * p) + 1, n)
    ways = math.lgamma(n + 1) - math.lgamma(m + 1) - math.lgamma(n - m + 1)
    return 2 * m * math.exp(ways + m * math.log(p) + (n - m + 1) * math.log1p(-p))
