"""The graphs of the networks that are trained from scratch, one function each. May import Keras.

A function takes the scaled image `(N, H, W, channels)` of any size from the row's smallest on, and gives the
features that the head reads: a feature map `(N, h, w, F)`, which is averaged, or a vector `(N, F)`. The facts
(parameters, sizes, how each is trained) are rows of `scratch.py`; the name of the row is the name of the function.
"""

from collections.abc import Callable
from typing import Any

from keras import layers

SMALL = 64  # pixels; up to this side networks made for 224 px start at full resolution, as their CIFAR versions do

# What Keras' default of 0.99 forgets in hundreds of steps, small data has to forget in tens.
NORM_MOMENTUM = 0.9


def _norm(x: Any) -> Any:
    return layers.BatchNormalization(momentum=NORM_MOMENTUM)(x)


def _conv(
    x: Any, filters: int, size: int = 3, *, strides: int = 1, padding: str = "same", norm: bool = False,
    activation: str | None = "relu", initializer: str = "he_normal",
) -> Any:  # fmt: skip
    """Convolution, BatchNorm where asked for, activation; the bias is left out where BatchNorm brings one."""
    x = layers.Conv2D(
        filters, size, strides=strides, padding=padding, use_bias=not norm, kernel_initializer=initializer
    )(x)
    if norm:
        x = _norm(x)
    return layers.Activation(activation)(x) if activation else x


def _dense(x: Any, units: int, *, norm: bool = False, activation: str = "relu", dropout: float = 0.0) -> Any:
    x = layers.Dense(units, use_bias=not norm)(x)
    if norm:
        x = _norm(x)
    x = layers.Activation(activation)(x)
    return layers.Dropout(dropout)(x) if dropout else x


def _pool(x: Any, size: int = 2, strides: int = 2, padding: str = "valid") -> Any:
    return layers.MaxPooling2D(size, strides, padding)(x)


def _is_small(x: Any) -> bool:
    return int(min(x.shape[1:3])) <= SMALL


def tiny(x: Any, norm: bool) -> Any:
    """Four stages of 3 x 3 convolution, BatchNorm and ReLU, 24 to 128 wide, each at half the resolution of the last.

    For demos, tests, and drawings: 164 thousand weights train on a CPU in seconds and still separate shapes and
    textures. The first stage halves by its stride, which saves three quarters of the arithmetic where the image is
    largest; the others by max pooling.
    """
    for stage, width in enumerate((24, 48, 96, 128), start=1):
        if stage > 1:
            x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        x = layers.Conv2D(width, 3, strides=2 if stage == 1 else 1, padding="same", use_bias=not norm,
                          kernel_initializer="he_normal", name=f"stage{stage}_conv")(x)  # fmt: skip
        if norm:
            x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"stage{stage}_bn")(x)
        x = layers.ReLU(name=f"stage{stage}_relu")(x)
    return x


def cnn_small(x: Any, norm: bool) -> Any:
    """Three blocks of convolution, pooling, BatchNorm and ReLU, 16, 32, 64 wide: digits and letters on a CPU.

    BatchNorm comes after pooling, where it costs a quarter; a step takes no longer than one of `cnn_mnist`.
    """
    for filters, size in ((16, 5), (32, 3), (64, 3)):
        x = _pool(_conv(x, filters, size, norm=False, activation=None))
        x = layers.Activation("relu")(_norm(x) if norm else x)
    return layers.Flatten()(x)


def dense_basic(x: Any, norm: bool) -> Any:
    """Flatten, Dense 128: the first network of TensorFlow's tutorial "Basic classification" (Fashion-MNIST)."""
    return _dense(layers.Flatten()(x), 128, norm=norm)


def cnn_mnist(x: Any, norm: bool) -> Any:
    """Conv 32, 64, 64 with pooling after the first two, Dense 64 (Chollet, "Deep Learning with Python", 5.1)."""
    for filters in (32, 64):
        x = _pool(_conv(x, filters, padding="valid", norm=norm, initializer="glorot_uniform"))
    x = _conv(x, 64, padding="valid", norm=norm, initializer="glorot_uniform")
    return _dense(layers.Flatten()(x), 64, norm=norm)


def cnn_mnist_basic(x: Any, norm: bool) -> Any:
    """Conv 32, 64, each with pooling, and nothing more: the Keras example "Simple MNIST convnet"."""
    for filters in (32, 64):
        x = _pool(_conv(x, filters, padding="valid", norm=norm, initializer="glorot_uniform"))
    return layers.Flatten()(x)


def cnn_cifar(x: Any, norm: bool) -> Any:
    """Conv 32, pool, Conv 64, pool, Dense 128: the usual first network of CIFAR-10 tutorials."""
    for filters in (32, 64):
        x = _pool(_conv(x, filters, padding="valid", norm=norm, initializer="glorot_uniform"))
    return _dense(layers.Flatten()(x), 128, norm=norm)


def cnn_cifar_wide(x: Any, norm: bool) -> Any:
    """Conv 32, 64, 64 with pooling after the first two (TensorFlow's tutorial "CNN"), Dense 128, Dense 256."""
    for filters in (32, 64):
        x = _pool(_conv(x, filters, padding="valid", norm=norm, initializer="glorot_uniform"))
    x = _conv(x, 64, padding="valid", norm=norm, initializer="glorot_uniform")
    return _dense(_dense(layers.Flatten()(x), 128, norm=norm), 256, norm=norm)


def cnn_cifar_bn(x: Any, norm: bool) -> Any:
    """Two blocks of Conv, BatchNorm, Conv, BatchNorm, pool with 32 and 64 filters, then Dense 512 with BatchNorm."""
    for filters in (32, 64):
        for _ in range(2):
            x = _conv(x, filters, initializer="glorot_uniform")
            if norm:  # after the activation, as the tutorials have it
                x = _norm(x)
        x = _pool(x)
    x = _dense(layers.Flatten()(x), 512)
    return _norm(x) if norm else x


def cnn_binary(x: Any, norm: bool) -> Any:
    """Conv 16, 32, 64, each with pooling, Dense 512: horses or humans (Moroney, "AI and ML for Coders", 3)."""
    for filters in (16, 32, 64):
        x = _pool(_conv(x, filters, padding="valid", norm=norm, initializer="glorot_uniform"))
    return _dense(layers.Flatten()(x), 512, norm=norm)


def lenet5(x: Any, norm: bool) -> Any:
    """LeNet-5 (LeCun 1998, "Gradient-based learning applied to document recognition"): 6, 16, 120, 84, tanh.

    The first convolution keeps the size, so that 28 px images need no border; C3 is connected to all maps of S2.
    """
    x = layers.AveragePooling2D(2)(_conv(x, 6, 5, norm=norm, activation="tanh", initializer="glorot_uniform"))
    x = layers.AveragePooling2D(2)(
        _conv(x, 16, 5, padding="valid", norm=norm, activation="tanh", initializer="glorot_uniform")
    )
    x = _dense(layers.Flatten()(x), 120, norm=norm, activation="tanh")
    return _dense(x, 84, norm=norm, activation="tanh")


def _three_and_top(x: Any, norm: bool) -> Any:
    """What AlexNet and ZFNet share: three convolutions, pooling, two wide dense layers with dropout."""
    for filters in (384, 384, 256):
        x = _conv(x, filters, norm=norm)
    x = layers.Flatten()(_pool(x, 3))
    for _ in range(2):
        x = _dense(x, 4096, norm=norm, dropout=0.5)
    return x


def alexnet(x: Any, norm: bool) -> Any:
    """AlexNet (Krizhevsky 2012, "ImageNet classification with deep convolutional neural networks").

    In one tower; the local response normalization is left out, as VGG's authors found it useless (1409.1556, table 3).
    """
    x = _pool(_conv(x, 96, 11, strides=4, padding="valid", norm=norm), 3)
    x = _pool(_conv(x, 256, 5, norm=norm), 3)
    return _three_and_top(x, norm)


def zfnet(x: Any, norm: bool) -> Any:
    """ZFNet (Zeiler 2013, arXiv 1311.2901): AlexNet with a finer first look, 7 x 7 by 2 and 5 x 5 by 2."""
    x = _pool(_conv(x, 96, 7, strides=2, norm=norm), 3, padding="same")
    x = _pool(_conv(x, 256, 5, strides=2, norm=norm), 3, padding="same")
    return _three_and_top(x, norm)


def vgg11(x: Any, norm: bool) -> Any:
    """VGG-11, configuration A (Simonyan 2014, arXiv 1409.1556)."""
    for filters, count in ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)):
        for _ in range(count):
            x = _conv(x, filters, norm=norm)
        x = _pool(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = _dense(x, 4096, norm=norm, dropout=0.5)
    return x


# Filters of each inception module: 1 x 1, 3 x 3 reduce, 3 x 3, 5 x 5 reduce, 5 x 5, after pooling (1409.4842, table 1).
_INCEPTION = {
    "3": ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    "4": (
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    ),
    "5": ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
}  # fmt: skip


def googlenet(x: Any, norm: bool) -> Any:
    """GoogLeNet, Inception v1 (Szegedy 2014, arXiv 1409.4842), without the two auxiliary heads.

    With BatchNorm, which took the place of its local response normalization and made those heads needless
    (arXiv 1502.03167). Images of 64 px or less skip the first two halvings.
    """
    if _is_small(x):
        x = _conv(_conv(x, 64, norm=norm), 192, norm=norm)
    else:
        x = _pool(_conv(x, 64, 7, strides=2, norm=norm), 3, padding="same")
        x = _pool(_conv(_conv(x, 64, 1, norm=norm), 192, norm=norm), 3, padding="same")
    for stage, modules in _INCEPTION.items():
        if stage != "3":
            x = _pool(x, 3, padding="same")
        for one, reduce3, three, reduce5, five, pooled in modules:
            x = layers.Concatenate()([
                _conv(x, one, 1, norm=norm),
                _conv(_conv(x, reduce3, 1, norm=norm), three, norm=norm),
                _conv(_conv(x, reduce5, 1, norm=norm), five, 5, norm=norm),
                _conv(_pool(x, 3, 1, "same"), pooled, 1, norm=norm),
            ])  # fmt: skip
    return x


def _resnet(x: Any, blocks: tuple[int, ...], norm: bool) -> Any:
    size, strides = (3, 1) if _is_small(x) else (7, 2)
    x = _conv(x, 64, size, strides=strides, norm=norm)
    if strides == 2:
        x = _pool(x, 3, padding="same")
    for stage, count in enumerate(blocks):
        filters = 64 << stage
        for block in range(count):
            strides = 2 if stage and not block else 1
            skip = x if strides == 1 else _conv(x, filters, 1, strides=strides, norm=norm, activation=None)
            inner = _conv(_conv(x, filters, strides=strides, norm=norm), filters, norm=norm, activation=None)
            x = layers.Activation("relu")(layers.Add()([inner, skip]))
    return x


def resnet9(x: Any, norm: bool) -> Any:
    """ResNet-9 (Page 2018, "How to train your ResNet", DAWNBench), at a quarter of its width for CPUs.

    16, 32, 64, 128 wide; two residual pairs of convolutions. Images above 64 px are halved once more at the start.
    """
    width = 16
    x = _conv(x, width, strides=1 if _is_small(x) else 2, norm=norm)
    for stage in (1, 2, 3):
        x = _pool(_conv(x, width << stage, norm=norm))
        if stage != 2:
            inner = _conv(_conv(x, width << stage, norm=norm), width << stage, norm=norm)
            x = layers.Add()([x, inner])
    return x


def resnet18(x: Any, norm: bool) -> Any:
    """ResNet-18 (He 2015, arXiv 1512.03385); images of 64 px or less enter by one 3 x 3 convolution, unreduced."""
    return _resnet(x, (2, 2, 2, 2), norm)


def resnet34(x: Any, norm: bool) -> Any:
    """ResNet-34 (He 2015, arXiv 1512.03385); images of 64 px or less enter by one 3 x 3 convolution, unreduced."""
    return _resnet(x, (3, 4, 6, 3), norm)


def densenet_bc(x: Any, norm: bool) -> Any:
    """DenseNet-BC with 100 layers, growth rate 12, compression 0.5 (Huang 2016, arXiv 1608.06993).

    Images above 64 px are first brought down by a strided 7 x 7 convolution and pooling, as its ImageNet version does.
    """
    growth, repeats = 12, 16

    def activated(x: Any) -> Any:
        return layers.Activation("relu")(_norm(x) if norm else x)

    if _is_small(x):
        x = layers.Conv2D(2 * growth, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    else:
        x = _pool(_conv(x, 2 * growth, 7, strides=2, norm=norm), 3, padding="same")
    for block in range(3):
        if block:
            x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False, kernel_initializer="he_normal")(activated(x))
            x = layers.AveragePooling2D(2)(x)
        for _ in range(repeats):
            new = layers.Conv2D(4 * growth, 1, use_bias=False, kernel_initializer="he_normal")(activated(x))
            new = layers.Conv2D(growth, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(
                activated(new)
            )
            x = layers.Concatenate()([x, new])
    return activated(x)


def mobilenet_small(x: Any, norm: bool) -> Any:
    """A MobileNet (Howard 2017, arXiv 1704.04861) for small images: depthwise separable blocks, 32 to 256 wide.

    Images above 64 px are halved twice more.
    """
    strides = (1, 1, 2, 1, 2, 1) if _is_small(x) else (2, 2, 2, 1, 2, 1)
    x = _conv(x, 32, strides=strides[0], norm=norm)
    for filters, stride in zip((64, 128, 128, 256, 256), strides[1:], strict=True):
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=not norm, depthwise_initializer="he_normal")(x)
        x = layers.Activation("relu")(_norm(x) if norm else x)
        x = _conv(x, filters, 1, norm=norm)
    return x


NETWORKS: dict[str, Callable[[Any, bool], Any]] = {
    function.__name__: function
    for function in (
        tiny, cnn_small, dense_basic, cnn_mnist, cnn_mnist_basic, cnn_cifar, cnn_cifar_wide, cnn_cifar_bn, cnn_binary,
        lenet5, alexnet, zfnet, vgg11, googlenet, resnet9, resnet18, resnet34, densenet_bc, mobilenet_small,
    )
}  # fmt: skip
