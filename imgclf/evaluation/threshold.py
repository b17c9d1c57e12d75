"""From which probability on the second of two classes is named: f1, recall>=0.95, precision>=0.95, 0.3. Imports NumPy.

It is found on the validation images and put into the bias of the model's head, so that the class with the larger score
is the one to name: in Keras, in every mobile file, and in an app that knows nothing of thresholds.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.errors import InputError

Floats = NDArray[np.floating[Any]]
PLAIN = "0.5"
LEAST = 1e-4  # of a threshold, and of its distance from 1
EXPECTED = "expected f1, recall>=0.95, precision>=0.95 or a number such as 0.3"


@dataclass(frozen=True)
class Rule:
    """How a threshold is chosen.

    Attributes:
        kind: "f1", "recall", "precision" or "fixed".
        value: the least recall or precision, or the threshold itself, above 0 and below 1; of no use for "f1".
    """

    kind: str
    value: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read what `--threshold` was given.

        Raises:
            InputError: it is no rule.
        """
        words = "".join(text.split()).lower()
        if words == "f1":
            return cls("f1")
        match = re.fullmatch(r"(?:(recall|precision)>=)?([0-9]*\.?[0-9]+)", words)
        if match is None or not 0 < float(match[2]) < 1:
            raise InputError(f"--threshold is {text!r}", EXPECTED)
        return cls(match[1] or "fixed", float(match[2]))


def choose(rule: Rule, positive: Floats, labels: NDArray[np.int64]) -> float:
    """The threshold that a rule gives.

    Args:
        rule: how.
        positive: probability of the second class for each validation image `(n,)`.
        labels: 1 for images of the second class, else 0, `(n,)`.

    Returns:
        The threshold, above 0 and below 1: halfway between the last image that is called positive and the first that
        is not. Where no threshold keeps the rule, the one that comes nearest to it.
    """
    if rule.kind == "fixed":
        return rule.value
    order = np.argsort(-positive, kind="stable")
    sure = positive[order].astype(np.float64)
    hits = np.cumsum(labels[order] == 1)
    called = np.arange(1, len(sure) + 1)
    # images with the same probability are called together; next to none is none, whatever the label
    last = np.append(sure[1:] < sure[:-1], True) & (sure > 2 * LEAST)
    recall, precision = hits / max(int(hits[-1]), 1), hits / called
    f1 = 2 * hits / (called + max(int(hits[-1]), 1))
    if rule.kind == "f1":
        worth = f1
    else:
        held, other = (recall, precision) if rule.kind == "recall" else (precision, recall)
        kept = held >= rule.value - 1e-9
        worth = np.where(kept, 1 + other, held)  # among those that keep it the best by the other
    at = int(np.where(last, worth, -1.0).argmax())
    below = sure[at + 1] if at + 1 < len(sure) else 0.0
    return float(np.clip((sure[at] + below) / 2, LEAST, 1 - LEAST))


def offset(threshold: float) -> float:
    """What the logit of the second class must lose for its probability to be a half at the threshold."""
    return float(np.log(threshold / (1 - threshold)))
