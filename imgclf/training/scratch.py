"""Training from scratch: one stage for everything, from the pixels. May import TensorFlow, models/, data/."""

import time

from imgclf.errors import InputError
from imgclf.models.row import Recipe
from imgclf.progress import plural
from imgclf.training.above import Fresh
from imgclf.training.budget import FINISH_SECONDS, MARGIN, TEST_SECONDS
from imgclf.training.fit import Stage
from imgclf.training.optimizers import PLATEAU_FACTOR, PLATEAU_PATIENCE, add_penalties, learning_rate, make_optimizer
from imgclf.training.plan import SCRATCH_EPOCHS, SCRATCH_SECONDS, epochs_within
from imgclf.training.session import Session

PATIENCE = 15
RECIPE_EPOCHS = (5, 60)  # never fewer, never more, where the recipe gives a number of images
# Steps that run as one graph: handing over to Python between steps costs more than a step of a small network.
CHUNK = 16


def train_from_scratch(session: Session, recipe: Recipe) -> None:
    """Train the whole network at once: BatchNorm in training mode, fresh augmentation every epoch."""
    config, network = session.config, session.network
    assert config.learning_rate is not None
    assert config.weight_decay is not None
    penalized = add_penalties(network.model, config.l1, config.l2)
    if penalized:
        session.note(f"penalties l1 {config.l1:g} and l2 {config.l2:g} on {plural(penalized, 'kernel')}")
    stack = Fresh(session, None, "all")
    images = session.data.train
    epochs = config.epochs
    if epochs is None and session.deadline is not None:
        left = session.deadline - time.monotonic() - FINISH_SECONDS - TEST_SECONDS * session.data.test_count
        epochs = epochs_within(left, MARGIN * stack.seconds_per_image() * images.count, (1, 1000))
        session.note(f"time budget: {plural(epochs, 'epoch')}")
    elif epochs is None and recipe.images is not None:
        low, high = RECIPE_EPOCHS
        epochs = max(low, min(high, round(recipe.images / images.count)))
    elif epochs is None:
        epochs = epochs_within(SCRATCH_SECONDS, stack.seconds_per_image() * images.count, SCRATCH_EPOCHS)
    session.decide(epochs=epochs, fine_tune_epochs=0)
    session.note(
        f"training the whole network from scratch, up to {plural(epochs, 'epoch')}: {config.optimizer}, "
        f"{config.schedule} learning rate {config.learning_rate:g}, batches of {images.batch_size}, "
        f"augmentation {config.augment}"
    )
    given = config.learning_rate if session.lr_given else None
    peak = session.peak("training", stack.model, stack.epoch(0), given, config.learning_rate)
    session.decide(learning_rate=peak, lr=None)
    rate = learning_rate(config.schedule, peak, epochs * images.steps)
    chunk = 1 if config.weight_average else min(CHUNK, images.steps)  # an average takes every step in
    session.compile(stack.model, lambda: make_optimizer(
        config.optimizer, rate, config.weight_decay or 0.0, accumulate=config.accumulate,
    ), chunk)  # fmt: skip
    stage = Stage("training", "training", epochs, config.patience or PATIENCE, images.steps,
                  (PLATEAU_PATIENCE, PLATEAU_FACTOR) if config.schedule == "plateau" else None,
                  config.weight_average or 0.0)  # fmt: skip
    remedy = "--augment none or a smaller --image-size takes less work an image"
    if not session.run(stack.model, stage, stack.epoch, stack.val(), remedy=remedy):
        raise InputError("the training diverged: no epoch has a finite validation loss",
                         f"choose a lower --learning-rate than {config.learning_rate:g}")  # fmt: skip
