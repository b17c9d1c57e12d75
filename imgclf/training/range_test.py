"""Which learning rate: a range test (`--lr auto`). May import TensorFlow and Keras.

Smith 2017, arXiv 1506.01186: the rate rises step by step from far too low to far too high; the loss first stays, then
falls, then explodes. Chosen is the rate at which it falls fastest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgclf.progress import step

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 80
SMOOTHING = 0.85  # of the moving average of the loss
SETTLING = 12  # steps in which the average is of too few batches to have a slope
EXPLODED = 3.0  # times the lowest loss so far: there is nothing to be seen any more


@dataclass(frozen=True)
class RangeTest:
    """The curve of a range test.

    Attributes:
        stage: that it was made for.
        rates: of each step.
        losses: moving average after each step.
        chosen: where the loss falls fastest.
    """

    stage: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    chosen: float


def find_rate(model: Any, stage: str, compile_at: Callable[[float], None], data: Any) -> RangeTest:
    """Run a range test; every variable of the model is left as it was.

    Args:
        model: to train.
        stage: its name.
        compile_at: compiles the model with the stage's optimizer at a rate.
        data: batches, as many as there are; they are repeated.

    Returns:
        The curve, with the rate to take.
    """
    before = [variable.numpy() for variable in model.variables]
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    compile_at(float(rates[0]))
    losses: list[float] = []
    average = 0.0
    with step(f"learning rate for {stage}", STEPS, "steps") as bar:
        for number, batch in enumerate(data.repeat().take(STEPS)):
            model.optimizer.learning_rate = float(rates[number])
            model.reset_metrics()
            loss = float(model.train_on_batch(*batch, return_dict=True)["loss"])
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            losses.append(average / (1 - SMOOTHING ** (number + 1)))
            bar.update()
            if not np.isfinite(losses[-1]) or losses[-1] > EXPLODED * min(losses):
                break
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    return RangeTest(stage, tuple(rates[: len(losses)].tolist()), tuple(losses), steepest(rates, losses))


def steepest(rates: Any, losses: list[float]) -> float:
    """The rate at which the loss falls fastest, on the way to its lowest point."""
    finite = [loss for loss in losses if np.isfinite(loss)]
    lowest = int(np.argmin(finite)) + 1
    if lowest < SETTLING + 3:
        return float(rates[0])
    slopes = np.gradient(np.array(finite[SETTLING:lowest]), np.log(rates[SETTLING:lowest]))
    return float(rates[SETTLING + int(np.argmin(slopes))])
