"""One stage of training: epochs, early stopping, best weights. May import TensorFlow and Keras."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from imgclf.progress import Bar, step

METRICS = ("loss", "accuracy", "precision", "recall", "auc")


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv.

    Attributes:
        stage: "head", "fine-tune" or "training" (everything, from scratch).
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


@dataclass(frozen=True)
class Stage:
    """What to do in one stage.

    Attributes:
        name: "head", "fine-tune" or "training".
        title: how the progress bar calls it.
        epochs: at most.
        patience: epochs without a lower validation loss before it stops.
        steps: batches an epoch.
        plateau: after how many epochs without a lower validation loss the learning rate is multiplied, and by what.
    """

    name: str
    title: str
    epochs: int
    patience: int
    steps: int
    plateau: tuple[int, float] | None = None


class StageInterrupted(Exception):
    """Ctrl-C within a stage; the model holds the best weights so far.

    Attributes:
        history: the epochs that were finished.
    """

    def __init__(self, history: tuple[Epoch, ...]) -> None:
        super().__init__(f"interrupted after {len(history)} epochs")
        self.history = history


def compile_for(model: Any, optimizer: Any, loss: Any, *, binary: bool, chunk: int = 1) -> None:
    """Compile with a loss and the metrics of METRICS.

    Args:
        model: ends in a sigmoid when binary, in a softmax otherwise.
        optimizer: of Keras.
        loss: of Keras, for the output of the model.
        binary: labels `(N, 1)` instead of one-hot `(N, C)`.
        chunk: steps that run as one graph; more than 1 pays where a step takes milliseconds.
    """
    metrics = keras.metrics
    entropy, accuracy = (
        (metrics.BinaryCrossentropy, metrics.BinaryAccuracy)
        if binary
        else (metrics.CategoricalCrossentropy, metrics.CategoricalAccuracy)
    )
    model.compile(
        optimizer=optimizer,
        loss=loss,
        # the loss that decides is always the plain cross-entropy, so that stages with other smoothing compare
        metrics=[
            entropy(name="cross_entropy"),
            accuracy(name="accuracy"),
            metrics.Precision(name="precision"),
            metrics.Recall(name="recall"),
            metrics.AUC(name="auc", num_thresholds=100),
        ],
        steps_per_execution=chunk,
    )


def run_stage(
    model: Any, stage: Stage, epoch_data: Callable[[int], Any], val_data: Any, beat: float | None = None
) -> tuple[Epoch, ...]:
    """Train a compiled model for one stage; at the end it holds the weights with the lowest validation loss.

    Args:
        model: compiled by `compile_for`.
        stage: how long and how patiently.
        epoch_data: epoch number (from 0) to the batches of that epoch.
        val_data: batches, or a pair of arrays.
        beat: validation loss of the weights the model comes with; when no epoch is better they are restored.

    Returns:
        One row per epoch; none is marked as kept when the first weights were better.

    Raises:
        StageInterrupted: Ctrl-C; the best weights so far are in the model.
    """
    best_loss = float("inf") if beat is None else beat
    best_weights, best_epoch = model.get_weights(), 0
    lowered = 0  # the epoch after which the learning rate was lowered last
    rows: list[Epoch] = []
    interrupted = False
    with step(stage.title, stage.epochs * stage.steps, "steps") as bar:
        try:
            for number in range(stage.epochs):
                row = _epoch(model, stage, number, epoch_data(number), val_data, bar)
                rows.append(row)
                if row.val["loss"] < best_loss:
                    best_loss, best_weights, best_epoch = row.val["loss"], model.get_weights(), row.epoch
                bar.note(f"epoch {row.epoch}/{stage.epochs}, val accuracy {row.val['accuracy']:.3f}")
                if row.epoch - best_epoch >= stage.patience:
                    break
                if _at_plateau(model, stage, row.epoch - max(best_epoch, lowered)):
                    lowered = row.epoch
        except KeyboardInterrupt:
            interrupted = True
    model.set_weights(best_weights)
    history = tuple(replace(row, kept=row.epoch == best_epoch) for row in rows)
    if interrupted:
        raise StageInterrupted(history)
    return history


def _at_plateau(model: Any, stage: Stage, waited: int) -> bool:
    """Lower the learning rate of a model that has waited long enough for a better epoch; whether it did."""
    if stage.plateau is None or waited < stage.plateau[0]:
        return False
    model.optimizer.learning_rate = float(model.optimizer.learning_rate.numpy()) * stage.plateau[1]
    return True


def _epoch(model: Any, stage: Stage, number: int, data: Any, val_data: Any, bar: Bar) -> Epoch:
    start = time.perf_counter()
    logs = model.fit(
        data, validation_data=val_data, verbose=0, shuffle=False, callbacks=[_Steps(bar, stage.steps)],
    ).history  # fmt: skip
    return Epoch(
        stage=stage.name,
        epoch=number + 1,
        train=_metrics(logs, ""),
        val=_metrics(logs, "val_"),
        learning_rate=float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)),
        seconds=time.perf_counter() - start,
    )


def _metrics(logs: dict[str, list[float]], prefix: str) -> dict[str, float]:
    names = {name: "cross_entropy" if name == "loss" else name for name in METRICS}
    return {name: float(logs[prefix + source][-1]) for name, source in names.items()}


class _Steps(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells the bar of every batch."""

    def __init__(self, bar: Bar, steps: int) -> None:
        super().__init__()
        self.bar, self.steps, self.done = bar, steps, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """The batch of that number is done, and with it those that ran in the same graph."""
        done = min(batch + 1, self.steps)  # where steps run as one graph, the last of an epoch is counted beyond it
        self.bar.update(done - self.done)
        self.done = done
