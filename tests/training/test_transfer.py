"""Training from pretrained weights: what the stages measure is what the finished model does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgclf.config import TrainConfig
from imgclf.data.batches import batches
from imgclf.data.imageset import StagedSet
from imgclf.errors import InputError
from imgclf.models import backbones
from imgclf.models.build import build_backbone, cut_layer
from imgclf.models.network import Network, assemble
from imgclf.training import plan as planning
from imgclf.training.epoch import Epoch
from imgclf.training.plan import multiply_adds_above, plan_transfer
from imgclf.training.train import train
from tests.training.material import drawn_set, pretend, use_eager_engines

HEAD_ONLY = TrainConfig(backbone="tiny", image_size=16, epochs=6, fine_tune_epochs=0, augment="none", patience=9,
                        calibrate=False)  # fmt: skip


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    pretend(monkeypatch)


BINARY = pytest.param(2, id="binary", marks=pytest.mark.sweep)


@pytest.fixture(scope="module", params=[pytest.param(3, id="classes"), BINARY])
def staged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    return drawn_set(tmp_path_factory.mktemp("stage") / "stage", request.param, train=8, val=5)


@pytest.fixture(scope="module", params=[3, 2], ids=["classes", "binary"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    return drawn_set(tmp_path_factory.mktemp("stage") / "stage", request.param, train=8, val=5)


def evaluated(model: Any, staged: StagedSet) -> tuple[float, float]:
    """Keras' own evaluation of the finished model on the validation images: cross-entropy and accuracy."""
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(batches(staged, "val", (16, 16)), verbose=0)
    return loss, accuracy


VARIED = {"augment": "light", "views": 2, "dropout": 0.3, "loss": "focal"}


@pytest.mark.parametrize("changes", [{}, pytest.param(VARIED, marks=pytest.mark.slow)])
def test_the_finished_model_does_what_the_head_stage_measured(changes: dict[str, Any], either: StagedSet) -> None:
    staged = either
    found = train(staged, replace(HEAD_ONLY, **changes))
    (kept,) = (row for row in found.history if row.kept)
    loss, accuracy = evaluated(found.model, staged)
    assert loss == pytest.approx(kept.val["loss"], rel=1e-3) and accuracy == pytest.approx(kept.val["accuracy"])
    assert kept.val["loss"] == pytest.approx(min(row.val["loss"] for row in found.history), abs=2e-4)
    assert found.model.output_shape == (None, len(staged.classes))
    (note,) = (line for line in found.notes if line.startswith("head: "))
    assert f"is best of {3 if 'dropout' in changes else 9} (cross-entropy" in note


def test_the_finished_model_does_what_fine_tuning_measured(either: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = either
    use_eager_engines(monkeypatch)
    found = train(staged, replace(HEAD_ONLY, epochs=1, fine_tune_epochs=3, unfreeze="2", batch_size=4,
                                  fine_tune_learning_rate=0.003, weight_average=0.5, head_search=False))  # fmt: skip
    (kept,) = (row for row in found.history if row.kept)
    assert kept.stage == "fine-tune"
    loss, accuracy = evaluated(found.model, staged)
    assert loss == pytest.approx(kept.val["loss"], rel=5e-3) and accuracy == pytest.approx(kept.val["accuracy"])


ENSEMBLE = replace(HEAD_ONLY, epochs=1, fine_tune_epochs=2, unfreeze="2", batch_size=4, head_search=False,
                   fine_tune_learning_rate=0.003, weight_average=0.5, ensemble=2)  # fmt: skip


def test_an_ensemble_becomes_one_network(staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    use_eager_engines(monkeypatch)
    found, alone = train(staged, ENSEMBLE), train(staged, replace(ENSEMBLE, ensemble=1))
    stages = [row.stage for row in found.history]
    assert stages[:5] == ["head", "fine-tune 1", "fine-tune 1", "fine-tune 2", "fine-tune 2"]
    losses = {stage: [row.val["loss"] for row in found.history if row.stage == stage] for stage in set(stages)}
    assert losses["fine-tune 1"] == [row.val["loss"] for row in alone.history if row.stage == "fine-tune"]
    assert losses["fine-tune 1"] != losses["fine-tune 2"], "the second sees another order"
    (kept,) = (row for row in found.history if row.kept)
    assert kept.val["loss"] == min(row.val["loss"] for row in found.history)
    loss, accuracy = evaluated(found.model, staged)
    assert loss == pytest.approx(kept.val["loss"], rel=5e-3) and accuracy == pytest.approx(kept.val["accuracy"])
    assert found.parameters == alone.parameters
    (note,) = (line for line in found.notes if line.startswith("ensemble: "))
    assert ("average" in stages) == ("the average of 2 is kept" in note)


@pytest.mark.parametrize("views", [2, pytest.param(0, marks=pytest.mark.sweep)])
def test_fine_tuning_that_begins_small(views: int, staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    use_eager_engines(monkeypatch)
    config = replace(ENSEMBLE, ensemble=1, fine_tune_epochs=3, image_size=24, start_size=16, views=views)
    found = train(staged, config)
    assert [row.stage for row in found.history] == ["head", "fine-tune at 16px", "fine-tune", "fine-tune"]
    (kept,) = (row for row in found.history if row.kept)
    assert kept.stage != "fine-tune at 16px" and found.model.input_shape == (None, 24, 24, 3)
    plain = train(staged, replace(config, start_size=None))
    ours, theirs = ([row.val["loss"] for row in each.history if row.stage == "fine-tune"] for each in (found, plain))
    assert ours[0] not in theirs, "it goes on from what was learned at the smaller size"


def test_a_size_to_begin_at_is_a_smaller_one(staged: StagedSet) -> None:
    with pytest.raises(InputError, match="--start-size is 16, the image size 16"):
        train(staged, replace(ENSEMBLE, start_size=16))


def test_ctrl_c_in_an_ensemble_keeps_the_best_of_all_members(
    staged: StagedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctrl_c(row: Epoch) -> None:
        if (row.stage, row.epoch) == ("fine-tune 2", 1):
            raise KeyboardInterrupt

    use_eager_engines(monkeypatch)
    found = train(staged, ENSEMBLE, watch=ctrl_c)
    assert found.interrupted
    (kept,) = (row for row in found.history if row.kept)
    assert kept.val["loss"] == pytest.approx(min(row.val["loss"] for row in found.history), abs=2e-4)
    assert evaluated(found.model, staged)[0] == pytest.approx(kept.val["loss"], rel=5e-3)


def test_ctrl_c_in_fine_tuning_keeps_the_best_of_all_stages(staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def ctrl_c(row: Epoch) -> None:
        if (row.stage, row.epoch) == ("fine-tune", 2):
            raise KeyboardInterrupt

    use_eager_engines(monkeypatch)
    config = replace(HEAD_ONLY, epochs=1, fine_tune_epochs=9, unfreeze="2", batch_size=4, head_search=False,
                     fine_tune_learning_rate=0.003, schedule="constant")  # fmt: skip
    found = train(staged, config, watch=ctrl_c)
    assert found.interrupted and [row.stage for row in found.history] == ["head", "fine-tune", "fine-tune"]
    (kept,) = (row for row in found.history if row.kept)
    assert (
        kept.val["loss"] == pytest.approx(min(row.val["loss"] for row in found.history), abs=2e-4)
        and kept.stage == "fine-tune"
    )
    assert evaluated(found.model, staged)[0] == pytest.approx(kept.val["loss"], rel=5e-3)


# The plan


@pytest.fixture(scope="module")
def v2() -> Network:
    backbone = build_backbone(backbones.get("mobilenet_v2"), 0.35, (32, 32))
    return assemble(backbone, ("a", "b"), binary=True, dropout=0.0, seed=0)


def planned(network: Network, images: int, **settings: Any) -> Any:
    row = backbones.get("mobilenet_v2")
    config = TrainConfig(augment="light").replace(**settings)
    found = plan_transfer(config, row, cut_layer(row, config.unfreeze, network.backbone), network, images)
    return found.cut.setting, found.epochs, found.views


def test_a_plan_follows_from_images_and_network(v2: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning.tf.config, "list_physical_devices", lambda kind: [])
    work = multiply_adds_above(v2)[cut_layer(backbones.get("mobilenet_v2"), "5", v2.backbone).layer]
    monkeypatch.setattr(planning, "FINE_TUNE_WORK", 1000 * 5.5 * work)
    assert planned(v2, 1000) == ("5", 5, 3)
    assert planned(v2, 10) == ("11", 8, 3), "so few images can train all blocks on coarse maps"
    assert planned(v2, 10, unfreeze="5") == ("5", 8, 3)
    setting, epochs, views = planned(v2, 10_000)  # 2 epochs of 5 blocks are 4 times what may be spent
    assert int(setting) < 5 and (epochs, views) == (2, 2)
    assert planned(v2, 10_000, unfreeze="5") == ("5", 2, 2)
    assert planned(v2, 1000, augment="none") == ("5", 5, 1)
    assert planned(v2, 1000, views=0) == ("5", 5, 0)
    depth, *rest = planned(v2, 1000, views=7, fine_tune_epochs=2)
    assert int(depth) > 5 and rest == [2, 7], "fewer epochs leave room for more blocks"
    assert planned(v2, 10, unfreeze="all") == ("all", 8, 0)
    assert planned(v2, 10, fine_tune_epochs=0) == ("5", 0, 1)
    assert planned(v2, 10, fine_tune_epochs=0, views=4) == ("5", 0, 4)
    monkeypatch.setattr(planning.tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert planned(v2, 1000) == ("5", 5, 0)


def test_multiply_adds_above_a_cut_are_counted_by_hand() -> None:
    image = keras.Input((8, 8, 3), name="image")
    low = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="low")(image)
    high = keras.layers.Conv2D(5, 1, use_bias=False, name="high")(low)
    network = assemble(keras.Model(image, high), ("a", "b"), binary=True, dropout=0.0, seed=0)
    above = multiply_adds_above(network)
    assert (above["high"], above["low"], above["image"]) == (0, 64 * 4 * 5, 64 * 4 * 5 + 64 * 27 * 4)
    assert np.all(np.diff(list(above.values())) >= 0)
