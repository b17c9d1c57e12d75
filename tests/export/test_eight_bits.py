"""Files of 8 bits: like the float file, or made with more care, or not taken."""

from pathlib import Path

import keras
import numpy as np
import pytest

from imgclf.export import eight_bits
from imgclf.export.eight_bits import Attempt, Judge, Quantizer
from imgclf.models.convert import to_tflite
from imgclf.models.litert import LiteModel
from imgclf.pixels import load_for_model


@pytest.fixture(scope="module")
def float_file(training: tuple[Path, object]) -> bytes:
    return (training[0] / "exports" / "model_float32.tflite").read_bytes()


@pytest.fixture(scope="module")
def pictures(photos: Path) -> np.ndarray:
    return np.stack([load_for_model(file, 32, 32, 3) for name in ("frame", "bar & co")
                     for file in sorted((photos / name).iterdir())])  # fmt: skip


def judged(*drops: float) -> object:
    """A judge that finds these losses, one after the other."""
    left = list(drops)
    return lambda recipe, content: Attempt(recipe, left.pop(0), 0.9)


def test_an_integer_file_takes_pixels_and_answers_as_the_float_one(float_file: bytes, pictures: np.ndarray) -> None:
    quantizer = Quantizer(float_file, pictures[::2], lambda: [])
    expected = LiteModel(float_file).run(pictures)
    for kind, dtype in (("int8", np.uint8), ("dynamic", np.float32)):
        made = quantizer.make(kind, None, 0.0)
        model = LiteModel(made.content)
        assert (model.input_dtype, model.output_dtype) == (dtype, np.float32)
        assert len(made.content) < 0.6 * len(float_file)
        found = model.run(pictures)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.9
        assert np.abs(found - expected).mean() < 0.05
        assert str(made.taken) == "every layer in 8 bits" and len(made.attempts) == 1


def test_weights_that_are_rounded_with_care_cost_less(float_file: bytes, pictures: np.ndarray,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    expected = LiteModel(float_file).run(pictures)
    with_care = LiteModel(Quantizer(float_file, pictures[::2], lambda: []).make("dynamic", None, 0.0).content)
    monkeypatch.setattr(eight_bits, "_rounded", lambda model, seen, kept: model.content)
    plain = LiteModel(Quantizer(float_file, pictures[::2], lambda: []).make("dynamic", None, 0.0).content)
    differences = [float(np.abs(model.run(pictures) - expected).mean()) for model in (with_care, plain)]
    assert differences[0] < differences[1]


def test_what_loses_too_much_is_made_with_more_care(float_file: bytes, pictures: np.ndarray) -> None:
    asked = []

    def more() -> list[np.ndarray]:
        asked.append(True)
        return list(pictures[1::2])

    quantizer = Quantizer(float_file, pictures[::2], more)
    made = quantizer.make("int8", judged(0.05, 0.02, 0.005), 0.01)  # type: ignore[arg-type]
    assert [attempt.drop for attempt in made.attempts] == [0.05, 0.02, 0.005] and asked == [True]
    assert "left in float" in made.taken.recipe and made.taken.drop == 0.005
    assert "0.5 points lost" in str(made.taken)
    whole = quantizer.make("int8", None, 0.01)
    assert len(made.content) > len(whole.content), "what stays float is larger"
    LiteModel(made.content).run(pictures)
    least = quantizer.make("int8", judged(0.5, 0.4, 0.3, 0.2, 0.35), 0.01)  # type: ignore[arg-type]
    assert least.taken.drop == 0.2 and len(least.attempts) == 5


def test_the_judge_counts_right_answers(float_file: bytes, pictures: np.ndarray) -> None:
    labels = LiteModel(float_file).run(pictures).argmax(axis=1)
    found = Judge(float_file, pictures, labels)("the same", float_file)
    assert (found.drop, found.agreement) == (0.0, 1.0) and str(found) == "the same: no loss, same answer on 100.0%"


def test_a_first_operator_that_stays_float_takes_pixels_too() -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, bias_initializer="normal")(image)
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x))
    content = to_tflite(keras.Model(image, x))
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.float32)
    quantizer = Quantizer(content, images, lambda: [])
    first = quantizer.model.operators[0][1]
    kept = LiteModel(eight_bits._int8(quantizer.model, quantizer._observed(False), [first]))
    assert kept.input_dtype == np.uint8
    whole = LiteModel(quantizer.make("int8", None, 0.0).content)
    expected = LiteModel(content).run(images)
    assert np.abs(kept.run(images) - expected).mean() <= np.abs(whole.run(images) - expected).mean() + 0.02
