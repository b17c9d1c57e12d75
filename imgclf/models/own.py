"""A network of the user's own: found by its name, checked, and made one of ours. May import Keras when it builds.

`build(input_shape, num_classes)` returns a Keras model: either features `(N, F)` or a feature map `(N, h, w, F)`, or a
whole classifier, whose last Dense layer and softmax are then replaced by the head of imgclf.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imgclf.errors import InputError

EXPECTED = "expected a function build(input_shape, num_classes) that returns a Keras model"


def find_builder(path: str) -> Callable[..., Any]:
    """Import the function that `package.module:function` names, also from the working directory.

    Raises:
        InputError: no such module or function, or the module cannot be imported.
    """
    module, _, name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module of the user's fails in whatever it does
        raise InputError(f"--backbone {path} cannot be imported ({type(error).__name__}: {error})", EXPECTED) from None
    if not callable(found):
        raise InputError(f"--backbone {path} is no function", EXPECTED)
    builder: Callable[..., Any] = found
    return builder


def own_network(builder: Callable[..., Any], image: Any, classes: int) -> Any:
    """Call a user's builder and bring what it returns into the form of our backbones.

    Args:
        builder: `build(input_shape, num_classes)`.
        image: the input tensor, `(N, H, W, channels)`, values 0..255. A network without a Rescaling or Normalization
            layer gets 0..1 instead.
        classes: how many there will be.

    Raises:
        InputError: it returns no Keras model, or one that does not take these images, gives no features, or holds
            layers that cannot be read back safely.
    """
    import keras

    name = getattr(builder, "__qualname__", "build")
    shape = tuple(image.shape[1:])
    try:
        model = builder(shape, classes)
    except Exception as error:
        raise InputError(f"{name}({shape}, {classes}) failed ({type(error).__name__}: {error})", EXPECTED) from error
    if not isinstance(model, keras.Model):
        raise InputError(f"{name} returned {type(model).__name__}", EXPECTED)
    if not model.built or not getattr(model, "inputs", None) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"{name} returned a model without one known input and one output",
                         "build it with keras.Input or the functional API")  # fmt: skip
    if tuple(model.inputs[0].shape[1:]) != shape:
        raise InputError(f"{name} returned a model for images of shape {tuple(model.inputs[0].shape[1:])}",
                         f"expected {shape}, the input_shape that it was given")  # fmt: skip
    layers = list(model._flatten_layers(include_self=False))
    foreign = [layer for layer in layers if isinstance(layer, keras.layers.Lambda) or not _is_keras(layer)]
    if foreign:
        raise InputError(f"{name} uses {type(foreign[0]).__name__} ({foreign[0].name}), which no saved model can hold "
                         "safely", "build it from Keras' own layers and keras.ops only")  # fmt: skip
    output = _without_top(model, classes)
    if len(output.shape) not in (2, 4) or None in output.shape[1:]:
        raise InputError(f"{name} returned a model with outputs of shape {tuple(output.shape)}",
                         "expected features (N, F), a feature map (N, h, w, F) or (N, num_classes)")  # fmt: skip
    scaled = any(isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)) for layer in layers)
    inner = keras.Model(model.inputs[0], output, name="own_network")
    try:
        stored = keras.saving.serialize_keras_object(inner)
        keras.saving.deserialize_keras_object(stored, safe_mode=True)
    except Exception as error:  # Keras says in many ways that it does not know an activation or an initializer
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} uses something that no saved model can hold safely ({reason})",
                         "build it from Keras' own layers, activations and initializers") from None  # fmt: skip
    x = image if scaled else keras.layers.Rescaling(1 / 255, name="scale")(image)
    # the last layer is one of this graph, not of the network within, so that it can be cut at
    return keras.Model(image, keras.layers.Identity(name="own_features")(inner(x)), name="own")


def _is_keras(layer: Any) -> bool:
    return type(layer).__module__.split(".")[0] == "keras"


def _without_top(model: Any, classes: int) -> Any:
    """The output of a feature extractor, or what the last Dense layer of a classifier reads."""
    import keras

    output = model.outputs[0]
    if len(output.shape) != 2 or output.shape[-1] not in (classes, 1):
        return output
    last = output._keras_history.operation
    while isinstance(last, (keras.layers.Softmax, keras.layers.Activation)):
        output = last.input
        last = output._keras_history.operation
    return last.input if isinstance(last, keras.layers.Dense) and last.units == output.shape[-1] else output
