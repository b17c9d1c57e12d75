"""One network out of several that were fine-tuned from the same start: the average of their weights. Imports NumPy.

Model soups: Wortsman 2022, arXiv 2203.05482. Networks that began as one and learned at a low rate lie in one valley of
the loss, and the middle of them is often better than each; it costs no more to run than one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Weights = list[Any]


class Member(NamedTuple):
    """One of the networks: its validation loss and its weights."""

    loss: float
    weights: Weights


class Soup(NamedTuple):
    """What came out.

    Attributes:
        weights: the average.
        used: indices of the members in it, the best first.
        loss: its validation loss.
    """

    weights: Weights
    used: tuple[int, ...]
    loss: float


def greedy_soup(members: Sequence[Member], loss_of: Callable[[Weights], float]) -> Soup:
    """Average members as long as the validation loss does not rise, from the best one on (the paper's recipe 1).

    Args:
        members: one or more.
        loss_of: weights to their validation loss.
    """
    order = sorted(range(len(members)), key=lambda index: (members[index].loss, index))
    best = Soup(members[order[0]].weights, (order[0],), members[order[0]].loss)
    for index in order[1:]:
        used = (*best.used, index)
        weights = [np.mean([members[each].weights[at] for each in used], axis=0, dtype=np.float64).astype(part.dtype)
                   for at, part in enumerate(best.weights)]  # fmt: skip
        loss = loss_of(weights)
        if loss <= best.loss:
            best = Soup(weights, used, loss)
    return best
