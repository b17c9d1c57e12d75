"""What the tests of whole trainings share: a staged set at once, weights that pass for pretrained ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgclf.cut import features
from imgclf.cut.engine import KERAS, Engine
from imgclf.data.imageset import StagedImage, StagedSet
from imgclf.models.weights import WeightsFile
from imgclf.training import above
from imgclf.training import train as trainer
from tests.conftest import draw


def drawn_set(root: Path, classes: int = 3, train: int = 7, val: int = 3, side: int = 16) -> StagedSet:
    """Discs, bars and frames: so many of each class in each part."""
    parts = {}
    for part, first, count in (("train", 0, train), ("val", 1000, val)):
        images = []
        for label in range(classes):
            folder = root / part / f"{label:04d}"
            folder.mkdir(parents=True)
            for number in range(first, first + count):
                path = folder / f"{number:04d}.png"
                draw(label, number, side).save(path)
                images.append(StagedImage(path, path, label, f"{label}-{number}"))
        parts[part] = tuple(images)
    return StagedSet(root, tuple("abc"[:classes]), parts)


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights that the training takes for pretrained ones: both stages run, offline."""
    monkeypatch.setattr(trainer, "resolve_weights", lambda *_: WeightsFile(Path("x"), "pretended"))
    monkeypatch.setattr(trainer, "load_backbone_weights", lambda *_: None)


def eager_engine(model: Any, sample: Any, known: str = "", keep: Any = None) -> Engine:
    """An engine that costs nothing to build, and always the same one."""
    return Engine(KERAS, [lambda inputs: np.asarray(model(inputs, training=False))])


def use_eager_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (above, features):
        monkeypatch.setattr(module, "build_engine", eager_engine)


def weights(model: Any) -> list[Any]:
    return [np.asarray(value) for value in model.get_weights()]


def assert_same(one: Any, other: Any) -> None:
    """Two models have the same weights, to the last bit."""
    for before, after in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(before, after)
