import keras
import numpy as np
import tensorflow as tf

from imgclf.report.plots import range_test
from imgclf.training.range_test import find_rate, steepest


def test_the_rate_is_where_the_loss_falls_fastest() -> None:
    rates = np.geomspace(1e-6, 1, 61)
    # flat, then falling around 1e-3, then exploding from 1e-1
    losses = 2 - 1.5 / (1 + np.exp(-4 * (np.log10(rates) + 3))) + np.where(rates > 0.1, 50 * rates, 0)
    assert 3e-4 < steepest(rates, losses.tolist()) < 3e-3
    assert steepest(rates, [*losses[:50].tolist(), float("nan")]) == steepest(rates, losses[:50].tolist())


def test_a_loss_that_only_rises_gives_the_lowest_rate() -> None:
    assert steepest(np.geomspace(1e-6, 1, 10), list(range(10))) == 1e-6


def test_a_range_test_leaves_no_trace_and_finds_a_rate_that_learns() -> None:
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(128, 8)).astype(np.float32)
    y = np.eye(2, dtype=np.float32)[(x[:, 0] > 0).astype(int)]
    model = keras.Sequential([keras.Input((8,)), keras.layers.BatchNormalization(), keras.layers.Dense(2, "softmax")])
    before = [value.numpy() for value in model.variables]
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    test = find_rate(
        model, "head", lambda rate: model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy"), data
    )
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert 1e-4 < test.chosen <= 1.0
    assert len(test.rates) == len(test.losses) and list(test.rates) == sorted(test.rates)
    drawing = range_test(test.rates, test.losses, test.chosen)
    assert drawing.startswith("<?xml") and "learning rate" in drawing
