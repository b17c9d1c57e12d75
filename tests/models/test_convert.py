import keras
import numpy as np
import pytest

from imgclf.errors import InputError
from imgclf.models import backbones
from imgclf.models.build import build_backbone
from imgclf.models.convert import freeze
from imgclf.models.litert import LiteModel


def test_any_batch_size_gives_the_same_rows() -> None:
    backbone = build_backbone(backbones.get("tiny"), None, (32, 32))
    lite = LiteModel(freeze(backbone).convert())
    images = np.random.default_rng(0).uniform(0, 255, (9, 32, 32, 3)).astype(np.float32)
    one_by_one = np.concatenate([lite.run(images[at : at + 1]) for at in range(9)])
    np.testing.assert_allclose(lite.run(images), one_by_one, atol=1e-5)
    np.testing.assert_allclose(lite.run(images[:4]), one_by_one[:4], atol=1e-5)


def test_what_is_no_image_network_is_refused() -> None:
    numbers = keras.Input((7,))
    import tensorflow as tf

    model = keras.Model(numbers, keras.layers.Dense(3)(numbers))
    function = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec((1, 7), tf.float32)])
    from imgclf.models.convert import FrozenGraph, convert_variables_to_constants_v2

    content = FrozenGraph(convert_variables_to_constants_v2(function.get_concrete_function())).convert()
    with pytest.raises(InputError, match="not an image network"):
        LiteModel(content)


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\0" * 4096])
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"not a \.tflite model"):
        LiteModel(content)
