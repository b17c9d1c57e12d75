"""A network that does not fit, and one that learns from another."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imgclf import runs
from imgclf.config import TrainConfig
from imgclf.data.imageset import StagedSet
from imgclf.errors import InputError, SetupError
from imgclf.models.files import save_keras_model
from imgclf.training import session
from imgclf.training.fit import run_stage
from imgclf.training.teacher import softened
from imgclf.training.train import Trained, train
from tests.training.material import drawn_set, pretend, use_eager_engines

SCRATCH = TrainConfig(backbone="tiny", image_size=16, epochs=2, batch_size=8, augment="none", weights="none")
TRANSFER = TrainConfig(backbone="tiny", image_size=16, epochs=2, fine_tune_epochs=1, unfreeze="1", batch_size=8)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    return drawn_set(tmp_path_factory.mktemp("drawn"))


def with_room_for(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stage run out of memory with more images a step than that."""

    def tried(model, stage, epoch_data, *rest):
        size = len(next(iter(epoch_data(0)))[0])
        if size > most:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return run_stage(model, stage, epoch_data, *rest)

    monkeypatch.setattr(session, "run_stage", tried)


def test_out_of_memory_halves_the_batch_and_keeps_the_effective_one(
    staged: StagedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_room_for(2, monkeypatch)
    trained = train(staged, SCRATCH)
    assert (trained.config.batch_size, trained.config.accumulate) == (2, 4)
    said = [line for line in trained.notes if "out of memory" in line]
    assert len(said) == 2 and "8 images a step" in said[0] and "4 steps together" in said[1]
    assert len(trained.history) == 2


def test_what_never_fits_is_an_error(staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    with_room_for(0, monkeypatch)
    with pytest.raises(SetupError, match="even one image at a time"):
        train(staged, SCRATCH)


def run_of(trained: Trained, root: Path, classes: tuple[str, ...]) -> Path:
    run = runs.Run.create(root)
    save_keras_model(trained.model, run / runs.MODEL)
    runs.write_classes(run / runs.CLASSES, classes)
    run.set_state("done")
    return root


@pytest.mark.slow
def test_a_teacher_is_listened_to(staged: StagedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = run_of(train(staged, SCRATCH), tmp_path / "teacher", staged.classes)
    pretend(monkeypatch)
    use_eager_engines(monkeypatch)
    alone = train(staged, TRANSFER)
    taught = train(staged, TRANSFER.replace(teacher=str(teacher)))
    assert any((a != b).any() for a, b in zip(alone.model.get_weights(), taught.model.get_weights(), strict=True))
    again = train(staged, TRANSFER.replace(teacher=str(teacher)))
    for a, b in zip(taught.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    stranger = run_of(alone, tmp_path / "stranger", ("x", "y", "z"))
    with pytest.raises(InputError, match="knows the classes x, y, z"):
        train(staged, TRANSFER.replace(teacher=str(stranger)))


def test_a_higher_temperature_says_more_of_the_less_probable() -> None:
    logits = np.array([[4.0, 1.0, 0.0]])
    sharp, soft = (np.exp(logits / t) / np.exp(logits / t).sum() for t in (1.0, 2.0))
    np.testing.assert_allclose(softened(sharp.astype(np.float32), 2.0), soft, rtol=1e-5)
    sure = softened(np.array([[1.0, 0.0]], np.float32))
    assert np.isfinite(sure).all() and sure.sum() == pytest.approx(1.0)
    assert json.dumps(sure.tolist())
