import signal
import subprocess
import sys
import textwrap

import pytest

from imgclf.interrupts import heeded

# what TensorFlow's C++ calls is interrupted within: a function that TensorFlow calls its own, made to send the signal
INTERRUPTED = """
    import os, signal, textwrap, traceback
    import tensorflow as tf
    from tensorflow.python.framework import tensor_shape
    from imgclf.interrupts import heeded

    signal.signal(signal.SIGINT, signal.default_int_handler)
    source = '''
    def length(self):
        if sent:
            os.kill(os.getpid(), sent.pop())
        return measured(self)
    '''
    sent = []
    names = {"os": os, "sent": sent, "measured": tensor_shape.TensorShape.__len__}
    exec(compile(textwrap.dedent(source), tensor_shape.__file__, "exec"), names)
    tensor_shape.TensorShape.__len__ = names["length"]
    dataset = tf.data.Dataset.range(3).batch(2)
    try:
        with heeded():
            sent.append(signal.SIGINT)
            for _ in range(10_000):
                iter(dataset)
    except KeyboardInterrupt as stop:
        frames = traceback.extract_tb(stop.__traceback__)
        print("interrupted within TensorShape:", any("tensor_shape" in frame.filename for frame in frames), sent)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.slow
def test_ctrl_c_waits_until_tensorflow_is_not_in_the_middle_of_something() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "interrupted within TensorShape: False []\n"), done.stderr


def test_otherwise_ctrl_c_is_what_it_is_and_the_handler_goes_with_the_block() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert before is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt), heeded():
        assert signal.getsignal(signal.SIGINT) is not before
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_of_the_users_own_stays() -> None:
    caught = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        with heeded():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught == [signal.SIGINT]
