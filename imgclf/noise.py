"""Keeps the start-up noise of native libraries off the user's screen. May import the standard library only."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hushed(*descriptors: int) -> Iterator[None]:
    """Send what native code writes to file descriptors (1 and 2 by default) to nowhere while the block runs.

    TensorFlow, LiteRT and the converter log to the descriptors themselves, past Python's sys.stdout and sys.stderr.
    Exceptions pass as ever. Not for long work: a crash in the block would be silent.
    """
    kept = []
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors or (1, 2):
        stream = sys.stdout if descriptor == 1 else sys.stderr
        if stream is not None:
            stream.flush()
        try:
            kept.append((os.dup(descriptor), descriptor))
        except OSError:  # a closed descriptor has nothing to hush
            continue
        os.dup2(nowhere, descriptor)
    try:
        yield
    finally:
        for copy, descriptor in kept:
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)


# Keras imports these where they are installed, for its scikit-learn wrappers, its plots and data frames: a third of the
# whole start (9.5 s instead of 6.7 s), and nothing of it is used here.
NOT_FOR_KERAS = ("matplotlib", "pandas", "sklearn")


@contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """Let imports of modules fail, as if they were not installed, unless they are loaded already."""
    absent = [name for name in modules if name not in sys.modules]
    blocked: dict[str, None] = dict.fromkeys(absent)
    sys.modules.update(blocked)  # type: ignore[arg-type]  # None is how Python marks what must not be imported
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def import_tensorflow() -> None:
    """Import TensorFlow and Keras without their banner; later log lines below errors are off too."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "tensorflow" in sys.modules:
        return
    with hushed(), _hidden(*NOT_FOR_KERAS):
        import keras  # noqa: F401
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        tf.config.list_physical_devices()  # looks for a GPU, and complains now rather than later
