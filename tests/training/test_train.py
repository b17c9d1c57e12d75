from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgclf.config import TrainConfig
from imgclf.data.imageset import StagedSet
from imgclf.data.inspect import inspect
from imgclf.data.scan import scan
from imgclf.data.split import assign_parts
from imgclf.data.stage import stage
from imgclf.errors import InputError
from imgclf.models import backbones
from imgclf.models.build import build_backbone
from imgclf.models.weights import WeightsFile
from imgclf.training import fit, scratch
from imgclf.training import train as trainer
from imgclf.training.above import Fresh
from imgclf.training.fit import Stage, compile_for, run_stage

SIZE = 32


@pytest.fixture(scope="module")
def staged(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    return stage(assign_parts(inspect(scan(photos))), tmp_path_factory.mktemp("stage") / "stage", (SIZE, SIZE))


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights that the training takes for pretrained ones: both stages run, offline."""
    monkeypatch.setattr(trainer, "resolve_weights", lambda *_: WeightsFile(Path("x"), "pretended"))
    monkeypatch.setattr(trainer, "load_backbone_weights", lambda *_: None)


def weights(model: Any) -> list[Any]:
    return [np.asarray(value) for value in model.get_weights()]


TWO_STAGES = TrainConfig(
    backbone="mobilenet_v2", alpha=0.35, image_size=SIZE, epochs=3, fine_tune_epochs=2, unfreeze="2", batch_size=8
)


SMALL_STAGES = replace(TWO_STAGES, backbone="tiny", alpha=None, head_search=False)


def batch_statistics(model: Any) -> list[Any]:
    return [
        np.asarray(value)
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for value in (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
        if value is not None
    ]


@pytest.mark.usefixtures("pretended")
def test_two_stages_leave_what_is_below_the_cut_and_every_statistic_alone(staged: StagedSet) -> None:
    keras.utils.set_random_seed(0)
    fresh = build_backbone(backbones.get("mobilenet_v2"), 0.35, (SIZE, SIZE))
    found = trainer.train(staged, replace(TWO_STAGES, fine_tune_learning_rate=0.01, patience=9))
    assert [(row.stage, row.epoch) for row in found.history] == [
        ("head", 1), ("head", 2), ("head", 3), ("fine-tune", 1), ("fine-tune", 2),
    ]  # fmt: skip
    assert sum(row.kept for row in found.history) == 1
    for before, after in zip(batch_statistics(fresh), batch_statistics(found.model), strict=True):
        np.testing.assert_array_equal(before, after)
    cut = backbones.get("mobilenet_v2").cuts[1]
    names = [layer.name for layer in fresh.layers]
    below = names[: names.index(cut) + 1]
    for name in below:
        for before, after in zip(weights(fresh.get_layer(name)), weights(found.model.get_layer(name)), strict=True):
            np.testing.assert_array_equal(before, after, err_msg=name)
    if any(row.kept and row.stage == "fine-tune" for row in found.history):
        moved = [
            not np.array_equal(before, after)
            for name in names[len(below) :]
            for before, after in zip(weights(fresh.get_layer(name)), weights(found.model.get_layer(name)), strict=True)
        ]
        assert any(moved)


@pytest.mark.usefixtures("pretended")
def test_the_same_seed_gives_identical_weights(staged: StagedSet) -> None:
    config = replace(SMALL_STAGES, augment="light", epochs=2, fine_tune_epochs=1, views=2)
    first, second = (weights(trainer.train(staged, config).model) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_measuring_the_speed_changes_no_weight(staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first default run measures, the second remembers; given the same plan both must end the same."""
    monkeypatch.setattr(scratch, "SCRATCH_EPOCHS", (1, 1))
    config = TrainConfig(backbone="tiny", image_size=SIZE, batch_size=8, augment="medium")
    measured = weights(trainer.train(staged, config).model)
    monkeypatch.setattr(Fresh, "_measure", lambda self: pytest.fail("measured twice"))
    remembered = weights(trainer.train(staged, config).model)
    for one, other in zip(measured, remembered, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("pretended")
def test_a_fine_tuning_that_ends_worse_is_undone_and_said(staged: StagedSet) -> None:
    head = trainer.train(staged, replace(SMALL_STAGES, fine_tune_epochs=0, augment="none"))
    both = trainer.train(staged, replace(SMALL_STAGES, fine_tune_learning_rate=1.0, augment="none"))
    assert any("weights of the head stage were kept" in note for note in both.notes)
    assert next(row for row in both.history if row.kept).stage == "head"
    for layer in head.model.layers:
        for one, other in zip(weights(layer), weights(both.model.get_layer(layer.name)), strict=True):
            if layer.name == "scores":  # trained on features that went through the cut, in half precision
                np.testing.assert_allclose(one, other, atol=1e-3)
            else:
                np.testing.assert_array_equal(one, other, err_msg=layer.name)


def test_from_scratch_all_weights_move_and_two_classes_give_two_scores(two_photos: Path, tmp_path: Path) -> None:
    pair = stage(assign_parts(inspect(scan(two_photos))), tmp_path / "stage", (SIZE, SIZE))
    config = TrainConfig(backbone="tiny", image_size=SIZE, epochs=2, batch_size=8)
    found = trainer.train(pair, config)
    keras.utils.set_random_seed(0)
    fresh = build_backbone(backbones.get("tiny"), None, (SIZE, SIZE))
    for layer in fresh.layers:
        for before, after in zip(weights(layer), weights(found.model.get_layer(layer.name)), strict=True):
            assert not np.array_equal(before, after), layer.name
    assert found.model.output_shape == (None, 2)
    assert found.config.head == "binary"
    assert {row.stage for row in found.history} == {"training"}


def test_a_training_that_diverged_is_no_success(staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_metrics", lambda logs, prefix: dict.fromkeys(fit.METRICS, float("nan")))
    with pytest.raises(InputError, match=r"diverged.*lower --learning-rate than 0.003"):
        trainer.train(staged, TrainConfig(backbone="tiny", image_size=SIZE, epochs=1, augment="none"))


def test_no_random_layer_is_in_the_finished_model(staged: StagedSet) -> None:
    found = trainer.train(staged, TrainConfig(backbone="tiny", image_size=SIZE, epochs=1, augment="light"))
    names = [type(layer).__name__ for layer in found.model.layers]
    assert not [name for name in names if name.startswith("Random")], names


def test_a_stage_keeps_its_best_weights_and_stops_when_it_no_longer_helps() -> None:
    """The validation labels are the opposite of the training labels: every epoch after the first is worse."""
    features = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    labels = (features[:, :1] > 0).astype(np.float32)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", kernel_initializer="zeros")(inputs))
    compile_for(model, keras.optimizers.SGD(1.0), "binary_crossentropy", binary=True)
    import tensorflow as tf

    seen = []

    def data(epoch: int) -> Any:
        seen.append(weights(model))
        return tf.data.Dataset.from_tensor_slices((features, labels)).batch(64)

    rows = run_stage(model, Stage("head", "x", 20, 3, 1), data, (features, 1 - labels))
    assert len(rows) == 4  # the best, and three that were worse
    assert [row.kept for row in rows] == [True, False, False, False]
    for kept, after_first in zip(weights(model), seen[1], strict=True):
        np.testing.assert_array_equal(kept, after_first)
    untouched = weights(model)
    rows = run_stage(model, Stage("head", "x", 20, 3, 1), data, (features, 1 - labels), beat=0.0)
    assert not any(row.kept for row in rows)
    for kept, before in zip(weights(model), untouched, strict=True):
        np.testing.assert_array_equal(kept, before)
