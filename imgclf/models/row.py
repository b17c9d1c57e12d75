"""What a row of the table of networks holds. Imports imgclf.errors only.

The rows themselves are in `pretrained.py` and `scratch.py`, the table in `backbones.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from imgclf.errors import InputError

Scaling = Literal["inside", "unit", "tf", "caffe", "torch", "efficientnet", "data"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained from scratch where nobody says otherwise; the settings of the same names override it.

    Attributes:
        optimizer: "adam", "adamw", "sgd", "rmsprop" or "lion".
        learning_rate: the highest.
        schedule: "constant", "cosine", "step", "plateau" or "one-cycle".
        epochs: at most; None: by `images`.
        images: how many are looked at in all epochs together; None: as many as a few minutes allow.
        batch_size: images a step.
        augment: "none", "shift", "light", "medium" or "strong".
        dropout: before the head, 0..0.9.
        weight_decay: of every optimizer, decoupled from the gradient.
        label_smoothing: 0..0.5.
    """

    optimizer: str = "adamw"
    learning_rate: float = 3e-3
    schedule: str = "cosine"
    epochs: int | None = None
    images: int | None = None
    batch_size: int = 32
    augment: str = "light"
    dropout: float = 0.2
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class Variant:
    """One width of a backbone.

    Attributes:
        alpha: width multiplier; 1.0 for a backbone that has one width only.
        parameters: number of weights without the classification top, batch statistics included.
        tag: what stands for {tag} in the name of the weights file.
        file_hash: MD5 or SHA-256 of Keras' weights file; "" where Keras knows none.
        sizes: image sizes, in pixels, that have a weights file of their own; empty: one file serves all sizes.
    """

    alpha: float
    parameters: int
    tag: str = ""
    file_hash: str = ""
    sizes: tuple[int, ...] = ()

    @property
    def weights_mb(self) -> float:
        """Size of the weights file in MB (10^6 bytes): four bytes a weight."""
        return round(self.parameters * 4 / 1e6, 1)


@dataclass(frozen=True, slots=True)
class Backbone:
    """One row of the table.

    Attributes:
        name: what `--backbone` takes.
        title: the name in the literature.
        application: attribute of `keras.applications`; "" for those of `cnns.py`, which have the function `name`.
        variants: the widths, narrow to wide.
        default_size: side of the input image, in pixels, that the weights were trained at.
        min_size: smallest side of the input image, in pixels; any size from there on is allowed.
        scaling: what stands between pixels 0..255 and the first layer. "inside": the application does it itself;
            "unit": 0..1; "tf": -1..1; "data": mean 0 and deviation 1 on the training images; "caffe": BGR minus the
            ImageNet means; "torch": ImageNet's mean and standard deviation; "efficientnet": the application's own,
            which is right only together with a correction (see `build`).
        cuts: names of layers, from the top downwards; unfreezing the top N blocks trains what is above cuts[N - 1].
            Every path from input to output goes through the output of each.
        default_unfreeze: how many blocks `--unfreeze auto` trains.
        licence: SPDX identifier of the pretrained weights; "" where there are none.
        source: who trained them.
        url: where Keras downloads them, with {tag} and {size}; "" where there are none.
        recipe: how it is trained without pretrained weights.
        norm: whether its layout has BatchNorm (`--batch-norm` and `--no-batch-norm` change that for `cnns.py` only).
        builder: a function of the user's own, `(input_shape, num_classes)` to a Keras model, in the place of both; or
            its import path, which is looked up when it is built.
        cache_name: the name they are kept under in KERAS_HOME/models, with {tag} and {size}; "": the URL's last part.
    """

    name: str
    title: str
    application: str
    variants: tuple[Variant, ...]
    default_size: int
    min_size: int
    scaling: Scaling
    cuts: tuple[str, ...]
    default_unfreeze: int
    licence: str = ""
    source: str = ""
    url: str = ""
    cache_name: str = ""
    recipe: Recipe = Recipe()
    norm: bool = True
    builder: Callable[..., Any] | str | None = None

    @property
    def alphas(self) -> tuple[float, ...]:
        """The widths on offer."""
        return tuple(variant.alpha for variant in self.variants)

    @property
    def has_weights(self) -> bool:
        """Whether pretrained weights exist."""
        return bool(self.url)

    def variant(self, alpha: float | None = None) -> Variant:
        """The variant of that width; None is the default, 1.0.

        Raises:
            InputError: the backbone has no such width.
        """
        wanted = 1.0 if alpha is None else alpha
        for variant in self.variants:
            if math.isclose(variant.alpha, wanted):
                return variant
        allowed = " ".join(f"{known:g}" for known in self.alphas)
        raise InputError(f"{self.name} has no alpha {wanted:g}", f"expected one of: {allowed} (--alpha)")

    def weights_url(self, variant: Variant, size: int) -> str:
        """URL of the weights file for square images of `size` pixels."""
        return self.url.format(tag=variant.tag, size=size)

    def weights_name(self, variant: Variant, size: int) -> str:
        """Name of that file in KERAS_HOME/models."""
        return (self.cache_name or self.url.rsplit("/", 1)[-1]).format(tag=variant.tag, size=size)
