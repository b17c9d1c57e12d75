"""Training from pretrained weights: the head, then the top of the backbone. May import TensorFlow, models/, data/.

BatchNorm of the backbone never moves: `layer.trainable = False` on each such layer, because `base(x, training=False)`
does not hold it in Keras 3 once `fit` runs.
"""

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
from imgclf.models.build import cut_layer
from imgclf.models.row import Backbone
from imgclf.progress import plural, step
from imgclf.training.above import Cached, Fresh, below_cut, pooled
from imgclf.training.budget import affordable, measure
from imgclf.training.epoch import METRICS, Epoch
from imgclf.training.features import Activations
from imgclf.training.fit import Stage, StageInterrupted, metrics_for
from imgclf.training.head import Examples, HeadBank, HeadRecipe, Regularization, best_candidate
from imgclf.training.optimizers import PLATEAU_FACTOR, PLATEAU_PATIENCE, add_penalties, learning_rate, make_optimizer
from imgclf.training.plan import TransferPlan, epochs_within, plan_transfer
from imgclf.training.session import Session
from imgclf.training.teacher import taught

# A head on features: cosine from HEAD_RATE over so many steps of HEAD_BATCH (docs/benchmarks.md has the experiment).
HEAD_STEPS, HEAD_EPOCHS, HEAD_PATIENCE, HEAD_RATE, HEAD_BATCH = 3000, (10, 150), 15, 3e-3, 64
HEAD_DEFAULT = Regularization(0.5, 0.5, 0.0)
LEAST_GAIN = 1e-4  # of the validation loss: without it a perfect head goes on being a little surer of itself
DECAYS, DROPOUTS = (0.05, 0.5, 2.0), (0.0, 0.2, 0.5)
SEARCH_STEPS, SEARCH_EPOCHS = 600, (5, 60)
FOLDS, LEAST_A_CLASS = 5, 10  # with fewer validation images a class the training images vote too
FINE_TUNE_PATIENCE, FINE_TUNE_RATE, WARM_UP, FINE_TUNE_AVERAGE = 3, 2e-4, 0.15, 0.98

Base = tuple[Activations, Activations]


def train_transfer(session: Session, row: Backbone, given: TrainConfig) -> None:
    """Both stages; those that a checkpoint has already are not repeated.

    Args:
        session: of the training.
        row: of the table.
        given: the settings as the user gave them; what is left open has values of its own in the head stage.
    """
    cut = cut_layer(row, session.config.unfreeze, session.network.backbone)  # a wrong one is said before any work
    plan = plan_transfer(session.config, row, cut, session.network, session.data.train.count)
    plan = _within(session, plan)
    session.decide(unfreeze=plan.cut.setting, fine_tune_epochs=plan.epochs, views=plan.views)
    base: Base | None = None
    # the top of a run that is continued is its own, what is below it is everybody's and mostly in the store
    continues = session.config.from_run is not None and bool(plan.cut.blocks)
    if plan.views and plan.cut.layer is not None and (plan.epochs or continues):
        base = below_cut(session, plan.cut.layer, plan.views)
    labels: Sequence[Any] = [session.data.one_hot("train")]
    if session.config.teacher is not None:
        labels = taught(session, session.config.teacher, range(max(1, plan.views)))
    if not session.resumed:
        train_head(session, given, plan, base, labels)
    if plan.epochs:
        session.within_memory(lambda: fine_tune(session, row, plan, base, labels))
        if base is not None:  # for the run that will continue this one
            pooled(session, base, plan.cut.layer, 1)


def _within(session: Session, plan: TransferPlan) -> TransferPlan:
    """The plan, cut or stretched to the time budget."""
    layer = plan.cut.layer
    if session.deadline is None or session.resumed or layer is None or not plan.epochs or not plan.views:
        return plan
    data = session.data
    speeds = measure(session, layer)
    found = affordable(session.deadline - time.monotonic(), speeds, data.train.count, data.val.count,
                       data.test_count)  # fmt: skip
    session.note(str(found))
    return replace(plan, epochs=found.epochs, views=found.views)


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
    targets = np.concatenate([network.targets(labels[min(view, len(labels) - 1)]) for view in range(views)])
    examples = Examples(np.concatenate([train.array(view) for view in range(views)]), targets,
                        session.weights(targets))  # fmt: skip
    watched = Examples(val.array(), network.targets(session.data.one_hot("val")))
    batch = given.batch_size or HEAD_BATCH
    steps = -(-len(examples) // batch)
    start = tuple(network.head.get_layer("scores").get_weights())
    shape = HeadRecipe((), config.optimizer, 0.0, batch, config.seed, network.binary, config.loss == "focal",
                       config.l1, config.l2)  # fmt: skip
    best = _regularization(session, given, shape, examples, watched, start)
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
    if not session.config.head_search:
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


def fine_tune(session: Session, row: Backbone, plan: TransferPlan, base: Base | None, labels: Sequence[Any]) -> None:
    """The fine-tuning stage: what is above the cut trains, what is below it stays."""
    config, cut = session.config, plan.cut
    stack = Cached(session, cut.layer, base, labels) if base is not None and cut.layer is not None else Fresh(
        session, cut.layer, cut.setting
    )  # fmt: skip
    session.note(str(plan))
    add_penalties(stack.model, config.l1, config.l2)
    peak = session.peak("fine-tuning", stack.model, stack.epoch(0), config.fine_tune_learning_rate, FINE_TUNE_RATE)
    session.decide(fine_tune_learning_rate=peak, lr=None)
    rate = learning_rate(config.schedule, peak, plan.epochs * stack.steps, WARM_UP)
    scales = layer_scales(row, session.network.backbone, stack.model, config.layer_decay)
    optimizer = make_optimizer(config.optimizer, rate, config.weight_decay or 0.0, scales=scales,
                               accumulate=config.accumulate)  # fmt: skip
    session.compile(stack.model, optimizer)
    before = max((epoch for epoch in session.history if epoch.kept), key=lambda epoch: epoch.epoch)
    plateau = (PLATEAU_PATIENCE, PLATEAU_FACTOR) if config.schedule == "plateau" else None
    patience = config.patience or (2 * PLATEAU_PATIENCE + 1 if plateau else FINE_TUNE_PATIENCE)
    average = FINE_TUNE_AVERAGE if config.weight_average is None else config.weight_average
    stage = Stage("fine-tune", "fine-tuning", plan.epochs, patience, stack.steps, plateau, average)
    remedy = "--views 3 reads each image three times in all" if cut.layer else "--augment none takes less work an image"
    better = session.run(stack.model, stage, stack.epoch, stack.val(), before.val["loss"], remedy)
    if better:
        best = next(epoch for epoch in session.history if epoch.kept)
        session.note(f"fine-tuning: validation accuracy {best.val['accuracy']:.3f} (head alone "
                     f"{before.val['accuracy']:.3f})")  # fmt: skip
    else:
        session.note("fine-tuning did not lower the validation loss: the weights of the head stage were kept")


def layer_scales(row: Backbone, backbone: Any, model: Any, decay: float) -> dict[str, float]:
    """Factors of the learning rate: 1 for the head, `decay` for the top block, its square for the one below, and so on.

    Layer-wise learning-rate decay: Howard and Ruder 2018, arXiv 1801.06146.

    Args:
        row: with the blocks.
        backbone: the whole backbone.
        model: what trains; its variables' paths are the keys.
        decay: 0..1; 1 gives no factors at all.
    """
    if decay == 1:
        return {}
    order = {layer.name: index for index, layer in enumerate(backbone.layers)}
    borders = [order[cut] for cut in row.cuts if cut in order]  # from the top downwards
    scales = {}
    for layer in model.layers:
        if layer.name in order:
            block = 1 + sum(border >= order[layer.name] for border in borders)
            scales.update({variable.path: decay**block for variable in layer.trainable_variables})
    return scales
