"""BatchNorm of a pretrained backbone moves in no stage, whatever its kind: Keras' `fit` moves it unless told.

What is trained here is also explained, because building every network of the table takes longer than either.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgclf.config import TrainConfig
from imgclf.models import backbones, pretrained
from imgclf.models.build import build_backbone
from imgclf.training import session
from imgclf.training import train as trainer
from imgclf.training.epoch import Epoch
from imgclf.training.fit import compile_for
from tests.explaining.maps import assert_explains
from tests.models.families import SCALED
from tests.training.material import drawn_set, pretend, use_eager_engines

QUICK = {"mobilenet"}
# the others are in the sweep: `tests/models/test_build.py` trains every network a step with BatchNorm held still
USUAL = {"mobilenet_v3_small": pytest.mark.slow, **dict.fromkeys(QUICK, ())}
ROWS = [pytest.param(row, id=row.name, marks=USUAL.get(row.name, pytest.mark.sweep)) for row in pretrained.ROWS
        if row.name not in SCALED]  # fmt: skip


def batchnorm(model: Any) -> dict[str, Any]:
    return {
        weight.path: weight.numpy() for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) for weight in layer.weights
    }  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_no_stage_moves_batchnorm(row: backbones.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at after every epoch, so that no restoring of better weights hides a movement.

    Step by step (`run_eagerly`), because a graph of a thousand layers takes longer to trace than its few steps to run.
    """

    def compile_eagerly(model: Any, *rest: Any, **options: Any) -> None:
        compile_for(model, *rest, **options)
        model.run_eagerly = True

    side = max(32, row.min_size)
    backbone = build_backbone(row, row.alphas[0], (side, side))
    rng = np.random.default_rng(0)
    for layer in backbone._flatten_layers():  # as trained ones have them: neither 0 nor 1
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()])
    before = batchnorm(backbone)
    kernels = [weight for weight in backbone.trainable_weights if weight.path not in before]
    old = [weight.numpy() for weight in kernels]
    seen: list[str] = []

    def watch(epoch: Epoch) -> None:
        seen.append(epoch.stage)
        for path, value in batchnorm(backbone).items():
            np.testing.assert_array_equal(value, before[path], err_msg=f"{epoch.stage}: {path}")
        moved = [not np.array_equal(weight.numpy(), value) for weight, value in zip(kernels, old, strict=True)]
        assert any(moved) == (epoch.stage == "fine-tune")

    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trainer, "build_backbone", lambda *_, **__: backbone)
    monkeypatch.setattr(session, "compile_for", compile_eagerly)
    use_eager_engines(monkeypatch)
    pretend(monkeypatch)
    staged = drawn_set(tmp_path / "stage", classes=2, train=2, val=1, side=side)
    unfrozen = ("auto", "all") if row.name in QUICK else ("all",)  # what "auto" trains is a part of it
    for unfreeze in unfrozen:
        config = TrainConfig(backbone=row.name, alpha=row.alphas[0], image_size=side, epochs=1, fine_tune_epochs=1,
                             unfreeze=unfreeze, batch_size=2, augment="none", head_search=False,
                             calibrate=False)  # fmt: skip
        found = trainer.train(staged, config, watch=watch)
        old = [weight.numpy() for weight in kernels]
    assert seen == ["head", "fine-tune"] * len(unfrozen)
    assert bool(before) == row.norm or row.name.startswith(("vgg", "convnext"))
    assert_explains(found.model, side, 1)
