"""The engines under a frozen network: LiteRT where it does the same as Keras, Keras otherwise."""

import threading
import time
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from imgclf.cut import engine as module
from imgclf.cut.engine import KERAS, LITERT, Engine, build_engine


@pytest.fixture(scope="module")
def model() -> Any:
    """What backbones are made of: convolutions, whole and depthwise, BatchNorm and a way around."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="image")
    stem = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6")(layers.Rescaling(1 / 127.5, -1)(image))
    normal = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(stem))
    joined = layers.Add()([stem, layers.Conv2D(8, 1)(layers.ReLU(6.0)(normal))])
    return keras.Model(image, layers.Conv2D(16, 3, strides=2, activation="swish")(joined))


@pytest.fixture(scope="module")
def lite(model: Any) -> Engine:
    return build_engine(model, images(8), LITERT)


def images(count: int) -> Any:
    return np.random.default_rng(1).uniform(0, 255, (count, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def converted(model: Any) -> bytes:
    return module.to_tflite(model)


def test_litert_is_compared_with_keras_before_it_is_used(
    model: Any, converted: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "to_tflite", lambda network: converted)
    run = module.LiteModel.run
    assert build_engine(model, images(4)).name in (LITERT, KERAS)
    assert build_engine(model, images(4), LITERT).name == LITERT
    for wrong in (lambda found: np.full_like(found, np.nan), lambda found: found * 1.01, lambda found: found + 1):
        monkeypatch.setattr(module.LiteModel, "run", lambda self, batch, wrong=wrong: wrong(run(self, batch)))
        assert build_engine(model, images(4)).name == KERAS
        assert build_engine(model, images(4), LITERT).name == KERAS  # also where it was right before
        assert "LiteRT computes other activations than Keras" in capfd.readouterr().err


def test_what_litert_cannot_convert_keras_computes(
    model: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(model: Any) -> bytes:
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr(module, "to_tflite", fail)
    found = build_engine(model, images(4))
    assert found.name == KERAS
    assert "(no such operator)" in capfd.readouterr().err
    expected = np.asarray(model(images(21), training=False))
    np.testing.assert_allclose(found(images(21)), expected, atol=1e-4 * np.abs(expected).max())


def test_the_engine_of_the_first_time_does_it_again(model: Any, lite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lite.name == LITERT
    monkeypatch.setattr(module, "to_tflite", lambda model: pytest.fail("converted"))
    assert build_engine(model, images(4), KERAS).name == KERAS


@pytest.mark.parametrize("keras_seconds, name", [(1.0, LITERT), (0.6, LITERT), (0.1, KERAS)])
def test_keras_must_be_clearly_faster(
    keras_seconds: float, name: str, model: Any, converted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteRT takes 1 s a batch in each of its workers."""
    width: list[int] = []

    def seconds(work: Any) -> float:
        if not width:  # LiteRT is timed first
            width.append(min(module.os.cpu_count() or 1, module.WORKERS))
            return 1.0
        return keras_seconds / width[0]

    monkeypatch.setattr(module, "to_tflite", lambda network: converted)
    monkeypatch.setattr(module, "_seconds", seconds)
    monkeypatch.setattr(module.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(module, "CLEARLY_FASTER", 2.0)
    assert build_engine(model, images(4)).name == name


def test_a_gpu_keeps_the_network(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(module, "to_tflite", lambda model: pytest.fail("converted"))
    assert build_engine(model, images(4)).name == KERAS


def test_both_engines_give_keras_own_activations(model: Any, lite: Engine) -> None:
    expected = np.asarray(model(images(21), training=False))
    for found in (lite, build_engine(model, images(4), KERAS)):
        np.testing.assert_allclose(found(images(21)), expected, atol=1e-3 * np.abs(expected).max())


def test_no_result_depends_on_the_batch_it_came_in(lite: Engine) -> None:
    pixels = images(23)
    alone = np.concatenate([lite(pixels[at : at + 1]) for at in range(23)])
    for size in (2, 3, 5, 16, 23):
        together = np.concatenate(list(lite.map(pixels[at : at + size] for at in range(0, 23, size))))
        np.testing.assert_array_equal(together, alone, err_msg=f"batches of {size}")
    np.testing.assert_array_equal(lite(pixels[::-1])[::-1], alone)


def test_keras_pads_so_that_no_batch_is_smaller(model: Any) -> None:
    keras_engine, pixels = build_engine(model, images(4), KERAS), images(19)
    whole = keras_engine(pixels)
    np.testing.assert_allclose(keras_engine(pixels[16:]), whole[16:], atol=1e-4)
    assert keras_engine(pixels[:1]).shape[0] == 1


def test_map_keeps_the_order_of_workers_that_overtake_each_other() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def runner(batch: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02 if batch[0] % 3 == 0 else 0.001)  # every third is slow
        with lock:
            running -= 1
        return batch * 10

    engine = Engine("x", [runner] * 3)
    found = list(engine.map(np.array([number], np.float32) for number in range(20)))
    assert np.concatenate(found).tolist() == [number * 10 for number in range(20)]
    assert 1 < most <= 3


@pytest.mark.parametrize("width", [1, 3])
def test_an_error_passes(width: int) -> None:
    def runner(batch: Any) -> Any:
        if batch[0] == 5:
            raise ValueError("five")
        return batch

    engine, seen = Engine("x", [runner] * width), []
    with pytest.raises(ValueError, match="five"):
        for found in engine.map(np.array([number], np.float32) for number in range(9)):
            seen.append(int(found[0]))
    assert seen == [0, 1, 2, 3, 4]
    assert list(engine.map([np.array([1.0], np.float32)])) == [1.0], "and the workers are free again"

    def broken() -> Any:
        yield np.array([1.0], np.float32)
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        list(engine.map(broken()))


def test_a_mapped_dataset_gives_the_same(lite: Engine) -> None:
    pixels = images(10)
    expected = lite(pixels)
    dataset = tf.data.Dataset.from_tensor_slices((pixels, np.arange(10))).batch(4)
    parts = list(lite.map_dataset(dataset, expected.shape[1:]))
    np.testing.assert_array_equal(np.concatenate([x.numpy() for x, _ in parts]), expected)
    assert np.concatenate([y.numpy() for _, y in parts]).tolist() == list(range(10))
