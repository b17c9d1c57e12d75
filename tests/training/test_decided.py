"""What was given stays, what was decided repeats the training, and what has no effect is said."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgclf.config import TrainConfig
from imgclf.cut.room import LIMIT_VARIABLE
from imgclf.data.imageset import StagedSet
from imgclf.training import fine_tuning
from imgclf.training import train as trainer
from imgclf.training.budget import HEAD_SECONDS
from imgclf.training.fit import StageInterrupted
from imgclf.training.head import Examples, HeadBank, HeadRecipe, Regularization
from imgclf.training.train import Trained, train
from tests.training.material import drawn_set, pretend, use_eager_engines

TRANSFER = TrainConfig(backbone="tiny", image_size=16, epochs=3, fine_tune_epochs=2, unfreeze="2", augment="none",
                       calibrate=False)  # fmt: skip


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    return drawn_set(tmp_path_factory.mktemp("staged"))


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    pretend(monkeypatch)
    use_eager_engines(monkeypatch)


def losses(found: Trained) -> list[tuple[str, float]]:
    return [(row.stage, row.val["loss"]) for row in found.history]


def test_the_settings_of_a_run_repeat_it(staged: StagedSet) -> None:
    first = train(staged, replace(TRANSFER, fine_tune_epochs=None))
    again = train(staged, first.config)
    assert losses(again) == losses(first)
    assert first.config.weight_decay is None and first.config.dropout is None, "each stage has its own"
    assert first.config.fine_tune_epochs is not None and first.config.epochs == 3


@pytest.mark.parametrize("augment", [pytest.param("none", marks=pytest.mark.sweep), "light"])
def test_a_time_budget_leaves_what_was_given(augment: str, staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgclf.training.budget.build_engine", lambda model, sample: _Eager(model))
    plenty = time.monotonic() + 3600
    given = train(staged, replace(TRANSFER, augment=augment, fine_tune_epochs=1), deadline=plenty)
    assert given.config.fine_tune_epochs == 1 and not any("time budget" in note for note in given.notes)
    tight = time.monotonic() + 1
    open_ = train(staged, replace(TRANSFER, augment=augment, fine_tune_epochs=None), deadline=tight)
    assert open_.config.fine_tune_epochs == 0 and any("time budget" in note for note in open_.notes)


class _Eager:
    def __init__(self, model: Any) -> None:
        self.model = model

    def map(self, batches: Any) -> Any:
        return (np.asarray(self.model(batch, training=False)) for batch in batches)


@pytest.mark.slow
def test_a_time_budget_holds_for_fresh_images_too(staged: StagedSet) -> None:
    nothing_left = time.monotonic() + HEAD_SECONDS  # whatever this computer's speed is; one epoch is the least
    found = train(staged, replace(TRANSFER, augment="light", views=0, fine_tune_epochs=None), deadline=nothing_left)
    assert any("on freshly varied images" in note and "time budget" in note for note in found.notes)
    assert found.config.fine_tune_epochs == 1


def test_what_the_cache_may_not_take_is_varied_anew(staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0.000001")
    found = train(staged, replace(TRANSFER, augment="light", fine_tune_epochs=1))
    assert found.config.views == 0 and any("varied anew every epoch" in note for note in found.notes)


def test_settings_without_effect_are_named(staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(trainer, "warn", said.append)
    train(staged, replace(TRANSFER, fine_tune_epochs=0, ensemble=3, mix="mixup"))
    assert said == [f"--{name} has no effect where only the head is trained" for name in ("ensemble", "mix")]
    said.clear()
    monkeypatch.setattr(trainer, "resolve_weights", lambda *_: None)
    train(staged, TrainConfig(backbone="tiny", image_size=16, epochs=1, fine_tune_epochs=3, unfreeze="2"))
    assert said == [f"--{name} has no effect in training from scratch" for name in ("fine-tune-epochs", "unfreeze")]


def test_an_ensemble_that_ends_before_a_member_is_better_keeps_the_one_before(
    staged: StagedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = fine_tuning._train_member

    def first_only(session: Any, row: Any, plan: Any, stack: Any, number: int, beat: float) -> float:
        if number:
            raise StageInterrupted(())
        return working(session, row, plan, stack, number, beat)

    monkeypatch.setattr(fine_tuning, "_train_member", first_only)
    config = replace(
        TRANSFER,
        ensemble=2,
        fine_tune_learning_rate=0.003,
        weight_average=0.0,
        head_search=False,
        epochs=1,
        batch_size=4,
    )
    stopped = train(staged, config)
    whole = train(staged, replace(config, ensemble=1))
    (kept,) = (row for row in stopped.history if row.kept)
    assert stopped.interrupted and kept.stage == "fine-tune 1"
    for ours, theirs in zip(stopped.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_sampler_shows_rare_classes_to_the_head_as_often() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 90 + [1] * 6)
    features = (rng.normal(size=(96, 4)) + 0.3 * labels[:, None]).astype(np.float32)
    examples = Examples(features, np.eye(2, dtype=np.float32)[labels], None)
    start = (np.zeros((4, 2), np.float32), np.zeros(2, np.float32))
    shares = {}
    for balance in ("none", "sampler"):
        bank = HeadBank(
            HeadRecipe((Regularization(0.0, 0.0, 0.0),), "adamw", 0.05, 16, 0, False, balance=balance), examples, start
        )
        for number in range(30):
            bank.run_epoch(number)
        shares[balance] = float(bank.probabilities(examples)[0][:, 1].mean())
    assert shares["none"] < 0.2 < 0.35 < shares["sampler"]
