"""Keras models on disk: saved, read back, compared. May import TensorFlow and Keras."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import runs
from imgclf.errors import CheckFailed, InputError
from imgclf.noise import import_tensorflow

# What the reloaded model may differ by from the one in memory: the same graph, so rounding only.
SAME_PROBABILITY = 1e-5


def save_keras_model(model: Any, path: Path) -> Any:
    """Write a .keras file and prove that it reads back as the same network: `write_keras_model` and `read_back`."""
    write_keras_model(model, path)
    return read_back(model, path)


def write_keras_model(model: Any, path: Path) -> None:
    """Write a .keras file atomically.

    Raises:
        SetupError: the disk is full or not writable.
    """
    with runs.writing(path) as temporary:
        model.save(temporary)


def read_back(model: Any, path: Path) -> Any:
    """Read the file that a model was written to, and prove that it is the same network.

    Returns:
        The model as read back.

    Raises:
        CheckFailed: the file's predictions differ from the model's; nothing is left under `path` then.
    """
    images = np.random.default_rng(0).uniform(0, 255, (4, *model.input_shape[1:])).astype(np.float32)
    expected = np.asarray(model(images, training=False))
    reloaded = load_keras_model(path)
    difference = float(np.abs(np.asarray(reloaded(images, training=False)) - expected).max())
    if not difference <= SAME_PROBABILITY:
        path.unlink()
        raise CheckFailed(f"the saved model differs from the trained one by {difference:.2g}",
                          "this is a bug of imgclf or Keras: please report it with the network's name")  # fmt: skip
    return reloaded


def load_keras_model(path: Path) -> Any:
    """Read a .keras file. Code from the file (Lambda layers, pickles) is never run.

    Raises:
        InputError: not a .keras file, a damaged one, or one that holds code.
    """
    import_tensorflow()
    import keras

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be read as a Keras model ({reason})",
                         "expected a .keras file made by imgclf or Keras 3") from None  # fmt: skip
    model.jit_compile = False  # XLA takes longer to compile than a folder of images takes to predict
    return model
