"""What a history says: where training and validation part ways, and whether training ended early. Imports facts.

The loss is looked at, not the accuracy: it moves before the accuracy does, and in smaller steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from imgclf.report.facts import HistoryRow

LEAST_FALL = 0.02  # of the training loss, as a share: what is less is no learning


@dataclass(frozen=True, slots=True)
class Parting:
    """From an epoch on the training loss goes on falling while the validation loss does not.

    Attributes:
        best: the epoch with the lowest validation loss, after which they part.
        last: the last epoch of its stage.
    """

    best: HistoryRow
    last: HistoryRow


def partings(history: Sequence[HistoryRow]) -> tuple[Parting, ...]:
    """Where training and validation part ways, in each stage in which they do.

    Args:
        history: in the order of training.

    Returns:
        A parting for each stage that went on for an epoch or more after its lowest validation loss, and whose training
        loss fell meanwhile.
    """
    found = []
    for _, each in groupby(history, key=lambda row: row.stage):
        rows = [row for row in each if row.val_loss is not None]
        if not rows:
            continue
        best = min(rows, key=_val_loss)
        last = rows[-1]
        if last is not best and last.loss < (1 - LEAST_FALL) * best.loss:
            found.append(Parting(best, last))
    return tuple(found)


def still_improving(history: Sequence[HistoryRow]) -> HistoryRow | None:
    """The last epoch of a training that was still getting better when it ended; None where it was not.

    Args:
        history: in the order of training.

    Returns:
        The epoch, where it is the best of its stage by the validation loss, better than the one before, and kept.
    """
    stage = [row for row in history if history and row.stage == history[-1].stage and row.val_loss is not None]
    if len(stage) < 2 or not stage[-1].kept:
        return None
    return stage[-1] if min(stage, key=_val_loss) is stage[-1] and _val_loss(stage[-1]) < _val_loss(stage[-2]) else None


def _val_loss(row: HistoryRow) -> float:
    assert row.val_loss is not None
    return row.val_loss
