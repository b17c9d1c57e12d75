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
from imgclf.models import backbones
from imgclf.models.build import build_backbone, cut_layer
from imgclf.models.network import Network, assemble
from imgclf.training import plan as planning
from imgclf.training.epoch import Epoch
from imgclf.training.plan import multiply_adds_above, plan_transfer
from imgclf.training.train import train
from tests.training.material import drawn_set, pretend, use_eager_engines

HEAD_ONLY = TrainConfig(backbone="tiny", image_size=16, epochs=6, fine_tune_epochs=0, augment="none", patience=9)


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    pretend(monkeypatch)


@pytest.fixture(scope="module", params=[3, 2], ids=["classes", "binary"])
def staged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    return drawn_set(tmp_path_factory.mktemp("stage") / "stage", request.param, train=8, val=5)


def evaluated(model: Any, staged: StagedSet) -> tuple[float, float]:
    """Keras' own evaluation of the finished model on the validation images: cross-entropy and accuracy."""
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(batches(staged, "val", (16, 16)), verbose=0)
    return loss, accuracy


VARIED = {"augment": "light", "views": 2, "dropout": 0.3, "loss": "focal"}


@pytest.mark.parametrize("changes", [{}, pytest.param(VARIED, marks=pytest.mark.slow)])
def test_the_finished_model_does_what_the_head_stage_measured(changes: dict[str, Any], staged: StagedSet) -> None:
    found = train(staged, replace(HEAD_ONLY, **changes))
    (kept,) = (row for row in found.history if row.kept)
    loss, accuracy = evaluated(found.model, staged)
    assert loss == pytest.approx(kept.val["loss"], rel=1e-3) and accuracy == pytest.approx(kept.val["accuracy"])
    assert kept.val["loss"] == pytest.approx(min(row.val["loss"] for row in found.history), abs=2e-4)
    assert found.model.output_shape == (None, len(staged.classes))
    (note,) = (line for line in found.notes if line.startswith("head: "))
    assert f"is best of {3 if 'dropout' in changes else 9} (cross-entropy" in note


def test_the_finished_model_does_what_fine_tuning_measured(staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    use_eager_engines(monkeypatch)
    found = train(staged, replace(HEAD_ONLY, epochs=1, fine_tune_epochs=3, unfreeze="2", batch_size=4,
                                  fine_tune_learning_rate=0.003, weight_average=0.5, head_search=False))  # fmt: skip
    (kept,) = (row for row in found.history if row.kept)
    assert kept.stage == "fine-tune"
    loss, accuracy = evaluated(found.model, staged)
    assert loss == pytest.approx(kept.val["loss"], rel=5e-3) and accuracy == pytest.approx(kept.val["accuracy"])


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
    assert planned(v2, 10) == ("5", 8, 3)
    setting, epochs, views = planned(v2, 10_000)  # 2 epochs of 5 blocks are 4 times what may be spent
    assert int(setting) < 5 and (epochs, views) == (2, 2)
    assert planned(v2, 10_000, unfreeze="5") == ("5", 2, 2)
    assert planned(v2, 1000, augment="none") == ("5", 5, 1)
    assert planned(v2, 1000, views=0) == ("5", 5, 0)
    assert planned(v2, 1000, views=7, fine_tune_epochs=2) == ("5", 2, 7)
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
