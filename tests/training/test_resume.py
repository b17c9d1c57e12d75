"""A training that is killed and goes on ends with the weights of one that was never disturbed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgclf.config import TrainConfig
from imgclf.data.imageset import StagedSet
from imgclf.training import fit, scratch
from imgclf.training.checkpoint import FILE, load
from imgclf.training.epoch import Epoch
from imgclf.training.train import Trained, train
from tests.training.material import assert_same, drawn_set, pretend, use_eager_engines

FINE_TUNING = TrainConfig(backbone="tiny", image_size=16, epochs=2, fine_tune_epochs=3, unfreeze="2", batch_size=6,
                          head_search=False, patience=9, augment="light")  # fmt: skip
SCRATCH = TrainConfig(backbone="tiny", image_size=16, epochs=3, batch_size=4, patience=9, augment="light")

CASES = [
    pytest.param(replace(FINE_TUNING, views=2, weight_average=0.8, schedule="plateau"), id="average and plateau"),
    *(
        pytest.param(config, id=name, marks=pytest.mark.slow)
        for name, config in {
            "fresh images": replace(FINE_TUNING, views=0, layer_decay=0.5, accumulate=2, optimizer="sgd"),
            "scratch": SCRATCH,
        }.items()
    ),
    *(
        pytest.param(config, id=name, marks=pytest.mark.sweep)
        for name, config in {
            "everything": replace(FINE_TUNING, unfreeze="all", dropout=0.4, label_smoothing=0.1, loss="focal"),
            "scratch, strong": replace(SCRATCH, augment="strong"),
        }.items()
    ),
]


class Killed(Exception):
    """Stands for kill -9: nothing of the training runs after it."""


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    return drawn_set(tmp_path_factory.mktemp("stage") / "stage")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scratch, "CHUNK", 2)
    use_eager_engines(monkeypatch)


def killing(stage: str, epoch: int) -> Any:
    def watch(row: Epoch) -> None:
        if (row.stage, row.epoch) == (stage, epoch):
            raise Killed

    return watch


def kill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save within an epoch, when a checkpoint could be for the time number `step`; be killed at the next chance."""
    asked = iter(range(1, 10_000))

    def is_time(self: Any) -> bool:
        number = next(asked)
        if number > step:
            raise Killed
        return number == step

    monkeypatch.setattr(fit._Stage, "is_time", is_time)


def rows(found: Trained) -> list[Epoch]:
    return [replace(row, seconds=0.0) for row in found.history]


@pytest.mark.parametrize("config", CASES)
def test_a_killed_training_ends_like_an_undisturbed_one(
    config: TrainConfig, staged: StagedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the end of the first epoch, gone on, killed within the second, gone on."""
    from_scratch = config.fine_tune_epochs is None
    if not from_scratch:
        pretend(monkeypatch)
    expected = train(staged, config)
    folder, stage = tmp_path / "checkpoints", "training" if from_scratch else "fine-tune"
    with pytest.raises(Killed):
        train(staged, config, checkpoints=folder, watch=killing(stage, 1))
    saved = load(folder)
    assert saved is not None and (saved.progress.epoch, saved.progress.step) == (1, 0)
    with monkeypatch.context() as patch:
        one_graph = from_scratch and not config.weight_average  # from scratch two steps are one graph
        kill_after(1 if one_graph else 2, patch)
        with pytest.raises(Killed):
            train(staged, config, checkpoints=folder)
    saved = load(folder)
    assert saved is not None and (saved.progress.epoch, saved.progress.step) == (1, 2)
    found = train(staged, config, checkpoints=folder)
    assert rows(found) == rows(expected)
    assert_same(found.model, expected.model)
    assert found.config == expected.config and found.parameters == expected.parameters
    assert [file.name for file in folder.iterdir()] == [FILE]


@pytest.mark.slow
def test_killed_between_the_stages_and_after_the_last_epoch(
    staged: StagedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    config = replace(FINE_TUNING, augment="none", fine_tune_epochs=2)
    expected = train(staged, config)
    folder = tmp_path / "checkpoints"
    with pytest.raises(Killed):
        train(staged, config, checkpoints=folder, watch=killing("head", 2))
    assert load(folder) is None, "the head is trained again: it takes seconds"
    with pytest.raises(Killed):
        train(staged, config, checkpoints=folder, watch=killing("fine-tune", 2))
    seen: list[Epoch] = []
    found = train(staged, config, checkpoints=folder, watch=seen.append)
    assert seen == [] and rows(found) == rows(expected)
    assert_same(found.model, expected.model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "stage", "left"),
    [
        pytest.param({"ensemble": 2}, "fine-tune 2", ["fine-tune 2"], marks=pytest.mark.sweep),
        ({"ensemble": 2}, "fine-tune 1", ["fine-tune 1", "fine-tune 2", "fine-tune 2"]),
        ({"image_size": 24, "start_size": 16}, "fine-tune at 16px", ["fine-tune"]),
        pytest.param({"image_size": 24, "start_size": 16}, "fine-tune", [], marks=pytest.mark.sweep),
    ],
)
def test_what_was_done_before_a_kill_is_not_done_again(
    changes: dict[str, Any], stage: str, left: list[str], staged: StagedSet, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pretend(monkeypatch)
    config = replace(FINE_TUNING, augment="none", fine_tune_epochs=2, **changes)
    expected = train(staged, config)
    folder, seen = tmp_path / "checkpoints", []
    with pytest.raises(Killed):
        train(staged, config, checkpoints=folder, watch=killing(stage, 1))
    found = train(staged, config, checkpoints=folder, watch=seen.append)
    assert [row.stage for row in seen] == left
    assert rows(found) == rows(expected)
    assert_same(found.model, expected.model)


def test_checkpoints_change_nothing(staged: StagedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    config = replace(FINE_TUNING, augment="none", fine_tune_epochs=1, checkpoint_minutes=1e-9, weight_average=0.9)
    seen: list[Epoch] = []
    plain, kept = train(staged, config, watch=seen.append), train(staged, config, checkpoints=tmp_path)
    assert rows(plain) == rows(kept) and [row.stage for row in seen] == ["head", "head", "fine-tune"]
    assert_same(plain.model, kept.model)
