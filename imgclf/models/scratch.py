"""Rows of the table: the networks that are trained from scratch, facts only. Imports no TensorFlow.

Their graphs are the functions of the same names in `cnns.py`. Parameters are counted at the default size, in colour,
without the head. The recipes of the `cnn_` and `dense_` rows are their tutorials', so that their figures come out; the
older networks get the SGD of their papers, the later ones AdamW.
"""

from imgclf.models.row import Backbone, Recipe, Scaling, Variant


def _row(
    name: str, title: str, size: int, smallest: int, parameters: int, recipe: Recipe, *,
    scaling: Scaling = "data", norm: bool = False, cuts: tuple[str, ...] = (), unfreeze: int = 0,
) -> Backbone:  # fmt: skip
    return Backbone(
        name=name, title=title, application="", variants=(Variant(1.0, parameters),), default_size=size,
        min_size=smallest, scaling=scaling, cuts=cuts, default_unfreeze=unfreeze, recipe=recipe, norm=norm,
    )  # fmt: skip


def _tutorial(epochs: int, batch_size: int, optimizer: str = "adam") -> Recipe:
    return Recipe(optimizer, 1e-3, "constant", epochs, None, batch_size, "none", 0.0, 0.0)


_SGD = Recipe("sgd", 0.01, augment="light", dropout=0.0, weight_decay=5e-4)
_ADAMW = Recipe("adamw", 2e-3, augment="light", dropout=0.0, weight_decay=0.02)
# Chosen on the validation parts of MNIST and of 500 CIFAR-10 images a class (docs/benchmarks.md).
_GREY = Recipe("adamw", 8e-3, "one-cycle", None, 330_000, 128, "none", 0.0, 0.02)
_COLOUR = Recipe("adamw", 4e-3, "one-cycle", None, 300_000, 64, "shift", 0.0, 0.05, 0.1)

ROWS: tuple[Backbone, ...] = (
    _row("tiny", "Tiny CNN", 96, 16, 164_264, Recipe(), scaling="tf", norm=True,
         cuts=("stage3_relu", "stage2_relu", "stage1_relu"), unfreeze=3),
    _row("resnet9", "ResNet-9, a quarter wide", 64, 16, 412_784, _COLOUR, norm=True),
    _row("cnn_small", "Small CNN", 64, 16, 24_800, _GREY, norm=True),
    _row("dense_basic", "Dense 128", 28, 16, 301_184, _tutorial(10, 32), scaling="unit"),
    _row("cnn_mnist", "MNIST CNN", 28, 18, 93_248, _tutorial(5, 64), scaling="unit"),
    _row("cnn_mnist_basic", "MNIST CNN, basic", 28, 16, 19_392, _tutorial(5, 64), scaling="unit"),
    _row("cnn_cifar", "CIFAR CNN", 32, 16, 314_432, _tutorial(30, 32), scaling="unit"),
    _row("cnn_cifar_wide", "CIFAR CNN, wide", 32, 18, 220_544, _tutorial(10, 64), scaling="unit"),
    _row("cnn_cifar_bn", "CIFAR CNN with BatchNorm", 32, 16, 2_166_048, _tutorial(10, 64), scaling="unit", norm=True),
    _row("cnn_binary", "Binary CNN", 150, 22, 9_494_048, _tutorial(15, 32, "rmsprop"), scaling="unit"),
    _row("lenet5", "LeNet-5", 28, 16, 61_156, Recipe("adam", 1e-3, augment="none", dropout=0.0, weight_decay=0.0)),
    _row("alexnet", "AlexNet", 227, 67, 58_281_344, _SGD),
    _row("zfnet", "ZFNet", 224, 33, 58_260_608, _SGD),
    _row("vgg11", "VGG-11", 224, 32, 128_766_336, _SGD),
    _row("googlenet", "GoogLeNet (Inception v1)", 224, 16, 5_995_392, _ADAMW, norm=True),
    _row("resnet18", "ResNet-18", 224, 16, 11_186_112, _ADAMW, norm=True),
    _row("resnet34", "ResNet-34", 224, 16, 21_301_696, _ADAMW, norm=True),
    _row("densenet_bc", "DenseNet-BC", 32, 16, 789_720, _ADAMW, norm=True),
    _row("mobilenet_small", "MobileNet, small", 96, 16, 137_152, _ADAMW, norm=True),
)  # fmt: skip
