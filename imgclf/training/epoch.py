"""One row of a training's diary. Imports nothing."""

from dataclasses import dataclass

METRICS = ("loss", "accuracy", "precision", "recall", "auc")


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv.

    Attributes:
        stage: "head", "fine-tune" or "training" (everything, from scratch); of an ensemble "fine-tune 1" and so on, and
            "average" for what it became.
        epoch: from 1, within the stage.
        train: loss (cross-entropy without label smoothing), accuracy, precision, recall, auc on the training images.
        val: the same on the validation images.
        learning_rate: at the end of the epoch.
        seconds: the epoch took, validation included.
        kept: whether its weights are the ones in the model at the end.
    """

    stage: str
    epoch: int
    train: dict[str, float]
    val: dict[str, float]
    learning_rate: float
    seconds: float
    kept: bool = False
