"""Copies of a network with the same weights: for images of another size, in other arithmetic. May import Keras."""

from collections.abc import Callable
from typing import Any

import keras

FULL = "float32"


def copied(model: Any, *, image: Any = None, change: Callable[[Any], Any] | None = None) -> Any:
    """Build a functional network again and give it the same weights.

    Args:
        model: to copy.
        image: the input of the copy, a `keras.Input`; None: like the model's.
        change: a layer to the layer that takes its place.

    Raises:
        ValueError: a layer was made for another size.
    """
    options = {} if change is None else {"clone_function": change}
    copy = keras.models.clone_model(model, input_tensors=image, **options)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        if hasattr(layer, "finalize_state"):  # Normalization computes with copies of its weights
            layer.finalize_state()
    return copy


def in_float32(model: Any) -> Any:
    """The same network with float32 arithmetic, whatever it was trained with."""
    if all(layer.dtype_policy.name == FULL for layer in model.layers):
        return model
    return copied(model, change=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": FULL}))
