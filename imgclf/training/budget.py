"""How much training fits into a time (`--time-budget`), from a few measured seconds. May import TensorFlow, models/."""

import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np

from imgclf.cut.engine import BATCH, build_engine
from imgclf.progress import duration, plural
from imgclf.training.above import pixels
from imgclf.training.session import Session

# Fine-tuning epochs and views of each image, from the least to the most that is worth having.
LADDER = ((1, 1), (1, 2), (2, 2), (3, 2), (4, 3), (5, 3), (6, 3), (8, 4), (10, 5), (12, 6), (16, 8), (24, 10))
HEAD_SECONDS = 20.0  # the head's own epochs, and the search for its regularization
FINISH_SECONDS, TEST_SECONDS = 25.0, 0.04  # saving, converting, the report; and for each test image
MARGIN = 1.1  # measured seconds are taken for so many times as many
MEASURED_BATCHES, MEASURED_STEPS = 4, 5


@dataclass(frozen=True)
class Speeds:
    """Seconds that this computer needs.

    Attributes:
        below: for one reading of an image through what stays frozen, pixels to cut.
        between: from the cut to the pooled features.
        step: for one image in a training step above the cut.
    """

    below: float
    between: float
    step: float


@dataclass(frozen=True)
class Affordable:
    """What fits.

    Attributes:
        epochs: of fine-tuning; 0 for the head alone.
        views: of each training image.
        seconds: how long it should take from now to the end.
        fits: whether that is within what is left.
    """

    epochs: int
    views: int
    seconds: float
    fits: bool

    def __str__(self) -> str:
        what = f"{plural(self.epochs, 'epoch')} of fine-tuning on {plural(self.views, 'view')} of each image"
        planned = what if self.epochs else "the head alone"
        return f"time budget: {planned}, about {duration(self.seconds)}" + ("" if self.fits else ", which is too long")


def affordable(left: float, speeds: Speeds, train: int, val: int, test: int) -> Affordable:
    """The highest step of the ladder that fits into the time that is left.

    Args:
        left: seconds until everything must be done.
        speeds: of this computer.
        train: number of training images.
        val: of validation images.
        test: of test images.
    """
    around = HEAD_SECONDS + FINISH_SECONDS + TEST_SECONDS * test

    def seconds(epochs: int, views: int) -> float:
        readings = train * views + val
        whole = readings * (speeds.below + speeds.between) + epochs * (train * speeds.step + val * speeds.step / 3)
        return around + MARGIN * whole

    steps = [Affordable(0, 1, seconds(0, 1), seconds(0, 1) <= left)]
    steps += [Affordable(*step, seconds(*step), seconds(*step) <= left) for step in LADDER]
    fitting = [step for step in steps if step.fits]
    return fitting[-1] if fitting else steps[0]


def epochs_of_fresh_images(left: float, step: float, train: int, test: int) -> int:
    """How many epochs on freshly varied images fit into the time that is left; one at least.

    Args:
        left: seconds until everything must be done.
        step: seconds of a training step for one image, reading it included.
        train: number of training images.
        test: of test images.
    """
    left -= HEAD_SECONDS + FINISH_SECONDS + TEST_SECONDS * test
    return max(1, min(LADDER[-1][0], int(left / (MARGIN * step * train))))


def measure(session: Session, layer: str) -> Speeds:
    """Time the parts of a training on its first images; every variable is left as it was."""
    source = pixels(session, "train")
    positions = np.arange(min(source.count, BATCH * MEASURED_BATCHES))
    inputs = list(islice(source.batches(0, positions), MEASURED_BATCHES))
    network = session.network
    varied = 0 if session.config.augment == "none" else 1  # the view to time: varying takes time, too
    below = build_engine(network.below(layer), inputs[0][:8])
    activations = list(below.map(inputs))
    begun = time.perf_counter()
    activations = list(below.map(source.batches(varied, positions)))
    below_seconds = (time.perf_counter() - begun) / len(positions)
    between = build_engine(network.between(layer), activations[0][:8])
    list(between.map(activations[:1]))
    begun = time.perf_counter()
    list(between.map(activations))
    between_seconds = (time.perf_counter() - begun) / len(positions)
    return Speeds(below_seconds, between_seconds, _step_seconds(session, layer, np.concatenate(activations)))


def _step_seconds(session: Session, layer: str, activations: Any) -> float:
    model, size = session.network.above(layer), session.config.batch_size or 32
    rows = np.arange(size * MEASURED_STEPS) % len(activations)
    labels = session.network.targets(session.data.one_hot("train"))[rows % len(session.data.labels)]
    before = [variable.numpy() for variable in model.variables]
    session.compile(model, lambda: keras.optimizers.SGD(0.0))
    model.fit(activations[rows[:size]], labels[:size], batch_size=size, verbose=0)  # traces the graph
    begun = time.perf_counter()
    model.fit(activations[rows], labels, batch_size=size, verbose=0, shuffle=False)
    seconds = (time.perf_counter() - begun) / len(rows)
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    return seconds
