import csv
import hashlib
import os
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgclf import pixels
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.inspect import inspect, problems, require_trainable
from imgclf.errors import InputError

SHARED = Path(os.environ.get("IMGCLF_SHARED", Path(__file__).resolve().parents[3] / "shared"))


@pytest.fixture
def photos(tmp_path):
    """Two classes with one ordinary file, one of each kind of trouble."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        colours = np.random.default_rng(len(name)).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(colours).save(tmp_path / name / "a_fine.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30), "red").save(tmp_path / "cat/b_turned.jpg", exif=exif)
    Image.new("CMYK", (40, 30)).save(tmp_path / "cat/c_cmyk.png", "JPEG")
    whole = (tmp_path / "cat/a_fine.jpg").read_bytes()
    (tmp_path / "cat/d_cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dog/e_page.jpg").write_text("<html>not found</html>")
    return tmp_path


def images_of(root):
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    images = tuple(ImageFile(path, path.relative_to(root).parts[0]) for path in paths)
    return ImageSet(root, tuple(sorted({image.label for image in images})), images)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_file_gets_a_verdict_with_its_reason(photos, workers):
    before = images_of(photos)
    after = inspect(before, workers=workers)
    found = {image.path.name: image for image in after.images if image.path.name != "a_fine.jpg"}
    fine = [image for image in after.images if image.path.name == "a_fine.jpg"]
    assert [(image.verdict, image.reason, image.format, image.width, image.height) for image in fine] == [
        ("fine", "", "JPEG", 40, 30)
    ] * 2
    turned = found["b_turned.jpg"]
    assert (turned.verdict, turned.reason, turned.width, turned.height) == ("repairable", "EXIF orientation 6", 30, 40)
    cmyk = found["c_cmyk.png"]
    assert (cmyk.verdict, cmyk.reason) == ("repairable", "CMYK; extension .png but the content is JPEG")
    cut = found["d_cut.jpg"]
    assert (cut.verdict, cut.width) == ("unreadable", 0)
    assert cut.reason == f"truncated after {cut.path.stat().st_size} bytes"
    assert found["e_page.jpg"].reason == "a web page, not an image"
    for image in after.images:
        assert image.key == hashlib.blake2b(image.path.read_bytes(), digest_size=16).hexdigest()
    assert all(image.verdict == "unchecked" for image in before.images)


def test_a_large_photo_keeps_its_real_size(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (3000, 2000), "green").save(tmp_path / "a/large.jpg")
    (image,) = inspect(images_of(tmp_path), workers=0).images
    assert (image.width, image.height, image.verdict) == (3000, 2000, "fine")


def test_each_unreadable_file_is_named_once(photos):
    after = inspect(images_of(photos), workers=1)
    cut = photos / "cat/d_cut.jpg"
    assert problems(after) == [
        f"{cut}: truncated after {cut.stat().st_size} bytes",
        f"{photos / 'dog/e_page.jpg'}: a web page, not an image",
    ]
    require_trainable(after)


def test_files_that_vanish_are_unreadable(photos):
    before = images_of(photos)
    (photos / "dog/a_fine.jpg").unlink()
    gone = [image for image in inspect(before, workers=1).images if image.path == photos / "dog/a_fine.jpg"]
    assert gone[0].verdict == "unreadable"
    assert gone[0].reason.startswith("cannot be opened")


def test_a_class_without_a_readable_image_is_named(photos):
    (photos / "dog/a_fine.jpg").unlink()
    after = inspect(images_of(photos), workers=0)
    assert after.classes == ("cat", "dog")
    with pytest.raises(
        InputError, match=r"the class 'dog' \(1 files\).*nothing but unreadable.*e_page.jpg: a web page"
    ):
        require_trainable(after)


def test_nothing_but_unreadable_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds nothing but unreadable files \(1\.jpg: empty file\)"):
        require_trainable(inspect(images_of(tmp_path), workers=0))


@pytest.mark.shared
def test_odd_images_never_crash_and_fine_ones_are_what_tensorflow_reads(tmp_path):
    import tensorflow as tf

    with tarfile.open(SHARED / "data/odd_images.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    with (tmp_path / "odd_images/MANIFEST.csv").open(encoding="utf-8") as file:
        loads = {row["file"]: row["pillow_13.0.0"].startswith("loads") for row in csv.DictReader(file)}
    (tmp_path / "odd_images/MANIFEST.csv").unlink()
    after = inspect(images_of(tmp_path))
    assert len(after.images) == len(loads) == 392
    verdicts = Counter(image.verdict for image in after.images)
    assert verdicts["fine"] + verdicts["repairable"] + verdicts["unreadable"] == 392
    assert verdicts["fine"] >= 30
    lost = [image.path.name for image in after.unreadable if loads[image.path.name]]
    assert lost == []
    assert all(image.reason and "\n" not in image.reason for image in after.images if image.verdict != "fine")
    for image in after.images:
        if image.verdict == "fine":
            theirs = tf.io.decode_image(image.path.read_bytes(), channels=3, expand_animations=False).numpy()
            ours = pixels.read(image.path).pixels
            assert np.abs(theirs.astype(np.float32) - ours).mean() < 3, image.path.name
