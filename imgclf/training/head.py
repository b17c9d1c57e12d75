"""The head on features: several candidates at once, in one graph, an epoch in milliseconds. May import TensorFlow.

A head is one dense layer. Heads that differ in their regularization only share every product with the features, so that
a dozen cost little more than one, and which of them is best needs no guess.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgclf.training.balance import draw_order
from imgclf.training.optimizers import make_optimizer

Array = NDArray[np.float32]

CLIP_NORM = 1.0  # of each candidate's gradient
FOCAL_GAMMA = 2.0  # Lin 2017, arXiv 1708.02002


@dataclass(frozen=True)
class Regularization:
    """What keeps a head from learning its images by heart.

    Attributes:
        weight_decay: decoupled from the gradient, a share of the learning rate.
        dropout: share of the features dropped, 0..0.9.
        label_smoothing: 0..0.5.
    """

    weight_decay: float
    dropout: float
    label_smoothing: float

    def __str__(self) -> str:
        return (f"weight decay {self.weight_decay:g}, dropout {self.dropout:g}, label smoothing "
                f"{self.label_smoothing:g}")  # fmt: skip


@dataclass(frozen=True)
class Examples:
    """Features with their targets.

    Attributes:
        features: float32 `(n, F)`.
        targets: float32 `(n, C)`, each row a distribution; or `(n, 1)`, the probability of the second of two classes.
        weights: float32 `(n,)`, how much each counts; None: all alike.
    """

    features: Array
    targets: Array
    weights: Array | None = None

    def __len__(self) -> int:
        return len(self.features)

    def pick(self, positions: NDArray[np.int64]) -> "Examples":
        """Some of them."""
        weights = None if self.weights is None else self.weights[positions]
        return Examples(self.features[positions], self.targets[positions], weights)


@dataclass(frozen=True)
class HeadRecipe:
    """How heads are trained.

    Attributes:
        candidates: one head each.
        optimizer: a name of `optimizers.py`.
        rate: a number, or a schedule of Keras.
        batch_size: examples a step.
        seed: of order, dropout and first weights.
        binary: one sigmoid unit instead of a softmax.
        focal: focal loss instead of cross-entropy.
        l1: penalty on the kernel.
        l2: penalty on the kernel.
        balance: "sampler" draws every class as often as any other.
    """

    candidates: tuple[Regularization, ...]
    optimizer: str
    rate: Any
    batch_size: int
    seed: int
    binary: bool
    focal: bool = False
    l1: float = 0.0
    l2: float = 0.0
    balance: str = "none"


class HeadBank:
    """Heads that train side by side on the same batches.

    Args:
        recipe: how.
        train: what on.
        start: kernel `(F, units)` and bias `(units,)` that all begin with.
    """

    def __init__(self, recipe: HeadRecipe, train: Examples, start: tuple[Array, Array]) -> None:
        self.recipe, self.count = recipe, len(train)
        self.steps = -(-self.count // recipe.batch_size)
        number = len(recipe.candidates)
        kernel, bias = (np.repeat(value[None], number, axis=0) for value in start)
        self._kernel = keras.Variable(kernel, name="kernel")
        self._bias = keras.Variable(bias, name="bias")
        self.optimizer = make_optimizer(recipe.optimizer, recipe.rate, 0.0, clip=False)
        self.optimizer.build([self._kernel, self._bias])
        self._features, self._targets = tf.constant(train.features), tf.constant(train.targets)
        self._weights = tf.constant(np.ones(self.count, np.float32) if train.weights is None else train.weights)
        targets = train.targets
        self._labels = targets[:, 0].round().astype(np.int64) if recipe.binary else targets.argmax(axis=1)
        self._epoch = tf.function(self._train_epoch)
        self._forward = tf.function(self._logits, reduce_retracing=True)

    @property
    def weights(self) -> tuple[Array, Array]:
        """Kernels `(G, F, units)` and biases `(G, units)`."""
        return self._kernel.numpy(), self._bias.numpy()

    def run_epoch(self, number: int) -> None:
        """Train every candidate for an epoch, in an order fixed by the seed and the epoch's number."""
        order = draw_order(self._labels, self.recipe.balance, self.recipe.seed, number)
        self._epoch(tf.constant(order), tf.constant(number))

    def losses(self, examples: Examples) -> Array:
        """Plain cross-entropy of every candidate `(G,)`."""
        logits = self._forward(tf.constant(examples.features))
        values = _cross_entropy(logits, tf.constant(examples.targets)[None], binary=self.recipe.binary)
        found: Array = tf.reduce_mean(values, axis=1).numpy()
        return found

    def probabilities(self, examples: Examples) -> Array:
        """Of every candidate `(G, n, units)`."""
        logits = self._forward(tf.constant(examples.features))
        found: Array = (tf.sigmoid(logits) if self.recipe.binary else tf.nn.softmax(logits)).numpy()
        return found

    def _logits(self, features: Any) -> Any:
        return tf.einsum("bf,gfc->gbc", features, self._kernel.value) + self._bias.value[:, None]

    def _train_epoch(self, order: Any, number: Any) -> None:
        recipe = self.recipe
        decay, drop, smoothing = (
            tf.constant([getattr(item, name) for item in recipe.candidates], tf.float32)[:, None, None]
            for name in ("weight_decay", "dropout", "label_smoothing")
        )
        dropping = any(item.dropout for item in recipe.candidates)
        variables = [self._kernel, self._bias]
        for at in tf.range(self.steps):
            picked = order[at * recipe.batch_size : (at + 1) * recipe.batch_size]
            features = tf.gather(self._features, picked)[None]
            targets, weights = tf.gather(self._targets, picked)[None], tf.gather(self._weights, picked)[None]
            if dropping:  # all candidates drop by the same draw
                drawn = tf.random.stateless_uniform(tf.shape(features), (recipe.seed, number * self.steps + at))
                features = tf.where(drawn >= drop, features / (1 - drop), 0.0)
            units = 2 if recipe.binary else targets.shape[-1]
            targets = targets * (1 - smoothing) + smoothing / units
            with tf.GradientTape() as tape:
                logits = tf.matmul(features, self._kernel.value) + self._bias.value[:, None]
                losses = _cross_entropy(logits, targets, binary=recipe.binary, focal=recipe.focal)
                loss = tf.reduce_sum(tf.reduce_mean(losses * weights, axis=1))
                if recipe.l1 or recipe.l2:
                    kernel = self._kernel.value
                    loss += recipe.l1 * tf.reduce_sum(tf.abs(kernel)) + recipe.l2 * tf.reduce_sum(kernel**2)
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            gradients = [tf.clip_by_norm(gradient, CLIP_NORM, axes=list(range(1, len(gradient.shape))))
                         for gradient in gradients]  # fmt: skip
            shrink = 1 - decay * tf.cast(self.optimizer.learning_rate, tf.float32)
            self._kernel.assign(self._kernel.value * shrink)
            self.optimizer.apply(gradients, variables)


def _cross_entropy(logits: Any, targets: Any, *, binary: bool, focal: bool = False) -> Any:
    """Per candidate and example `(G, n)`."""
    if binary:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.broadcast_to(targets, tf.shape(logits)), logits)
        if focal:
            right = targets * tf.sigmoid(logits) + (1 - targets) * tf.sigmoid(-logits)
            losses *= (1 - right) ** FOCAL_GAMMA
        return losses[..., 0]
    each = -targets * tf.nn.log_softmax(logits)
    if focal:
        each *= (1 - tf.nn.softmax(logits)) ** FOCAL_GAMMA
    return tf.reduce_sum(each, axis=-1)


def best_candidate(
    recipe: HeadRecipe, folds: Sequence[tuple[Examples, Examples]], start: tuple[Array, Array], epochs: int,
    done: Callable[[], None] = lambda: None,
) -> tuple[Regularization, NDArray[np.float64]]:  # fmt: skip
    """Find the regularization with the lowest cross-entropy on images that were not trained on.

    Args:
        recipe: with the candidates.
        folds: pairs of what to train on and what to measure on; the losses of all count, by their number of examples.
        start: kernel and bias to begin with.
        epochs: of each fold; a candidate counts with its best one.
        done: called after every epoch.

    Returns:
        The best candidate, and the loss of each.
    """
    total = np.zeros(len(recipe.candidates))
    for train, val in folds:
        bank = HeadBank(recipe, train, start)
        least = np.full(len(recipe.candidates), np.inf)
        for epoch in range(epochs):
            bank.run_epoch(epoch)
            least = np.minimum(least, np.nan_to_num(bank.losses(val), nan=np.inf))
            done()
        total += least * len(val)
    losses = total / sum(len(val) for _, val in folds)
    return recipe.candidates[int(losses.argmin())], losses
