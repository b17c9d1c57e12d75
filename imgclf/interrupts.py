"""Ctrl-C that does not break TensorFlow. May import nothing of imgclf."""

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import FrameType

# TensorFlow's C++ calls these small Python functions and does not expect them to fail: where Ctrl-C is raised in
# `TensorShape.__len__`, it takes the -1 for a number of dimensions and writes past the end of its own memory
# (TensorFlow 2.21, `TFE_Py_FastPathExecute` with an attribute that is a list of shapes: every `iter(dataset)`).
CALLED_BACK = ("tensorflow", "python", "framework")
SECONDS = 0.01


@contextmanager
def heeded() -> Iterator[None]:
    """Raise KeyboardInterrupt as Python does, only never within a function that TensorFlow's C++ has called.

    Such a function takes microseconds, so Ctrl-C is asked again a moment later. What handles SIGINT in a way of its own
    is left to it, as is any thread but the main one.
    """
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, _heed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _heed(number: int, frame: FrameType | None) -> None:
    if frame is not None and _is_called_back(frame):
        again = threading.Timer(SECONDS, _thread.interrupt_main)
        again.daemon = True
        again.start()
        return
    signal.default_int_handler(number, frame)


def _is_called_back(frame: FrameType) -> bool:
    parts = PurePath(frame.f_code.co_filename).parts
    return any(parts[at : at + len(CALLED_BACK)] == CALLED_BACK for at in range(len(parts)))
