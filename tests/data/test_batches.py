from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgclf.data import batches as module
from imgclf.data.batches import DecodedImages, batches, place_for
from imgclf.data.imageset import StagedSet
from imgclf.data.inspect import inspect
from imgclf.data.scan import scan
from imgclf.data.split import assign_parts
from imgclf.data.stage import stage
from imgclf.pixels import load_for_model

SIZE = (20, 24)


@pytest.fixture(scope="module")
def staged(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    return stage(assign_parts(inspect(scan(photos))), tmp_path_factory.mktemp("stage") / "stage", SIZE)


def gathered(dataset: Any) -> tuple[Any, Any]:
    pairs = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    return np.concatenate([images for images, _ in pairs]), np.concatenate([labels for _, labels in pairs])


@pytest.fixture(params=["memory", "file", "nothing"])
def kept(request: pytest.FixtureRequest, staged: StagedSet, monkeypatch: pytest.MonkeyPatch) -> DecodedImages:
    monkeypatch.setattr(module, "place_for", lambda size, folder: request.param)
    return DecodedImages(staged, "train", SIZE, 8, seed=3)


def test_every_place_gives_the_images_in_their_order(kept: DecodedImages, staged: StagedSet) -> None:
    images, labels = gathered(kept.in_order())
    assert images.shape == (kept.count, *SIZE, 3) and images.dtype == np.float32
    assert labels.argmax(1).tolist() == [image.label for image in staged.parts["train"]]
    for found, image in zip(images, staged.parts["train"], strict=True):
        if image.source.suffix == ".png":  # a JPEG is decoded a little otherwise by Pillow; kept images are rounded
            np.testing.assert_allclose(found, load_for_model(image.source, *SIZE), atol=0.51)


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(kept: DecodedImages) -> None:
    ordered, _ = gathered(kept.in_order())
    first, again, second = (gathered(kept.epoch(number))[0] for number in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second) and not np.array_equal(first, ordered)
    for epoch in (first, second):
        np.testing.assert_allclose(np.sort(epoch.sum((1, 2, 3))), np.sort(ordered.sum((1, 2, 3))), rtol=1e-5)
    assert kept.steps == -(-kept.count // 8)


def test_statistics_are_those_of_all_pixels(kept: DecodedImages) -> None:
    images, _ = gathered(kept.in_order())
    mean, deviation = kept.statistics()
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(deviation, images.std((0, 1, 2)), rtol=1e-3)


def test_grey_reading_is_the_luma_that_predict_reads(staged: StagedSet) -> None:
    images, _ = gathered(batches(staged, "train", SIZE, channels=1))
    assert images.shape[-1] == 1
    for found, image in zip(images, staged.parts["train"], strict=True):
        if image.source.suffix == ".png":
            np.testing.assert_allclose(found, load_for_model(image.source, *SIZE, channels=1), atol=0.01)


def test_the_place_depends_on_what_is_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Memory:
        available = 4000

    class Disk:
        free = 10_000

    monkeypatch.setattr(module.psutil, "virtual_memory", Memory)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Disk)
    assert [place_for(size, tmp_path) for size in (1000, 1001, 5000, 5001)] == ["memory", "file", "file", "nothing"]
