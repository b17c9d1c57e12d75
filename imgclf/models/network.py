"""A backbone with a head, cut where training wants it: one graph, shared weights. May import Keras."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from imgclf.errors import InputError
from imgclf.models.copies import copied

POOL = "pool"  # the layer at whose output the head stage cuts
HEADS = ("scores", "probabilities")  # the dense layer: of a multi-class model, of a binary one that is finished


@dataclass(frozen=True)
class Network:
    """A backbone, average pooling where it gives a map, and a head, as one flat functional graph.

    The models that the methods give share their layers with it: what is trained in one is trained in all.

    Attributes:
        backbone: image `(N, H, W, channels)`, values 0..255, to feature map `(N, h, w, F)` or features `(N, F)`.
        features: the tensor `(N, F)` that the head reads.
        head: pooled features `(N, F)` to what is trained: `(N, C)` softmax, or `(N, 1)` sigmoid when binary.
        model: image to what is trained.
        classes: class names, in the order of the outputs.
        binary: one sigmoid unit is trained, for the second of two classes.
    """

    backbone: Any
    features: Any
    head: Any
    model: Any
    classes: tuple[str, ...]
    binary: bool

    @property
    def pooled(self) -> Any:
        """Image to pooled features `(N, F)`."""
        return keras.Model(self.model.inputs[0], self.features, name="pooled")

    def below(self, layer: str) -> Any:
        """Image to the output of a layer of the backbone."""
        return keras.Model(self.model.inputs[0], self.backbone.get_layer(layer).output, name="below")

    def between(self, layer: str) -> Any:
        """The output of a layer of the backbone to pooled features `(N, F)`."""
        return keras.Model(self.backbone.get_layer(layer).output, self.features, name="between")

    def above(self, layer: str) -> Any:
        """The output of a layer of the backbone to what is trained."""
        return keras.Model(self.backbone.get_layer(layer).output, self.model.output, name="above")

    def at_size(self, size: tuple[int, int]) -> "Network":
        """A copy for images of another size, with the same weights; what is frozen stays so.

        Raises:
            InputError: a layer was made for the size it has.
        """
        image = keras.Input((*size, self.backbone.inputs[0].shape[-1]))
        try:
            backbone = copied(self.backbone, image=image)
        except ValueError:
            raise InputError(f"the network has layers that take no images of {size[0]} x {size[1]} pixels",
                             "leave --start-size out") from None  # fmt: skip
        drop = self.head.get_layer("dropout")
        network = assemble(backbone, self.classes, binary=self.binary, dropout=drop.rate, seed=drop.seed)
        network.model.set_weights(self.model.get_weights())
        return network

    def targets(self, one_hot: Any) -> Any:
        """Labels as the training output wants them: one-hot `(N, C)` as it is, or `(N, 1)` when binary."""
        return one_hot[:, 1:] if self.binary else one_hot

    def finished(self) -> Any:
        """The model as it leaves imgclf: image to float32 `(N, C)` probabilities, also for two classes.

        One trained logit z becomes the softmax of (0, z), which is (1 - sigmoid(z), sigmoid(z)).
        """
        if not self.binary:
            return keras.Model(self.model.inputs[0], self.model.output, name="classifier")
        kernel, bias = self.head.get_layer("scores").get_weights()
        scores = keras.layers.Dense(2, activation="softmax", dtype="float32", name=HEADS[1])
        outputs = scores(self.features)
        scores.set_weights([np.concatenate([np.zeros_like(kernel), kernel], axis=1), np.concatenate([[0.0], bias])])
        return keras.Model(self.model.inputs[0], outputs, name="classifier")


def head_layer(model: Any) -> Any:
    """The dense layer of a finished model that gives the scores of the classes; None where it has none of imgclf's."""
    heads = [layer for layer in model.layers if layer.name in HEADS and isinstance(layer, keras.layers.Dense)]
    return heads[-1] if heads else None


def head_features(model: Any) -> Any:
    """The tensor `(N, F)` that the head of a finished model reads, before any dropout."""
    features = _read_by(model, head_layer(model))
    before = features._keras_history.operation
    return _read_by(model, before) if isinstance(before, keras.layers.Dropout) else features


def _read_by(model: Any, layer: Any) -> Any:
    """The tensor that a layer reads in this model; layers are shared with the models that a network is cut into."""
    inside = {node for nodes in model._nodes_by_depth.values() for node in nodes}
    return next(node for node in layer._inbound_nodes if node in inside).input_tensors[0]


def temper(model: Any, temperature: float) -> None:
    """Divide the logits of a finished model by a temperature, within the weights of its head."""
    head = head_layer(model)
    head.set_weights([weights / temperature for weights in head.get_weights()])


def shift(model: Any, offset: float) -> None:
    """Take something from the second class's logit of a finished model for two, within the bias of its head."""
    head = head_layer(model)
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias - np.array([0.0, offset], bias.dtype)])


def load_head(network: Network, kernel: Any, bias: Any, classes: tuple[str, ...]) -> None:
    """Start the head from given weights; a class that is new begins with its random ones, below all others.

    Args:
        network: whose head it is.
        kernel: `(F, C)` of a softmax, also for two classes.
        bias: `(C,)`.
        classes: their names; classes are matched by name.
    """
    old = {name: index for index, name in enumerate(classes)}  # without line breaks, as classes.txt has them
    places = [old.get(" ".join(name.splitlines())) for name in network.classes]
    known = [place for place in places if place is not None]
    fresh = keras.initializers.GlorotUniform(seed=0)((kernel.shape[0], len(places)))
    columns = [np.asarray(fresh)[:, number] if place is None else kernel[:, place]
               for number, place in enumerate(places)]  # fmt: skip
    least = float(min(bias[known])) if known else 0.0
    kernel = np.stack(columns, axis=1)
    bias = np.array([least if place is None else bias[place] for place in places])
    if network.binary:
        kernel, bias = kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
    network.head.get_layer("scores").set_weights([kernel, bias])


def assemble(backbone: Any, classes: tuple[str, ...], *, binary: bool, dropout: float, seed: int) -> Network:
    """Put average pooling, dropout and a fresh head on a backbone.

    Args:
        backbone: a flat functional model, image to feature map `(N, h, w, F)` or features `(N, F)`.
        classes: class names, two or more; exactly two when binary.
        binary: train one sigmoid unit instead of a softmax.
        dropout: 0..0.9, between pooling and head.
        seed: of the head's first weights and the dropout.
    """
    units, activation = (1, "sigmoid") if binary else (len(classes), "softmax")
    drop = keras.layers.Dropout(dropout, seed=seed, name="dropout")
    scores = keras.layers.Dense(
        units, activation=activation, dtype="float32", name="scores",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
    )  # fmt: skip
    pooled = backbone.output
    if len(pooled.shape) == 4:
        pooled = keras.layers.GlobalAveragePooling2D(name=POOL)(pooled)
    features = keras.Input(pooled.shape[1:], name="features")
    head = keras.Model(features, scores(drop(features)), name="head")
    model = keras.Model(backbone.inputs[0], scores(drop(pooled)), name="training")
    return Network(backbone, pooled, head, model, classes, binary)
