"""A moving average of what a model learns, measured and kept in its place. May import TensorFlow."""

from typing import Any

import tensorflow as tf


class Average:
    """A moving average of the trainable weights (Polyak and Juditsky 1992); quick to follow in the first steps."""

    def __init__(self, model: Any, momentum: float) -> None:
        self.weights = [variable.value for variable in model.trainable_variables] if momentum else []
        self.values = [tf.Variable(weight) for weight in self.weights]
        self.momentum = momentum
        self._follow = tf.function(self._graph)

    def follow(self, steps_done: int) -> None:
        """Take a step's weights in."""
        if self.weights:
            momentum = min(self.momentum, (1 + steps_done) / (10 + steps_done))
            self._follow(tf.constant(1 - momentum, tf.float32))

    def _graph(self, share: Any) -> None:
        for value, weight in zip(self.values, self.weights, strict=True):
            value.assign_add(share * (weight - value))

    def swap(self) -> None:
        """Exchange the model's weights and their average."""
        for value, weight in zip(self.values, self.weights, strict=True):
            kept = tf.identity(weight)
            weight.assign(value)
            value.assign(kept)
