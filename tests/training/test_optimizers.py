from typing import Any

import keras
import numpy as np
import pytest

from imgclf.config import OPTIMIZERS
from imgclf.training.fit import Stage, compile_for, run_stage
from imgclf.training.optimizers import add_penalties, learning_rate, make_loss, make_optimizer


def at(rate: Any, step: float) -> float:
    return float(keras.ops.convert_to_numpy(rate(step)))


def test_cosine_rises_and_falls() -> None:
    rate = learning_rate("cosine", 0.1, 1000)
    assert at(rate, 0) == 0 and at(rate, 100) == pytest.approx(0.1)
    assert at(rate, 550) == pytest.approx(0.1 * (0.01 + 0.99 * 0.5), rel=0.01) and at(rate, 1000) == pytest.approx(
        0.001
    )


def test_one_cycle_peaks_at_a_third() -> None:
    rate = learning_rate("one-cycle", 0.3, 900)
    assert at(rate, 0) == pytest.approx(0.012) and at(rate, 300) == pytest.approx(0.3)
    assert at(rate, 150) == pytest.approx((0.012 + 0.3) / 2) and at(rate, 900) < 1e-3


def test_step_falls_to_a_tenth_twice() -> None:
    rate = learning_rate("step", 0.1, 100)
    assert [round(at(rate, step), 4) for step in (0, 49, 51, 74, 76, 99)] == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]


@pytest.mark.parametrize("name", OPTIMIZERS[1:])
def test_every_optimizer_walks_downhill(name: str) -> None:
    x = keras.Variable(np.array([3.0, -2.0], np.float32))
    optimizer = make_optimizer(name, 0.05, 0.01)
    optimizer.build([x])
    for _ in range(100):
        optimizer.apply([keras.ops.convert_to_tensor(2 * x.numpy())])
    assert np.abs(x.numpy()).max() < 1.5


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_variables_have_rates_of_their_own_within_fit(name: str, accumulate: int) -> None:
    """Steps of one size whatever the gradient: Adam's first, and SGD's with a gradient of one."""
    inputs = keras.Input((1,))
    low, high = keras.layers.Dense(1, use_bias=False, name="low"), keras.layers.Dense(1, use_bias=False, name="high")
    model = keras.Model(inputs, [low(inputs), high(inputs)])
    before = [float(layer.kernel.numpy()[0, 0]) for layer in (low, high)]
    optimizer = make_optimizer(name, 0.01, 0.0, scales={low.kernel.path: 0.25}, accumulate=accumulate)
    model.compile(optimizer, loss=["mae", "mae"])
    model.fit(np.ones((2, 1)), [np.full((2, 1), 99.0)] * 2, batch_size=2 // accumulate, epochs=1, verbose=0)
    moved = [float(layer.kernel.numpy()[0, 0]) - old for layer, old in zip((low, high), before, strict=True)]
    assert moved[0] > 0 and moved[1] == pytest.approx(4 * moved[0], rel=1e-3)


def small_model() -> Any:
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", use_bias=True)(inputs))


def test_penalties_are_added_to_the_loss_and_leave_no_trace_in_the_file(tmp_path: Any) -> None:
    model = small_model()
    kernel = model.layers[-1].kernel
    kernel.assign([[3.0], [-4.0]])
    assert add_penalties(model, 0.0, 0.0) == 0 and not model.losses
    assert add_penalties(model, 0.1, 0.01) == 1
    assert float(sum(model.losses)) == pytest.approx(0.1 * 7 + 0.01 * 25)
    model.save(tmp_path / "m.keras")
    assert not keras.saving.load_model(tmp_path / "m.keras").losses


@pytest.mark.parametrize("binary", [True, False])
def test_focal_loss_is_the_papers_formula(binary: bool) -> None:
    p = 0.8
    truth, scores = ([[1.0]], [[p]]) if binary else ([[1.0, 0.0]], [[p, 1 - p]])
    found = make_loss("focal", binary=binary, label_smoothing=0.0)(np.array(truth), np.array(scores))
    assert float(found) == pytest.approx(-((1 - p) ** 2) * np.log(p), rel=1e-3)
    entropy = make_loss("cross-entropy", binary=binary, label_smoothing=0.0)(np.array(truth), np.array(scores))
    assert float(entropy) == pytest.approx(-np.log(p), rel=1e-3)


def test_a_plateau_lowers_the_rate() -> None:
    """The validation labels are the opposite: every epoch after the first is worse."""
    import tensorflow as tf

    features = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    labels = (features[:, :1] > 0).astype(np.float32)
    model = small_model()
    model.layers[-1].kernel.assign(np.zeros((2, 1)))
    compile_for(model, keras.optimizers.SGD(1.0), "binary_crossentropy", binary=True)
    data = tf.data.Dataset.from_tensor_slices((features, labels)).batch(64)
    rows = run_stage(model, Stage("training", "x", 8, 20, 1, plateau=(3, 0.1)), lambda _: data, (features, 1 - labels))
    assert [round(row.learning_rate, 4) for row in rows] == [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01]
