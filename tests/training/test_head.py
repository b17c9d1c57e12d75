"""Heads on features: many at once are each what one alone would be, and what Keras would train."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from imgclf.training.head import Examples, HeadBank, HeadRecipe, Regularization, best_candidate
from imgclf.training.optimizers import learning_rate, make_loss, make_optimizer

FEATURES, CLASSES = 6, 3
PLAIN = Regularization(0.0, 0.0, 0.0)


def examples(count: int = 50, *, binary: bool = False, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2 if binary else CLASSES, count)
    features = rng.normal(size=(count, FEATURES)).astype(np.float32)
    features[np.arange(count), labels] += 1.5
    targets = labels[:, None] if binary else np.eye(CLASSES)[labels]
    return Examples(features, targets.astype(np.float32))


def start(*, binary: bool = False) -> Any:
    units = 1 if binary else CLASSES
    rng = np.random.default_rng(9)
    return rng.normal(size=(FEATURES, units)).astype(np.float32), rng.normal(size=units).astype(np.float32)


def recipe(*candidates: Regularization, **changes: Any) -> HeadRecipe:
    return replace(HeadRecipe(candidates or (PLAIN,), "adamw", 0.01, 16, 5, False), **changes)


def trained(how: HeadRecipe, on: Examples, epochs: int = 3) -> HeadBank:
    bank = HeadBank(how, on, start(binary=how.binary))
    for number in range(epochs):
        bank.run_epoch(number)
    return bank


@pytest.mark.parametrize(("binary", "optimizer"), [(False, "adamw"), (True, "sgd")])
def test_a_candidate_among_several_is_what_it_is_alone(binary: bool, optimizer: str) -> None:
    grid = (PLAIN, Regularization(2.0, 0.4, 0.0), Regularization(0.5, 0.2, 0.1))
    rate = learning_rate("cosine", 0.02, 12, warm_up=0.0)
    how = recipe(*grid, binary=binary, optimizer=optimizer, rate=rate)
    on, asked = examples(binary=binary), examples(20, binary=binary, seed=1)
    together = trained(how, on)
    kernels, biases = together.weights
    for index, candidate in enumerate(grid):
        alone = trained(replace(how, candidates=(candidate,)), on)
        np.testing.assert_allclose(alone.weights[0][0], kernels[index], atol=1e-5, err_msg=str(candidate))
        np.testing.assert_allclose(alone.weights[1][0], biases[index], atol=1e-5)
        np.testing.assert_allclose(alone.losses(asked)[0], together.losses(asked)[index], atol=1e-5)
    assert len({kernel.tobytes() for kernel in kernels}) == len(grid)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("everything", [False, True])
def test_a_head_is_what_keras_trains(everything: bool, binary: bool) -> None:
    """Whole batches, so that the order does not matter; at a rate at which gradients are clipped in the beginning."""
    candidate = Regularization(0.7, 0.0, 0.1) if everything else PLAIN
    options: dict[str, Any] = {"focal": True, "l1": 0.02, "l2": 0.05} if everything else {}
    on, (kernel, bias) = examples(binary=binary), start(binary=binary)
    how = recipe(candidate, optimizer="sgd", rate=0.3, batch_size=len(on), binary=binary, **options)
    found = trained(how, on, 5)
    inputs = keras.Input((FEATURES,))
    dense = keras.layers.Dense(
        len(bias), "sigmoid" if binary else "softmax",
        kernel_regularizer=keras.regularizers.L1L2(how.l1, how.l2) if how.l1 else None,
    )  # fmt: skip
    model = keras.Model(inputs, dense(inputs))
    dense.set_weights([kernel, bias])
    optimizer = make_optimizer("sgd", 0.3, candidate.weight_decay or None)
    optimizer.exclude_from_weight_decay([dense.bias])
    loss = "focal" if how.focal else "cross-entropy"
    model.compile(optimizer, make_loss(loss, binary=binary, label_smoothing=candidate.label_smoothing))
    model.fit(on.features, on.targets, epochs=5, batch_size=len(on), shuffle=False, verbose=0)
    np.testing.assert_allclose(found.weights[0][0], dense.kernel.numpy(), atol=2e-4)
    np.testing.assert_allclose(found.weights[1][0], dense.bias.numpy(), atol=2e-4)
    assert np.abs(dense.kernel.numpy() - kernel).max() > 0.05


@pytest.mark.parametrize("binary", [False, True])
def test_the_loss_is_keras_cross_entropy_whatever_the_head_trains_on(binary: bool) -> None:
    how = recipe(Regularization(0.1, 0.5, 0.1), PLAIN, binary=binary, focal=True, l2=0.1)
    bank, asked = trained(how, examples(binary=binary)), examples(33, binary=binary, seed=1)
    kind = keras.losses.BinaryCrossentropy if binary else keras.losses.CategoricalCrossentropy
    scores = bank.probabilities(asked)
    assert scores.shape == (2, 33, 1 if binary else CLASSES)
    for index, loss in enumerate(bank.losses(asked)):
        kernel, bias = (value[index] for value in bank.weights)
        logits = asked.features @ kernel + bias
        expected = 1 / (1 + np.exp(-logits)) if binary else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(scores[index], expected, atol=1e-6)
        assert loss == pytest.approx(float(kind()(asked.targets, expected)), abs=1e-5)


def test_the_seed_fixes_every_weight_and_every_epoch_has_its_own_order() -> None:
    how = recipe(Regularization(0.5, 0.5, 0.0))
    first, again = trained(how, examples()), trained(how, examples())
    np.testing.assert_array_equal(first.weights[0], again.weights[0])
    for other in (replace(how, seed=6), replace(how, candidates=(PLAIN,))):
        assert not np.array_equal(first.weights[0], trained(other, examples()).weights[0])
    banks = [HeadBank(recipe(), examples(), start()) for _ in range(2)]
    for number, bank in enumerate(banks):
        bank.run_epoch(number)
    assert not np.array_equal(banks[0].weights[0], banks[1].weights[0])


def test_an_example_without_weight_teaches_nothing() -> None:
    on = examples()
    weights = (np.arange(len(on)) % 2).astype(np.float32)
    lied = np.where(weights[:, None] > 0, on.targets, np.roll(on.targets, 1, axis=1))
    found, expected = (trained(recipe(), Examples(on.features, targets, weights)) for targets in (lied, on.targets))
    np.testing.assert_array_equal(found.weights[0], expected.weights[0])
    unweighted = trained(recipe(), on)
    ones = trained(recipe(), Examples(on.features, on.targets, np.ones(len(on), np.float32)))
    np.testing.assert_array_equal(unweighted.weights[0], ones.weights[0])
    assert not np.array_equal(unweighted.weights[0], expected.weights[0])


def test_dropped_features_keep_their_mean() -> None:
    """At half the features dropped the gradient is noisy and right: many steps lead to where none are dropped."""
    on = examples(400)
    least = [float(trained(recipe(Regularization(0.0, drop, 0.0), rate=0.05), on, 12).losses(on)[0])
             for drop in (0.0, 0.5)]  # fmt: skip
    assert least[0] < least[1] < least[0] + 0.3


def test_the_best_candidate_is_the_one_with_the_lowest_loss_on_all_folds() -> None:
    whole, grid = examples(60), (PLAIN, Regularization(20.0, 0.0, 0.0), Regularization(0.5, 0.2, 0.0))
    how = recipe(*grid, rate=0.05)
    first, rest = np.arange(20), np.arange(20, 60)
    most, last = np.arange(45), np.arange(45, 60)
    cuts = [(whole.pick(known), whole.pick(asked)) for known, asked in ((rest, first), (most, last))]
    ticks: list[int] = []
    best, losses = best_candidate(how, cuts, start(), 4, lambda: ticks.append(1))
    assert len(ticks) == 8
    total = np.zeros(len(grid))
    for known, asked in cuts:
        for index, candidate in enumerate(grid):
            bank = HeadBank(replace(how, candidates=(candidate,)), known, start())
            seen = []
            for epoch in range(4):
                bank.run_epoch(epoch)
                seen.append(bank.losses(asked)[0])
            total[index] += min(seen) * len(asked)
    np.testing.assert_allclose(losses, total / 35, atol=1e-5)
    assert best == grid[int(np.argmin(total))] and len(set(losses)) == len(grid)


def test_a_candidate_that_diverges_is_not_the_best() -> None:
    wild = recipe(PLAIN, Regularization(0.5, 0.0, 0.0), optimizer="sgd", rate=1.0)
    on = examples()
    broken = Examples(np.where(np.arange(len(on))[:, None] == 3, np.nan, on.features).astype(np.float32), on.targets)
    _, losses = best_candidate(wild, [(broken, on)], start(), 2)
    assert np.isinf(losses).all()
