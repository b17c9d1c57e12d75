from dataclasses import replace

import numpy as np
from PIL import Image

from imgclf.data.imageset import ImageFile
from imgclf.data.inspect import inspect
from imgclf.data.overlap import overlap
from tests.data.drawing import images_of, save, texture
from tests.pictures import copy_of


def test_copies_and_near_copies_are_told_from_new_images_and_group_mates(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        save(texture(number), tmp_path / "trained/a" / f"{number}.png")
    save(texture(0), tmp_path / "asked/a/the same.png")
    save(np.asarray(copy_of(Image.fromarray(texture(1)), 0)), tmp_path / "asked/a/nearly.png")
    save(texture(50), tmp_path / "asked/a/new.png")
    trained = [replace(image, group="g") for image in inspect(images_of(tmp_path / "trained"), workers=0).images]
    asked = [replace(image, group="g") for image in images_of(tmp_path / "asked").images]
    found = overlap(asked, trained, workers=0)
    assert ([path.name for path in found.copies], [path.name for path in found.near], found.total) == (
        ["the same.png"], ["nearly.png"], 3,
    )  # fmt: skip
    gone = [ImageFile(tmp_path / "gone.png", "a", "train", image.key) for image in trained]
    assert [path.name for path in overlap(asked, gone, workers=0).copies] == ["the same.png"]
