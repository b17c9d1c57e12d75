"""A Keras network as a .tflite file. May import TensorFlow and Keras."""

from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from imgclf.noise import hushed


def to_tflite(model: Any, *, float16: bool = False) -> bytes:
    """Convert a functional model with one image input to a float .tflite file with a free batch size.

    The graph is traced and frozen first. `TFLiteConverter.from_keras_model` writes and reads a SavedModel twice on the
    way: the same file in 11 s instead of 3 s for MobileNetV2. An unfrozen function must not be given to the converter:
    it came out with variables left in, 30 times slower, and with NaN for every output.

    Args:
        model: `keras.Model`; input float32 `(N, H, W, channels)`.
        float16: store the weights as float16; the file is half as large, the arithmetic stays float32.

    Returns:
        The bytes of the file. Only built-in TFLite operators are allowed: whatever else a graph needs is an error of
        the converter that names it.
    """
    return freeze(model).convert(float16=float16)


class FrozenGraph:
    """A network with its weights as constants, ready to be converted more than once."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def convert(self, *, float16: bool = False) -> bytes:
        """The bytes of a .tflite file, as `to_tflite` describes them."""
        with hushed():  # a frozen function has no trackable object to give; the converter warns of that
            converter = tf.lite.TFLiteConverter.from_concrete_functions([self.function])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if float16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        with hushed():
            content: bytes = converter.convert()
        return content


def freeze(model: Any) -> FrozenGraph:
    """Trace a functional model in inference mode and turn its variables into constants."""
    height, width, channels = model.input_shape[1:]
    spec = tf.TensorSpec((None, height, width, channels), tf.float32, name="image")
    function = tf.function(lambda image: model(image, training=False), input_signature=[spec], autograph=False)
    with hushed():
        return FrozenGraph(convert_variables_to_constants_v2(function.get_concrete_function()))
