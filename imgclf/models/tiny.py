"""The small network from scratch: demos, tests, and data that nothing pretrained fits. May import Keras."""

from typing import Any

import keras

WIDTHS = (24, 48, 96, 128)  # 164 thousand weights: trains on a CPU in seconds, and still separates shapes and textures


def build_tiny(image_size: tuple[int, int], channels: int = 3) -> Any:
    """Build four stages of 3 x 3 convolution, BatchNorm and ReLU, each at half the resolution of the one before.

    The first stage halves by its stride, which saves three quarters of the arithmetic where the image is largest; the
    others by max pooling.

    Args:
        image_size: (height, width) in pixels, 32 or more each.
        channels: 1 or 3.

    Returns:
        `keras.Model`: float32 `(N, H, W, channels)`, values 0..255, to feature map `(N, H / 16, W / 16, 128)`.
    """
    image = keras.Input((*image_size, channels), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)
    for stage, width in enumerate(WIDTHS, start=1):
        if stage > 1:
            x = keras.layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        x = keras.layers.Conv2D(
            width, 3, strides=2 if stage == 1 else 1, padding="same", use_bias=False,
            kernel_initializer="he_normal", name=f"stage{stage}_conv",
        )(x)  # fmt: skip
        # Keras' momentum of 0.99 needs hundreds of steps to forget its start; small data has tens.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"stage{stage}_bn")(x)
        x = keras.layers.ReLU(name=f"stage{stage}_relu")(x)
    return keras.Model(image, x, name="tiny")
