"""The head stage: features once, what holds the head in bounds, quick epochs. May import TensorFlow, models/, data/."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imgclf.config import TrainConfig
from imgclf.errors import InputError
from imgclf.progress import plural, step
from imgclf.training.above import Base, pooled
from imgclf.training.epoch import METRICS, Epoch
from imgclf.training.fit import Stage, StageInterrupted, metrics_for
from imgclf.training.head import Examples, HeadBank, HeadRecipe, Regularization, best_candidate
from imgclf.training.optimizers import PLATEAU_FACTOR, PLATEAU_PATIENCE, learning_rate
from imgclf.training.plan import TransferPlan, epochs_within
from imgclf.training.session import Session

# A head on features: cosine from HEAD_RATE over so many steps of HEAD_BATCH (docs/benchmarks.md has the experiment).
HEAD_STEPS, HEAD_EPOCHS, HEAD_PATIENCE, HEAD_RATE, HEAD_BATCH = 3000, (10, 150), 15, 3e-3, 64
HEAD_DEFAULT = Regularization(0.5, 0.5, 0.0)
LEAST_GAIN = 1e-4  # of the validation loss: without it a perfect head goes on being a little surer of itself
DECAYS, DROPOUTS = (0.05, 0.5, 2.0), (0.0, 0.2, 0.5)
SEARCH_STEPS, SEARCH_EPOCHS = 600, (5, 60)
FOLDS, LEAST_A_CLASS = 5, 10  # with fewer validation images a class the training images vote too


def train_head(
    session: Session, given: TrainConfig, plan: TransferPlan, base: Base | None, labels: Sequence[Any]
) -> None:
    """The head stage: features once, then epochs of milliseconds.

    Args:
        session: of the training.
        given: the settings as the user gave them.
        plan: of the whole training.
        base: activations below the cut of the fine-tuning stage, to compute the features from.
        labels: targets `(n, C)` of the training images for each view, or one for all views.
    """
    network, config = session.network, session.config
    # varied views make the head alone no better (docs/benchmarks.md); asked for without fine-tuning they are for it
    views = 1 if plan.epochs else max(1, plan.views)
    train, val = pooled(session, base, plan.cut.layer, views)
    session.keep_features(train, val)
    targets = np.concatenate([network.targets(labels[min(view, len(labels) - 1)]) for view in range(views)])
    examples = Examples(np.concatenate([train.array(view) for view in range(views)]), targets,
                        session.weights(targets))  # fmt: skip
    watched = Examples(val.array(), network.targets(session.data.one_hot("val")))
    batch = given.batch_size or HEAD_BATCH
    steps = -(-len(examples) // batch)
    start = tuple(network.head.get_layer("scores").get_weights())
    shape = HeadRecipe((), config.optimizer, 0.0, batch, config.seed, network.binary, config.loss == "focal",
                       config.l1, config.l2, config.balance)  # fmt: skip
    best = _regularization(session, given, shape, examples, watched, start)
    session.regularization = best
    epochs = config.epochs or epochs_within(HEAD_STEPS, steps, HEAD_EPOCHS)
    session.decide(epochs=epochs)
    rate = learning_rate(config.schedule, config.learning_rate or HEAD_RATE, epochs * steps, warm_up=0.0)
    plateau = (PLATEAU_PATIENCE, PLATEAU_FACTOR) if config.schedule == "plateau" else None
    stage = Stage("head", "training the head", epochs, config.patience or HEAD_PATIENCE, steps, plateau)
    bank = HeadBank(replace(shape, candidates=(best,), rate=rate), examples, start)
    rows, weights, interrupted = _run_head(session, stage, bank, examples, watched)
    network.head.get_layer("scores").set_weights(weights)
    session.history += rows
    if interrupted:
        raise StageInterrupted(())
    if not any(row.kept for row in rows):
        raise InputError("the training of the head diverged: no epoch has a finite validation loss",
                         "choose a lower --learning-rate")  # fmt: skip
    kept = max((row for row in rows if row.kept), key=lambda row: row.epoch)
    session.note(f"head stage: validation accuracy {kept.val['accuracy']:.3f} after {plural(kept.epoch, 'epoch')}")


def _regularization(
    session: Session, given: TrainConfig, shape: HeadRecipe, examples: Examples, watched: Examples, start: Any
) -> Regularization:
    """What the head is kept in bounds by: as given, or the best of a grid on images that it did not see."""
    decays = DECAYS if given.weight_decay is None else (given.weight_decay,)
    dropouts = DROPOUTS if given.dropout is None else (given.dropout,)
    grid = tuple(Regularization(*values, 0.0) for values in product(decays, dropouts))
    if len(grid) == 1:
        return grid[0]
    if session.config.head_search is False:
        return Regularization(
            HEAD_DEFAULT.weight_decay if given.weight_decay is None else given.weight_decay,
            HEAD_DEFAULT.dropout if given.dropout is None else given.dropout, 0.0,
        )  # fmt: skip
    folds = [(examples, watched)]
    if len(watched) < LEAST_A_CLASS * len(session.network.classes):
        folds += _folds(session, examples)
    steps = -(-max(len(known) for known, _ in folds) // shape.batch_size)
    epochs = epochs_within(SEARCH_STEPS, steps, SEARCH_EPOCHS)
    rate = learning_rate("cosine", HEAD_RATE, epochs * steps, warm_up=0.0)
    with step("choosing how to hold the head in bounds", epochs * len(folds), "epochs") as bar:
        best, losses = best_candidate(replace(shape, candidates=grid, rate=rate), folds, start, epochs, bar.update)
    session.note(f"head: {best} is best of {len(grid)} (cross-entropy {losses.min():.3f}, worst {losses.max():.3f})")
    return best


def _folds(session: Session, examples: Examples) -> list[tuple[Examples, Examples]]:
    """The training images in parts that are each measured on once, every class spread evenly; all views together."""
    labels = np.array([image.label for image in session.data.staged.parts["train"]])
    turn = np.empty(len(labels), np.int64)
    draw = np.random.default_rng(session.config.seed)
    for label in np.unique(labels):
        here = draw.permutation(np.flatnonzero(labels == label))
        turn[here] = (np.arange(len(here)) + draw.integers(FOLDS)) % FOLDS
    everywhere = np.tile(turn, len(examples) // len(turn))
    first_view = np.arange(len(examples)) < len(turn)
    folds = [(examples.pick(np.flatnonzero(everywhere != fold)),
              examples.pick(np.flatnonzero((everywhere == fold) & first_view))) for fold in range(FOLDS)]  # fmt: skip
    return [(known, asked) for known, asked in folds if len(known) and len(asked)]


def _run_head(
    session: Session, stage: Stage, bank: HeadBank, examples: Examples, watched: Examples
) -> tuple[list[Epoch], list[Any], bool]:
    """Epochs of one head: its rows, the weights with the lowest validation loss, and whether Ctrl-C ended it."""
    metrics = metrics_for(binary=session.network.binary)
    update = tf.function(lambda targets, scores: [metric.update_state(targets, scores) for metric in metrics] and None)
    shown = examples.pick(np.arange(session.data.train.count))  # the images as they are
    best_loss, best_epoch, lowered = float("inf"), 0, 0
    best_weights, rows, interrupted = [value[0] for value in bank.weights], [], False
    with step(stage.title, stage.epochs * stage.steps, "steps") as bar:
        try:
            for number in range(stage.epochs):
                begun = time.perf_counter()
                bank.run_epoch(number)
                train, val = (_measure(metrics, update, bank, item) for item in (shown, watched))
                rate = float(keras.ops.convert_to_numpy(bank.optimizer.learning_rate))
                row = Epoch("head", number + 1, train, val, rate, time.perf_counter() - begun)
                rows.append(row)
                if val["loss"] < best_loss - LEAST_GAIN:
                    best_loss, best_epoch = val["loss"], row.epoch
                    best_weights = [value[0] for value in bank.weights]
                bar.update(stage.steps)
                bar.note(f"epoch {row.epoch}/{stage.epochs}, val accuracy {val['accuracy']:.3f}")
                if session.watch is not None:
                    session.watch(row)
                if row.epoch - best_epoch >= stage.patience:
                    break
                if stage.plateau is not None and row.epoch - max(best_epoch, lowered) >= stage.plateau[0]:
                    bank.optimizer.learning_rate = rate * stage.plateau[1]
                    lowered = row.epoch
        except KeyboardInterrupt:
            interrupted = True
    return [replace(row, kept=row.epoch == best_epoch) for row in rows], best_weights, interrupted


def _measure(metrics: list[Any], update: Any, bank: HeadBank, examples: Examples) -> dict[str, float]:
    for metric in metrics:
        metric.reset_state()
    update(tf.constant(examples.targets), tf.constant(bank.probabilities(examples)[0]))
    return {name: float(metric.result()) for name, metric in zip(METRICS, metrics, strict=True)}
