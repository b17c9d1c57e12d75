"""The backbone of an earlier run, to go on from. May import Keras.

The graph is taken from the run's model as it is, so that whatever made it what it is (a scaling by its own training
images, a truncation, a network of the user's) stays.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from imgclf import runs
from imgclf.errors import InputError
from imgclf.models.copies import copied
from imgclf.models.files import load_keras_model
from imgclf.models.network import POOL, head_features, head_layer


def backbone_of_run(root: Path, image_size: tuple[int, int]) -> tuple[Any, Any]:
    """Take the backbone and the head's weights out of a finished run.

    Args:
        root: the run folder.
        image_size: (height, width) in pixels; another one than the run's is fine where no layer depends on it.

    Returns:
        The backbone, image to feature map or features, and `[kernel (F, C), bias (C,)]` of the head as it was trained:
        without what calibration and a threshold have made of it since.

    Raises:
        InputError: the model is missing, damaged, not one of imgclf's, or cannot take images of that size.
    """
    path = root / runs.MODEL
    model = load_keras_model(path)
    last = head_layer(model)
    if last is None:
        raise InputError(f"{path} does not end in a head of imgclf", "expected the folder of a run (--weights)")
    features = head_features(model)
    before = features._keras_history.operation
    if before.name == POOL:
        features = before.input
    backbone = keras.Model(model.inputs[0], features, name="backbone")
    if tuple(backbone.input_shape[1:3]) != tuple(image_size):
        backbone = _resized(backbone, image_size, path)
    return backbone, _as_trained(root, last.get_weights())


def _as_trained(root: Path, head: list[Any]) -> list[Any]:
    """The head's weights without the temperature and the threshold that calibration.json tells of."""
    facts = runs.read_json(root / runs.CALIBRATION) if (root / runs.CALIBRATION).is_file() else {}
    kernel, bias = head
    if "threshold" in facts:
        bias = bias + np.array([0.0, facts["threshold"]["offset"]], bias.dtype)
    temperature = facts.get("temperature", 1.0)
    return [kernel * temperature, bias * temperature]


def _resized(backbone: Any, image_size: tuple[int, int], path: Path) -> Any:
    image = keras.Input((*image_size, backbone.input_shape[3]), name=backbone.inputs[0].name)
    try:
        return copied(backbone, image=image)
    except ValueError:
        height, width = backbone.input_shape[1:3]
        raise InputError(f"the network of {path} has layers made for images of {height} x {width} pixels",
                         "leave --image-size as it was") from None  # fmt: skip
