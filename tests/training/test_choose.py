from dataclasses import replace
from pathlib import Path

import pytest

from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.training.choose import choose


def images(*shapes: tuple[int, int], grey: bool = False) -> ImageSet:
    files = tuple(
        ImageFile(
            Path(f"{number}.png"), "ab"[number % 2], "train", str(number), "PNG", width, height, "fine", grey=grey
        )
        for number, (width, height) in enumerate(shapes)
    )
    return ImageSet(Path("x"), ("a", "b"), files)


DIGITS, PHOTOS = images(*[(28, 28)] * 4, grey=True), images((4000, 3000), (3000, 4000), (640, 480))


@pytest.mark.parametrize(
    ("found", "settings", "expected"),
    [
        (DIGITS, {}, ("cnn_small", 28, "grayscale", False)),
        (images(*[(48, 48)] * 4, grey=True), {}, ("cnn_small", 48, "grayscale", False)),  # not shrunk to 28
        (images(*[(32, 32)] * 4), {}, ("resnet9", 32, "rgb", True)),
        (PHOTOS, {}, ("mobilenet_v2", 224, "rgb", True)),
        (images(*[(640, 480)] * 4, grey=True), {}, ("mobilenet_v2", 224, "grayscale", True)),  # X-rays may be mirrored
        (DIGITS, {"backbone": "mobilenet_v2"}, ("mobilenet_v2", 224, "grayscale", False)),
        (DIGITS, {"backbone": "resnet18", "color": "rgb", "flip": True}, ("resnet18", 28, "rgb", True)),
        (DIGITS, {"backbone": "vgg11"}, ("vgg11", 32, "grayscale", False)),  # its smallest
        (PHOTOS, {"backbone": "cnn_binary"}, ("cnn_binary", 150, "rgb", True)),
        (PHOTOS, {"backbone": "mobilenet_v2", "weights": "none"}, ("mobilenet_v2", 224, "rgb", True)),
        (images((100, 120), (110, 130), (90, 95)), {"backbone": "resnet18"}, ("resnet18", 96, "rgb", True)),
        (images((40, 50), (45, 41), (39, 64)), {}, ("resnet9", 32, "rgb", True)),
        (DIGITS, {"image_size": 64}, ("cnn_small", 64, "grayscale", False)),
    ],
)
def test_the_images_decide_what_is_left_open(found: ImageSet, settings: dict[str, object], expected: object) -> None:
    config, _ = choose(found, TrainConfig().replace(**settings))
    assert (config.backbone, config.image_size, config.color, config.flip) == expected


def test_one_coloured_image_makes_a_colour_model() -> None:
    first, *rest = DIGITS.images
    config, _ = choose(DIGITS.with_images([replace(first, grey=False), *rest]), TrainConfig())
    assert config.color == "rgb"


def test_what_might_surprise_is_said() -> None:
    _, notes = choose(DIGITS, TrainConfig())
    text = "\n".join(notes)
    assert "28 x 28" in text and "cnn_small" in text and "one channel" in text and "not mirrored" in text
    assert choose(PHOTOS, TrainConfig())[1] == ()
