"""Training from pretrained weights: the head, then the top of the backbone. May import TensorFlow, models/, data/.

BatchNorm of the backbone never moves: `layer.trainable = False` on each such layer, because `base(x, training=False)`
does not hold it in Keras 3 once `fit` runs.
"""

import time
from dataclasses import replace

import numpy as np

from imgclf.config import TrainConfig
from imgclf.errors import InputError
from imgclf.models.build import cut_layer
from imgclf.models.row import Backbone
from imgclf.progress import plural, step
from imgclf.training.features import below, compute
from imgclf.training.fit import Stage
from imgclf.training.optimizers import PLATEAU_FACTOR, PLATEAU_PATIENCE, add_penalties, learning_rate, make_optimizer
from imgclf.training.plan import FINE_TUNE_EPOCHS, FINE_TUNE_SECONDS, FineTunePlan, epochs_within
from imgclf.training.session import Above, ArrayBatches, Session

# Cosine from 1e-3 over 1,500 steps of 64: on the validation part of clothing a cross-entropy of 0.387, against 0.390
# for a constant 1e-3 with early stopping and 0.41 for logistic regression with the best C (docs/benchmarks.md).
HEAD_STEPS, HEAD_EPOCHS, HEAD_PATIENCE, HEAD_RATE, HEAD_BATCH, HEAD_DECAY = 1500, (10, 150), 10, 1e-3, 64, 0.05
FINE_TUNE_PATIENCE, FINE_TUNE_RATE, WARM_UP = 3, 2e-4, 0.15


def train_head(session: Session, given: TrainConfig) -> None:
    """The head stage: features once, then epochs of milliseconds.

    Args:
        session: of the training.
        given: the settings as the user gave them; what is left open has values of its own here.
    """
    config, network, data = session.config, session.network, session.data
    part = below(network.pooled)
    train, val = data.train.count, data.val.count
    augment = session.augment()
    views = 1 if augment is None else config.views
    start = time.perf_counter()
    with step("computing features", train * views + val) as bar:
        features, labels = compute(part, data.once("train"), train, bar)
        val_features, val_labels = compute(part, data.once("val"), val, bar)
        drawn = [
            compute(part, augment(data.once("train"), view), train, bar)
            for view in range(1, views)
            if augment is not None
        ]
    seconds = time.perf_counter() - start
    features = np.concatenate([features, *(view for view, _ in drawn)])
    labels = np.concatenate([labels, *(targets for _, targets in drawn)])
    session.note(f"features: {plural(len(features) + val, 'image')} through the frozen network once, in "
                 f"{part.engine}, {seconds:.0f} s")  # fmt: skip
    rows = ArrayBatches(features, network.targets(labels), given.batch_size or HEAD_BATCH, config.seed)
    epochs = config.epochs or epochs_within(HEAD_STEPS, rows.steps, HEAD_EPOCHS)
    session.decide(epochs=epochs)
    rate = learning_rate(config.schedule, config.learning_rate or HEAD_RATE, epochs * rows.steps, warm_up=0.0)
    decay = HEAD_DECAY if given.weight_decay is None else given.weight_decay
    add_penalties(network.head, config.l1, config.l2)
    session.compile(network.head, make_optimizer(config.optimizer, rate, decay), chunk=16, smooth=False)
    plateau = (PLATEAU_PATIENCE, PLATEAU_FACTOR) if config.schedule == "plateau" else None
    stage = Stage("head", "training the head", epochs, config.patience or HEAD_PATIENCE, rows.steps, plateau)
    if not session.run(network.head, stage, rows.epoch, (val_features, network.targets(val_labels))):
        raise InputError("the training of the head diverged: no epoch has a finite validation loss",
                         "choose a lower --learning-rate")  # fmt: skip
    best = max((row for row in session.history if row.kept), key=lambda row: row.epoch)
    session.note(f"head stage: validation accuracy {best.val['accuracy']:.3f} after {plural(best.epoch, 'epoch')}")


def fine_tune(session: Session, row: Backbone) -> None:
    """The fine-tuning stage: what is above the cut trains on freshly augmented images, what is below runs frozen."""
    if session.config.fine_tune_epochs == 0:
        return
    cut = cut_layer(row, session.config.unfreeze, session.network.backbone)
    stack = Above(session, cut.layer, cut.setting)
    plan = FineTunePlan(cut.blocks, session.config.fine_tune_epochs or 0, None)
    if session.config.fine_tune_epochs is None:
        stack, plan = _affordable(session, row, stack, cut.blocks)
    session.decide(fine_tune_epochs=plan.epochs, unfreeze=stack.setting)
    session.note(str(plan))
    config, images = session.config, session.data.train
    add_penalties(stack.model, config.l1, config.l2)
    rate = learning_rate(
        config.schedule, config.fine_tune_learning_rate or FINE_TUNE_RATE, plan.epochs * images.steps, WARM_UP
    )
    session.compile(stack.model, make_optimizer(config.optimizer, rate, config.weight_decay or 0.0))
    before = max((epoch for epoch in session.history if epoch.kept), key=lambda epoch: epoch.epoch)
    plateau = (PLATEAU_PATIENCE, PLATEAU_FACTOR) if config.schedule == "plateau" else None
    patience = config.patience or (2 * PLATEAU_PATIENCE + 1 if plateau else FINE_TUNE_PATIENCE)
    stage = Stage("fine-tune", "fine-tuning", plan.epochs, patience, images.steps, plateau)
    better = session.run(stack.model, stage, stack.epoch, stack.val(), beat=before.val["loss"])
    if better:
        session.history = [replace(epoch, kept=epoch.kept and epoch.stage != "head") for epoch in session.history]
        best = next(epoch for epoch in session.history if epoch.kept)
        session.note(f"fine-tuning: validation accuracy {best.val['accuracy']:.3f} (head alone "
                     f"{before.val['accuracy']:.3f})")  # fmt: skip
    else:
        session.note("fine-tuning did not lower the validation loss: the weights of the head stage were kept")


def _affordable(session: Session, row: Backbone, stack: Above, blocks: int | None) -> tuple[Above, FineTunePlan]:
    """Choose epochs, and where even the fewest are too long fewer blocks, from measured steps."""

    def plan(candidate: Above, blocks: int | None) -> FineTunePlan:
        epoch_seconds = candidate.seconds_per_image() * session.data.train.count
        epochs = epochs_within(FINE_TUNE_SECONDS, epoch_seconds, FINE_TUNE_EPOCHS)
        return FineTunePlan(blocks, epochs, epochs * epoch_seconds)

    chosen = plan(stack, blocks)
    too_long = (chosen.seconds or 0) > FINE_TUNE_SECONDS
    if session.config.unfreeze == "auto" and too_long and chosen.blocks != 1 and row.cuts:
        cut = cut_layer(row, "1", session.network.backbone)
        smaller = Above(session, cut.layer, cut.setting)
        return smaller, plan(smaller, cut.blocks)
    return stack, chosen
