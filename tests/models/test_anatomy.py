from typing import Any

import keras
import pytest

from imgclf.models import backbones
from imgclf.models.anatomy import anatomy, summed
from imgclf.models.build import build_backbone


def test_a_small_network_by_hand() -> None:
    """cnn_mnist on 28 x 28 grey pixels; multiply-adds are places x kernel."""
    model = build_backbone(backbones.get("cnn_mnist"), None, (28, 28), 1)
    rows = [row for row in anatomy(model) if row.kind in ("Conv2D", "MaxPooling2D", "Dense")]
    assert [(row.shape, row.parameters, row.multiply_adds, row.receptive_field) for row in rows] == [
        ((26, 26, 32), 9 * 32 + 32, 26 * 26 * 9 * 32, 3),
        ((13, 13, 32), 0, 0, 4),
        ((11, 11, 64), 9 * 32 * 64 + 64, 11 * 11 * 9 * 32 * 64, 8),
        ((5, 5, 64), 0, 0, 10),
        ((3, 3, 64), 9 * 64 * 64 + 64, 3 * 3 * 9 * 64 * 64, 18),
        ((64,), 576 * 64 + 64, 576 * 64, float("inf")),
    ]


@pytest.mark.parametrize(("name", "millions"), [("mobilenet_v2", 300), ("vgg16", 15_300), ("resnet18", 1_814)])
def test_multiply_adds_are_the_published_ones(name: str, millions: int) -> None:
    """At 224 px without the top; MobileNetV2's paper says 300 M, VGG-16 has 15.3 G, ResNet-18 1.8 G."""
    rows = anatomy(build_backbone(backbones.get(name), None, (224, 224)))
    assert sum(row.multiply_adds for row in rows) / 1e6 == pytest.approx(millions, rel=0.02)


def test_paths_that_meet_see_as_far_as_the_longest() -> None:
    image = keras.Input((32, 32, 1), name="image")
    long = keras.layers.Conv2D(2, 5, padding="same", name="long")(keras.layers.Conv2D(2, 3, padding="same")(image))
    joined = keras.layers.Add(name="joined")([long, keras.layers.Conv2D(2, 1, name="short")(image)])
    top = keras.layers.Conv2D(1, 3, strides=2, dilation_rate=1, name="top")(joined)
    found = {row.name: row for row in anatomy(keras.Model(image, top))}
    assert found["long"].receptive_field == found["joined"].receptive_field == 7
    assert found["short"].receptive_field == 1 and found["top"].receptive_field == 9
    assert found["joined"].cut and not found["long"].cut


def test_what_is_summed_is_all_of_it() -> None:
    rows = anatomy(build_backbone(backbones.get("mobilenet_v2"), 0.35, (64, 64)))
    short = summed(rows)
    assert len(short) < len(rows) and all(row.cut for row in short)
    for figure in ("parameters", "multiply_adds"):
        assert sum(getattr(row, figure) for row in short) == sum(getattr(row, figure) for row in rows)


def test_a_model_in_a_model_is_opened() -> None:
    def build(input_shape: Any, num_classes: int) -> Any:
        return keras.Sequential([keras.Input(input_shape), keras.layers.Conv2D(4, 3), keras.layers.Flatten()])

    rows = anatomy(build_backbone(backbones.get(build), None, (16, 16), 1))
    assert [row.kind for row in rows if row.multiply_adds] == ["Conv2D"]
    assert next(row for row in rows if row.kind == "Conv2D").receptive_field == 3
