"""Trials, what is best of them, and which to take: pure functions. Imports the metrics and progress.

Trials are ranked by the accuracy on the validation images; the cross-entropy decides among equals.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from imgclf.evaluation.metrics import Z95, wilson
from imgclf.progress import plural

State = Literal["done", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRow:
    """One trial that has ended.

    Attributes:
        number: from 1, in the order in which they ended.
        state: "done", "pruned" (ended early because others did better) or "failed".
        network: with its width.
        settings: what it was trained with, beside what all trials have in common.
        right: validation images that it got right, with the weights of the lowest validation loss.
        n: validation images.
        loss: cross-entropy on them; None where there was nothing to measure.
        megabytes: its float16 .tflite file, 10^6 bytes.
        milliseconds: one image through that file on this computer, one thread.
        seconds: the trial took.
        epochs: it was trained for, all stages.
        note: why it failed.
    """

    number: int
    state: State
    network: str
    settings: dict[str, Any]
    right: int
    n: int
    loss: float | None
    megabytes: float | None
    milliseconds: float | None
    seconds: float
    epochs: int
    note: str = ""

    @property
    def accuracy(self) -> float:
        """Share of the validation images that it got right."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return wilson(self.right, self.n)

    @property
    def head_only(self) -> bool:
        """Whether nothing but the head was trained."""
        return self.settings.get("fine_tune_epochs") == 0

    @property
    def score(self) -> float:
        """What the search makes as large as it can."""
        return score(self.accuracy, self.loss or 0.0, self.n)

    def __str__(self) -> str:
        return f"{self.network}, {describe(self.settings)}"

    def to_json(self) -> dict[str, Any]:
        """All fields, the accuracy and its interval, as plain JSON."""
        low, high = self.interval
        measured = (
            {"accuracy": self.accuracy, "accuracy_low": low, "accuracy_high": high} if self.loss is not None else {}
        )
        return {**asdict(self), **measured}


@dataclass(frozen=True)
class Preference:
    """How the winner is chosen.

    Attributes:
        margin: how far below the best accuracy a trial may lie, in standard errors of the best.
        text: the margin, for people.
        key: of the trials within it the one with the smallest key wins.
    """

    margin: float
    text: str
    key: Callable[[TrialRow], tuple[float, ...]]


def _megabytes(row: TrialRow) -> float:
    """Rounded: the same network at another image size differs by a few bytes."""
    return round(row.megabytes or 0.0, 2)


# One standard error: Breiman et al., Classification and Regression Trees (1984), 3.4.3.
PREFERENCES: dict[str, Preference] = {
    "accuracy": Preference(1.0, "one standard error", lambda row: (_megabytes(row), -row.score)),
    "size": Preference(Z95, "the 95 % interval", lambda row: (_megabytes(row), row.milliseconds or 0.0)),
    "latency": Preference(Z95, "the 95 % interval", lambda row: (row.milliseconds or 0.0, _megabytes(row))),
}


@dataclass(frozen=True)
class Choice:
    """The trial to take, and why."""

    winner: TrialRow
    why: str


def score(accuracy: float, loss: float, n: int) -> float:
    """One number that orders by accuracy first and by cross-entropy second.

    Args:
        accuracy: on n validation images.
        loss: cross-entropy, 0 or more.
        n: the number of images.

    Returns:
        The accuracy less a share of half an image, which no loss makes larger than that.
    """
    return accuracy - loss / (1 + loss) / (2 * n)


def pareto_front(rows: Sequence[TrialRow]) -> tuple[TrialRow, ...]:
    """The finished trials that no other beats: better or equal in accuracy, size and time, and better in one of them.

    Returns:
        Most accurate first; of trials that are equal in all three the one with the lowest loss.
    """
    best: dict[tuple[float, float, float], TrialRow] = {}
    for row in rows:
        if row.state == "done" and row.megabytes is not None and row.milliseconds is not None:
            place = (-row.right, row.megabytes, row.milliseconds)
            if place not in best or row.score > best[place].score:
                best[place] = row
    kept = [
        row for place, row in best.items()
        if not any(other != place and all(a <= b for a, b in zip(other, place, strict=True)) for other in best)
    ]  # fmt: skip
    return tuple(sorted(kept, key=lambda row: -row.score))


def choose_winner(rows: Sequence[TrialRow], prefer: str = "accuracy") -> Choice | None:
    """The trial to train in full; None where none came to its end.

    Args:
        rows: all trials.
        prefer: "accuracy", "size" or "latency".
    """
    done = [row for row in rows if row.state == "done"]
    if not done:
        return None
    best = max(done, key=lambda row: row.score)
    preference = PREFERENCES[prefer]
    # Wilson's lower arm also stands for a standard error where every image is right
    floor = best.accuracy - preference.margin * (best.accuracy - best.interval[0]) / Z95
    within = [row for row in done if row.accuracy >= floor - 1e-9]
    winner = min(within, key=preference.key)
    if winner is best:
        why = f"the best on {best.n} validation images"
        others = len(within) - 1
        return Choice(winner, why + (f"; {others} more within {preference.text} of it" if others else ""))
    what = "fastest" if prefer == "latency" else "smallest"
    return Choice(winner, f"the {what} of {len(within)} within {preference.text} of the best (trial {best.number}, "
                          f"{best.accuracy:.3f} on {best.n} validation images)")  # fmt: skip


_WORDS: dict[str, Callable[[Any], str]] = {
    "image_size": lambda value: f"{value} px",
    "fine_tune_epochs": lambda value: "head only" if value == 0 else f"{value} epochs of fine-tuning",
    "unfreeze": lambda value: f"top {plural(int(value), 'block')}" if str(value).isdigit() else f"unfreeze {value}",
    "fine_tune_learning_rate": lambda value: f"fine-tuned at {value:g}",
    "augment": lambda value: f"augmentation {value}",
    "learning_rate": lambda value: f"learning rate {value:g}",
}


def describe(settings: dict[str, Any]) -> str:
    """The settings of a trial in words, without its network."""
    return ", ".join(words(settings[name]) for name, words in _WORDS.items() if settings.get(name) is not None)
