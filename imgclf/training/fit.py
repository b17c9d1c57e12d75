"""One stage of training: epochs, early stopping, best weights, checkpoints. May import TensorFlow and Keras."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from imgclf.progress import Bar, step
from imgclf.training.average import Average
from imgclf.training.checkpoint import Progress
from imgclf.training.epoch import METRICS, Epoch
from imgclf.training.waiting import Waiting


@dataclass(frozen=True)
class Stage:
    """What to do in one stage.

    Attributes:
        name: "head", "fine-tune" (of an ensemble "fine-tune 1" and so on) or "training".
        title: how the progress bar calls it.
        epochs: at most.
        patience: epochs without a lower validation loss before it stops.
        steps: batches an epoch.
        plateau: after how many epochs without a lower validation loss the learning rate is multiplied, and by what.
        average: momentum of the moving average of the weights that is measured and kept in their place; 0 for none.
    """

    name: str
    title: str
    epochs: int
    patience: int
    steps: int
    plateau: tuple[int, float] | None = None
    average: float = 0.0


@dataclass(frozen=True)
class Hooks:
    """Who wants to know of a stage.

    Attributes:
        watch: told of every finished epoch; what it raises ends the training.
        save: given the progress at every epoch's end, and every so many minutes.
        minutes: how many; 0 for epochs' ends only.
        restored: where to go on from.
        waited: told after the first epoch which share of it was spent waiting for images.
    """

    watch: Callable[[Epoch], None] | None = None
    save: Callable[[Progress], None] | None = None
    minutes: float = 0.0
    restored: Progress | None = None
    waited: Callable[[float], None] | None = None


class StageInterrupted(Exception):
    """Ctrl-C within a stage; the model holds the best weights so far.

    Attributes:
        history: the epochs that were finished.
    """

    def __init__(self, history: tuple[Epoch, ...]) -> None:
        super().__init__(f"interrupted after {len(history)} epochs")
        self.history = history


def metrics_for(*, binary: bool) -> list[Any]:
    """The metrics of METRICS, for labels `(N, 1)` when binary, one-hot `(N, C)` otherwise."""
    metrics = keras.metrics
    entropy, accuracy = (
        (metrics.BinaryCrossentropy, metrics.BinaryAccuracy)
        if binary
        else (metrics.CategoricalCrossentropy, metrics.CategoricalAccuracy)
    )
    return [
        # the loss that decides is always the plain cross-entropy, so that stages with other smoothing compare
        entropy(name="cross_entropy"),
        accuracy(name="accuracy"),
        metrics.Precision(name="precision"),
        metrics.Recall(name="recall"),
        metrics.AUC(name="auc", num_thresholds=100),
    ]


def compile_for(model: Any, optimizer: Any, loss: Any, *, binary: bool, chunk: int = 1) -> None:
    """Compile with a loss and the metrics of METRICS.

    Args:
        model: ends in a sigmoid when binary, in a softmax otherwise.
        optimizer: of Keras.
        loss: of Keras, for the output of the model.
        binary: labels `(N, 1)` instead of one-hot `(N, C)`.
        chunk: steps that run as one graph; more than 1 pays where a step takes milliseconds.
    """
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics_for(binary=binary), steps_per_execution=chunk)


class _Stage:
    """A running stage: everything that a checkpoint holds."""

    def __init__(self, model: Any, stage: Stage, beat: float | None, hooks: Hooks) -> None:
        self.model, self.stage, self.hooks = model, stage, hooks
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        self.average = Average(model, stage.average)
        self.best_loss = float("inf") if beat is None else beat
        self.best_weights, self.best_epoch = model.get_weights(), 0
        self.lowered, self.rows, self.first_step = 0, [], 0
        self.metrics: list[Any] = []
        self.saved_at = time.monotonic()
        if hooks.restored is not None:
            self._restore(hooks.restored)

    rows: list[Epoch]

    def _restore(self, progress: Progress) -> None:
        groups = {"model": self.model.variables, "optimizer": self.model.optimizer.variables,
                  "average": self.average.values}  # fmt: skip
        for group, variables in groups.items():
            for variable, value in zip(variables, progress.arrays[group], strict=True):
                variable.assign(value)
        self.best_weights = progress.arrays["best"]
        self.metrics = progress.arrays["metrics"] if progress.step else []
        self.best_loss, self.best_epoch, self.lowered = progress.best_loss, progress.best_epoch, progress.lowered
        self.rows, self.first_step = list(progress.rows), progress.step

    def save(self, step_done: int = 0) -> None:
        """Hand the progress to whoever keeps it."""
        if self.hooks.save is None:
            return
        self.saved_at = time.monotonic()
        model = self.model
        arrays = {
            "model": [variable.numpy() for variable in model.variables],
            "optimizer": [variable.numpy() for variable in model.optimizer.variables],
            "metrics": [variable.numpy() for variable in model.metrics_variables] if step_done else [],
            "average": [value.numpy() for value in self.average.values],
            "best": self.best_weights,
        }
        self.hooks.save(Progress(self.stage.name, len(self.rows), step_done, self.best_loss, self.best_epoch,
                                 self.lowered, tuple(self.rows), arrays))  # fmt: skip

    def is_time(self) -> bool:
        """Whether the last checkpoint is old enough for another within the epoch."""
        return bool(self.hooks.minutes) and time.monotonic() - self.saved_at >= 60 * self.hooks.minutes

    def finish_epoch(self, row: Epoch) -> None:
        """Count an epoch, keep its weights where they are the best, lower the rate on a plateau."""
        self.rows.append(row)
        self.first_step, self.metrics = 0, []
        if row.val["loss"] < self.best_loss:
            self.average.swap()
            self.best_loss, self.best_weights, self.best_epoch = row.val["loss"], self.model.get_weights(), row.epoch
            self.average.swap()
        plateau = self.stage.plateau
        if plateau is not None and row.epoch - max(self.best_epoch, self.lowered) >= plateau[0]:
            self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate.numpy()) * plateau[1]
            self.lowered = row.epoch
        self.save()
        if self.hooks.watch is not None:
            self.hooks.watch(row)

    @property
    def over(self) -> bool:
        """Whether all epochs are done or there is no hope of a better one."""
        done = len(self.rows)
        return done >= self.stage.epochs or (done > 0 and done - self.best_epoch >= self.stage.patience)


def run_stage(
    model: Any, stage: Stage, epoch_data: Callable[[int], Any], val_data: Any, beat: float | None = None,
    hooks: Hooks | None = None,
) -> tuple[Epoch, ...]:  # fmt: skip
    """Train a compiled model for one stage; at the end it holds the weights with the lowest validation loss.

    Args:
        model: compiled by `compile_for`.
        stage: how long and how patiently.
        epoch_data: epoch number (from 0) to the batches of that epoch, the same whenever it is asked for.
        val_data: batches, or a pair of arrays.
        beat: validation loss of the weights the model comes with; when no epoch is better they are restored.
        hooks: who watches, and where to go on from.

    Returns:
        One row per epoch; none is marked as kept when the first weights were better.

    Raises:
        StageInterrupted: Ctrl-C; the best weights so far are in the model.
    """
    state = _Stage(model, stage, beat, hooks or Hooks())
    interrupted = False
    with step(stage.title, stage.epochs * stage.steps, "steps") as bar:
        bar.update(len(state.rows) * stage.steps + state.first_step)
        try:
            if state.hooks.restored is None:
                state.save()  # what went before need not be done again
            while not state.over:
                row = _epoch(state, epoch_data, val_data, bar)
                state.finish_epoch(row)
                bar.note(f"epoch {row.epoch}/{stage.epochs}, val accuracy {row.val['accuracy']:.3f}")
        except KeyboardInterrupt:
            interrupted = True
    model.set_weights(state.best_weights)
    history = tuple(replace(row, kept=row.epoch == state.best_epoch) for row in state.rows)
    if interrupted:
        raise StageInterrupted(history)
    return history


def _epoch(state: _Stage, epoch_data: Callable[[int], Any], val_data: Any, bar: Bar) -> Epoch:
    start = time.perf_counter()
    number = len(state.rows)
    data = epoch_data(number)
    if state.first_step:
        data = data.skip(state.first_step)
        # Keras would make the metrics' variables within the first step
        state.model._symbolic_build(data_batch=next(iter(data)))
    waiting = Waiting() if number == 0 and state.hooks.waited is not None else None
    steps = _Steps(state, bar, waiting)
    logs = state.model.fit(
        waiting.watch(data) if waiting else data, validation_data=val_data, verbose=0, shuffle=False, callbacks=[steps]
    ).history
    if waiting is not None and state.hooks.waited is not None:
        state.hooks.waited(waiting.share(steps.ended))
    return Epoch(
        stage=state.stage.name,
        epoch=number + 1,
        train=_metrics(logs, ""),
        val=_metrics(logs, "val_"),
        learning_rate=float(keras.ops.convert_to_numpy(state.model.optimizer.learning_rate)),
        seconds=time.perf_counter() - start,
    )


def measured(model: Any, data: Any) -> dict[str, float]:
    """The METRICS of a compiled model on batches."""
    logs = model.evaluate(data, verbose=0, return_dict=True)
    return _metrics({name: [value] for name, value in logs.items()}, "")


def _metrics(logs: dict[str, list[float]], prefix: str) -> dict[str, float]:
    names = {name: "cross_entropy" if name == "loss" else name for name in METRICS}
    return {name: float(logs[prefix + source][-1]) for name, source in names.items()}


class _Steps(keras.callbacks.Callback):  # type: ignore[misc]
    """Within an epoch: counts steps, follows the average, saves now and then; validation is of the average."""

    def __init__(self, state: _Stage, bar: Bar, waiting: Waiting | None = None) -> None:
        super().__init__()
        self.state, self.bar, self.done = state, bar, state.first_step
        self.waiting, self.ended = waiting, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Metrics go on where a checkpoint within the epoch left them; Keras has just reset them."""
        if self.state.metrics:
            for variable, value in zip(self.model.metrics_variables, self.state.metrics, strict=True):
                variable.assign(value)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The next batch is asked for."""
        if self.waiting is not None:
            self.waiting.ask()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """The batch of that number is done, and with it those that ran in the same graph."""
        state, self.ended = self.state, time.perf_counter()
        # where steps run as one graph, the last of an epoch is counted beyond it
        done = min(state.first_step + batch + 1, state.stage.steps)
        self.bar.update(done - self.done)
        self.done = done
        state.average.follow(len(state.rows) * state.stage.steps + done)
        if done < state.stage.steps and state.is_time():
            state.save(done)

    def on_test_begin(self, logs: Any = None) -> None:
        """Validation is of the average."""
        self.state.average.swap()

    def on_test_end(self, logs: Any = None) -> None:
        """Training goes on with the weights."""
        self.state.average.swap()
