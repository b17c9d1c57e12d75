"""Optimizers, learning-rate schedules, losses and penalties by their names. May import Keras."""

from typing import Any

import keras

# SGD's momentum and Nesterov's form as in the ResNet and DenseNet papers; the others as their papers have them.
_OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (keras.optimizers.Adam, {}),
    "adamw": (keras.optimizers.AdamW, {"clipnorm": 1.0}),
    "sgd": (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True, "clipnorm": 1.0}),
    "rmsprop": (keras.optimizers.RMSprop, {}),
    "lion": (keras.optimizers.Lion, {"clipnorm": 1.0}),
}

PLATEAU_PATIENCE, PLATEAU_FACTOR = 3, 0.3  # epochs without a lower validation loss, and what the rate is multiplied by


def make_optimizer(
    name: str, rate: Any, weight_decay: float, *, clip: bool = True, scales: dict[str, float] | None = None,
    accumulate: int = 1,
) -> Any:  # fmt: skip
    """Make an optimizer.

    Args:
        name: "adam" (arXiv 1412.6980), "adamw" (1711.05101), "sgd" (with Nesterov momentum 0.9), "rmsprop" or "lion"
            (2302.06675).
        rate: a learning rate, or what `learning_rate` made.
        weight_decay: decoupled from the gradient, a share of the learning rate; 0 for none.
        clip: whether those that clip the norm of each gradient do.
        scales: path of a variable to the factor of its learning rate; 1 where there is none.
        accumulate: steps whose gradients are averaged before the weights change.
    """
    kind, options = _OPTIMIZERS[name]
    if not clip:
        options = {key: value for key, value in options.items() if key != "clipnorm"}
    if scales:
        kind = _layerwise(kind, scales)
    if accumulate > 1:
        options = {**options, "gradient_accumulation_steps": accumulate}
    return kind(rate, weight_decay=weight_decay, **options)


def _layerwise(kind: Any, scales: dict[str, float]) -> Any:
    """The optimizer with a learning rate of its own for each variable."""

    class Layerwise(kind):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            """As the optimizer has it, at the variable's own rate."""
            # TensorFlow's variable comes here, which knows no path
            path = self._trainable_variables[self._get_variable_index(variable)].path
            super().update_step(gradient, variable, learning_rate * scales.get(path, 1.0))

    return Layerwise


def learning_rate(name: str, peak: float, steps: int, warm_up: float = 0.1) -> Any:
    """A learning rate over the steps of a stage.

    Args:
        name: "constant"; "cosine" (arXiv 1608.03983) after a linear warm-up; "step", a tenth at half and again at three
            quarters of the steps, as ResNet's authors did; "one-cycle" (1708.07120), a third of the way up and the rest
            down; "plateau", constant until the validation loss stops falling (`run_stage` lowers it).
        peak: the highest rate.
        steps: of the whole stage.
        warm_up: share of the steps in which the rate of "cosine" rises.

    Returns:
        A number, or a schedule of Keras.
    """
    schedules = keras.optimizers.schedules
    if name in ("constant", "plateau"):
        return peak
    if name == "step":
        return schedules.PiecewiseConstantDecay([steps // 2, steps * 3 // 4], [peak, peak / 10, peak / 100])
    if name == "one-cycle":
        rising = max(1, round(steps / 3))
        return schedules.CosineDecay(
            peak / 25, max(1, steps - rising), warmup_steps=rising, warmup_target=peak, alpha=1e-4
        )
    if not warm_up:
        return schedules.CosineDecay(peak, steps, alpha=0.01)
    rising = max(1, round(warm_up * steps))
    return schedules.CosineDecay(0.0, max(1, steps - rising), warmup_steps=rising, warmup_target=peak, alpha=0.01)


def make_loss(name: str, *, binary: bool, label_smoothing: float) -> Any:
    """Cross-entropy, or focal loss with gamma 2 (Lin 2017, arXiv 1708.02002), for one sigmoid unit or a softmax."""
    losses = keras.losses
    if name == "focal":
        if binary:
            return losses.BinaryFocalCrossentropy(label_smoothing=label_smoothing)
        # alpha is one number for all classes here, so it would only scale the loss
        return losses.CategoricalFocalCrossentropy(alpha=1.0, label_smoothing=label_smoothing)
    kind = losses.BinaryCrossentropy if binary else losses.CategoricalCrossentropy
    return kind(label_smoothing=label_smoothing)


def add_penalties(model: Any, l1: float, l2: float) -> int:
    """Put an L1 and an L2 penalty on every trainable kernel of a model; returns on how many."""
    if not l1 and not l2:
        return 0
    penalty = keras.regularizers.L1L2(l1, l2)
    kernels = [weight for weight in model.trainable_weights if weight.name.endswith("kernel")]
    for kernel in kernels:
        kernel.regularizer = penalty
    return len(kernels)
