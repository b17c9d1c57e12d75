"""A classifier that may also say "unknown", in one ordinary Keras graph. May import Keras.

Only layers and operations of Keras and of LiteRT: the file needs no code of imgclf, neither in Python nor on a phone.
"""

from typing import Any

import keras
import numpy as np

from imgclf.models.network import HEADS, head_features, head_layer

GATE = "gate"  # the layer whose output says how sure it is that the image is known; predict.py looks for it


def with_gate(model: Any, prototypes: Any, cosine: float, energy: float, offset: float) -> Any:
    """Put a gate behind a finished classifier.

    Args:
        model: image to probabilities `(N, C)`, ending in a head of imgclf.
        prototypes: unit vectors `(P, F)`.
        cosine: weight of the cosine of the pooled features and the nearest prototype.
        energy: weight of the energy of the logits, less their mean.
        offset: of the gate's logit.

    Returns:
        Image to `(N, C + 1)`: the probabilities times the gate, and last 1 less the gate.
    """
    head, features = head_layer(model), head_features(model)
    scores = keras.layers.Dense(head.units, dtype="float32", name=HEADS[0])
    logits = scores(features)
    scores.set_weights(head.get_weights())
    probabilities = keras.layers.Softmax(dtype="float32", name=HEADS[1])(logits)

    vectors = keras.layers.UnitNormalization(dtype="float32", name="direction")(features)
    near = keras.layers.Dense(len(prototypes), use_bias=False, dtype="float32", name="prototypes")
    cosines = near(vectors)
    near.set_weights([np.asarray(prototypes, np.float32).T])
    nearest = keras.ops.max(cosines, axis=-1, keepdims=True)
    centred = keras.ops.subtract(logits, keras.ops.mean(logits, axis=-1, keepdims=True))
    free = keras.ops.logsumexp(centred, axis=-1, keepdims=True)
    gate = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name=GATE)
    opened = gate(keras.layers.Concatenate(dtype="float32", name="evidence")([nearest, free]))
    gate.set_weights([np.array([[cosine], [energy]], np.float32), np.array([offset], np.float32)])

    known = keras.layers.Multiply(dtype="float32", name="known")([probabilities, opened])
    strange = keras.layers.Rescaling(-1.0, offset=1.0, dtype="float32", name="strange")(opened)
    output = keras.layers.Concatenate(dtype="float32", name="with_unknown")([known, strange])
    return keras.Model(model.inputs[0], output, name="classifier")
