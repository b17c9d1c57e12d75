"""Classes of very different sizes: weights, or a sampler (`--balance`). May import NumPy only."""

import numpy as np
from numpy.typing import NDArray

# Largest to smallest class from which "auto" weighs: below it all images alike give the better accuracy.
IMBALANCED = 20.0


def decide(balance: str, counts: NDArray[np.int64]) -> tuple[str, str]:
    """What `--balance` comes to, and why; "" where nothing needs to be said.

    Args:
        balance: "auto", "none", "weights", "sampler" or "focal".
        counts: training images of each class, each at least 1.
    """
    ratio = float(counts.max() / counts.min())
    sizes = f"the largest class has {ratio:.0f} times the images of the smallest"
    if balance != "auto":
        return balance, "" if balance == "none" else f"balance: {balance} ({sizes})"
    if ratio < IMBALANCED:
        return "none", ""
    return "weights", f"balance: {sizes}, so rare classes weigh more (--balance none turns that off)"


def class_weights(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """How much an image of each class counts: by the inverse of the class's size, 1 on average over the images."""
    weights: NDArray[np.float32] = (counts.sum() / (len(counts) * counts)).astype(np.float32)
    return weights


def draw_order(labels: NDArray[np.int64], balance: str, seed: int, number: int) -> NDArray[np.int64]:
    """Positions of the images of one epoch, always the same for a seed and a number.

    Args:
        labels: class of each image.
        balance: "sampler" draws every class as often as any other, with repetition; otherwise each image comes once.
        seed: of the training.
        number: of the epoch.
    """
    draw = np.random.default_rng((seed, number))
    if balance != "sampler":
        return draw.permutation(len(labels))
    present, where = np.unique(labels, return_inverse=True)
    order = np.empty(len(labels), np.int64)
    wanted = draw.permutation(np.arange(len(labels)) % len(present))  # a class for each place
    for number_of_class in range(len(present)):
        members, places = np.flatnonzero(where == number_of_class), np.flatnonzero(wanted == number_of_class)
        rounds = -(-len(places) // len(members))  # every image as often as any other of its class, give or take one
        picked = np.concatenate([draw.permutation(members) for _ in range(rounds)])
        order[places] = picked[: len(places)]
    return order
