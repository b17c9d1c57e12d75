"""The ladder on which trials are compared while they run. May import Optuna and training/fit."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from imgclf.search.front import score
from imgclf.training.epoch import Epoch

PEERS = 3  # trials of networks that cost no more; with fewer none is ended early
HEAD_RUNG = 20  # epochs of the head after which trials are compared
FIRST_RUNG = 4  # epochs from scratch before which nothing is compared: the learning rate still climbs

Place = tuple[int, int]  # parameters of a network, and its image size in pixels


class OutOfTime(Exception):
    """The time budget is over in the middle of a trial."""


class Watch:
    """Looks at every epoch of a trial: remembers the best, ends a trial that others beat or that has no time left.

    Args:
        trial: of the study.
        others: trials that have ended.
        head_only: whether it trains nothing but the head, which is too short to be ended early.
        deadline: by `time.monotonic`; None for none.
    """

    def __init__(
        self, trial: optuna.Trial, others: Sequence[FrozenTrial], head_only: bool, deadline: float | None
    ) -> None:
        self.trial, self.head_only, self.deadline = trial, head_only, deadline
        self.best: Epoch | None = None
        self.epochs = 0
        self.compare_with(others)

    def compare_with(self, others: Sequence[FrozenTrial]) -> None:
        """From now on compare with these, which have ended."""
        self.others = [
            ((other.user_attrs["parameters"], other.user_attrs["image_size"]), other.intermediate_values)
            for other in others if "parameters" in other.user_attrs
        ]  # fmt: skip

    def __call__(self, row: Epoch) -> None:
        """The trial has finished an epoch."""
        self.epochs += 1
        if row.val["loss"] < (self.best.val["loss"] if self.best else float("inf")):  # a NaN is not
            self.best = row
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise OutOfTime
        rung = _rung(row)
        if rung is None or self.best is None:
            return
        value = score(self.best.val["accuracy"], self.best.val["loss"], self.trial.user_attrs["n"])
        self.trial.report(value, rung)
        if not self.head_only and beaten(value, rung, self._place, self.others):
            raise optuna.TrialPruned

    @property
    def _place(self) -> Place:
        return self.trial.user_attrs["parameters"], self.trial.user_attrs["image_size"]

    def facts(self, seconds: float) -> dict[str, Any]:
        """What is kept of the trial."""
        best = {} if self.best is None else {
            "loss": self.best.val["loss"],
            "right": round(self.best.val["accuracy"] * self.trial.user_attrs["n"]),
        }  # fmt: skip
        return {**best, "seconds": seconds, "epochs": self.epochs}


def _rung(row: Epoch) -> int | None:
    """The place on the ladder at which trials are compared: 0 in the head stage, then the epochs; None between."""
    if row.stage == "head":
        return 0 if row.epoch == HEAD_RUNG else None
    return row.epoch if row.stage == "fine-tune" or row.epoch >= FIRST_RUNG else None


def beaten(value: float, rung: int, place: Place, others: Sequence[tuple[Place, dict[int, float]]]) -> bool:
    """Whether a trial does worse than the median of those that cost no more.

    That a larger network does better is no reason to end a trial: the small one may lie on the front.

    Args:
        value: its score so far.
        rung: where it is.
        place: parameters and image size of its network.
        others: the same of the trials that have ended, each with its scores by rung.
    """
    peers = [values[rung] for other, values in others
             if rung in values and other[0] <= place[0] and other[1] <= place[1]]  # fmt: skip
    return len(peers) >= PEERS and value < statistics.median(peers)
