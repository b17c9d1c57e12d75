"""Training from scratch: one stage for everything, from the pixels. May import TensorFlow, models/, data/."""

from imgclf.errors import InputError
from imgclf.models.row import Recipe
from imgclf.progress import plural
from imgclf.training.fit import Stage
from imgclf.training.optimizers import PLATEAU_FACTOR, PLATEAU_PATIENCE, add_penalties, learning_rate, make_optimizer
from imgclf.training.plan import SCRATCH_EPOCHS, SCRATCH_SECONDS, epochs_within
from imgclf.training.session import Above, Session

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
    stack = Above(session, None, "all")
    images = session.data.train
    epochs = config.epochs
    if epochs is None and recipe.images is not None:
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
    rate = learning_rate(config.schedule, config.learning_rate, epochs * images.steps)
    session.compile(stack.model, make_optimizer(config.optimizer, rate, config.weight_decay), min(CHUNK, images.steps))
    stage = Stage("training", "training", epochs, config.patience or PATIENCE, images.steps,
                  plateau=(PLATEAU_PATIENCE, PLATEAU_FACTOR) if config.schedule == "plateau" else None)  # fmt: skip
    if not session.run(stack.model, stage, stack.epoch, stack.val()):
        raise InputError("the training diverged: no epoch has a finite validation loss",
                         f"choose a lower --learning-rate than {config.learning_rate:g}")  # fmt: skip
