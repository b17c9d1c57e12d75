import numpy as np
import pytest
import tensorflow as tf

from imgclf.training.waiting import Waiting, waited


@pytest.mark.parametrize(
    ("asked", "ready", "end", "share"),
    [
        ([0, 10, 20, 30], [5, 19, 29, 39], 40, 0.9),  # the pipeline takes 9 of every 10 seconds
        ([0, 10, 20, 30], [1, 2, 3, 4], 40, 0.0),  # it is always ahead
        ([0, 10, 20], [5, 15, 18], 30, 0.25),
        ([0], [5], 6, 0.0),  # the first batch fills the pipeline
        ([], [], 1, 0.0),
        ([0, 10], [5, 90], 20, 1.0),
    ],
)
def test_time_between_asking_and_having_is_waiting(
    asked: list[float], ready: list[float], end: float, share: float
) -> None:
    assert waited(asked, ready, end) == pytest.approx(share)


def test_every_batch_is_noted_and_none_is_changed() -> None:
    x, y = np.arange(20, dtype=np.float32).reshape(10, 2), np.eye(10, dtype=np.float32)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    waiting = Waiting()
    watched = waiting.watch(data)
    assert watched.element_spec == data.element_spec
    found = list(watched)
    np.testing.assert_array_equal(np.concatenate([a.numpy() for a, _ in found]), x)
    np.testing.assert_array_equal(np.concatenate([b.numpy() for _, b in found]), y)
    assert len(waiting._ready) == 4 and waiting._ready == sorted(waiting._ready)
    assert waiting.share(end=waiting._ready[-1]) == 0.0  # nobody has asked
