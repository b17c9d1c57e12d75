import errno
import os
import shutil
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgclf import pixels
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.inspect import inspect
from imgclf.data.split import assign_parts
from imgclf.data.stage import stage
from imgclf.errors import InputError, SetupError

SHARED = Path(os.environ.get("IMGCLF_SHARED", Path(__file__).resolve().parents[3] / "shared"))
SIZE = (16, 16)


def picture(seed, height=24, width=32):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def smooth(height, width):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 255 - 255 * x / width], -1).astype(np.uint8))


@pytest.fixture
def data(tmp_path):
    """Two classes of 6 fine files and, in one of them, something of everything."""
    root = tmp_path / "photos"
    for number, label in enumerate(("cat", "dog")):
        (root / label).mkdir(parents=True)
        for n in range(6):
            picture(10 * number + n).save(root / label / f"{n}.{'png' if n % 2 else 'jpg'}")
    shutil.copy(root / "cat/0.jpg", root / "cat/copy1.jpg")
    shutil.copy(root / "cat/0.jpg", root / "cat/copy2.jpg")
    shutil.copy(root / "cat/2.jpg", root / "cat/misnamed.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth(24, 32).save(root / "cat/turned.jpg", exif=exif, quality=95)
    smooth(24, 32).convert("P").save(root / "cat/palette.gif")
    smooth(24, 32).save(root / "cat/lossy.webp", quality=95)
    smooth(65, 200).save(root / "cat/large.png")
    smooth(64, 200).save(root / "cat/just_not_large.png")
    (root / "cat/broken.jpg").write_bytes(b"\xff\xd8\xff")
    return root


def inspected(root):
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    images = tuple(ImageFile(path, path.parent.name) for path in paths)
    found = ImageSet(root, tuple(sorted({image.label for image in images})), images)
    return assign_parts(inspect(found, workers=0))


def tree(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}


def test_every_usable_image_is_staged_once_by_its_key(data, tmp_path):
    images = inspected(data)
    staged = stage(images, tmp_path / "stage", SIZE, workers=0)
    assert (staged.classes, staged.folders) == (("cat", "dog"), ("0000", "0001"))
    everything = [item for items in staged.parts.values() for item in items]
    assert sorted(item.source for item in everything) == sorted(image.path for image in images.usable)
    parts = {image.path: image for image in images.images}
    for part, items in staged.parts.items():
        assert [item.path for item in items] == sorted(item.path for item in items)
        for item in items:
            image = parts[item.source]
            assert (image.part, image.label, image.key) == (part, staged.classes[item.label], item.key)
            assert item.path.parent == tmp_path / "stage" / part / f"{item.label:04d}"
            assert item.path.stem.split("-")[0] == image.key
    on_disk = set(tree(tmp_path / "stage")) - {"stage.txt"}
    assert on_disk == {item.path.relative_to(tmp_path / "stage").as_posix() for item in everything}
    for part in ("train", "val", "test"):
        assert sorted(path.name for path in (tmp_path / "stage" / part).iterdir()) == ["0000", "0001"]


def by_source(staged):
    return {item.source.name: item.path for items in staged.parts.values() for item in items if item.label == 0}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_fine_files_are_linked_and_the_others_repaired(data, tmp_path):
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    staged = by_source(stage(inspected(data), tmp_path / "stage", SIZE, workers=1))
    linked = {name for name, path in staged.items() if path.is_symlink()}
    assert linked == set(staged) - {"turned.jpg", "palette.gif", "lossy.webp", "large.png"}
    assert "broken.jpg" not in staged
    assert staged["misnamed.png"].suffix == ".jpg"
    assert staged["0.jpg"].readlink() == data / "cat/0.jpg"
    for name, suffix, size in (
        ("turned.jpg", ".jpg", (24, 32)),
        ("palette.gif", ".png", (32, 24)),
        ("lossy.webp", ".jpg", (32, 24)),
        ("large.png", ".png", (round(200 * 32 / 65), 32)),
    ):
        assert staged[name].suffix == suffix
        with Image.open(staged[name]) as repaired:
            assert (repaired.mode, repaired.size) == ("RGB", size)
            expected = pixels.shrink(pixels.read(data / "cat" / name).pixels, 16)
            assert np.abs(np.asarray(repaired).astype(float) - expected).mean() < 2
        assert pixels.read(staged[name]).repairs == ()
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_copies_of_one_picture_are_numbered(data, tmp_path):
    staged = by_source(stage(inspected(data), tmp_path / "stage", SIZE, workers=0))
    stems = sorted(staged[name].stem for name in ("0.jpg", "copy1.jpg", "copy2.jpg"))
    key = stems[0]
    assert stems == [key, f"{key}-1", f"{key}-2"]


def test_an_interrupted_stage_is_completed_and_tidied(data, tmp_path):
    images, folder = inspected(data), tmp_path / "stage"
    staged = by_source(stage(images, folder, SIZE, workers=0))
    kept = staged["large.png"]
    stamp = kept.stat().st_mtime_ns
    staged["lossy.webp"].unlink()
    staged["0.jpg"].unlink()
    staged["0.jpg"].symlink_to(data / "cat/absent.jpg")
    (folder / "train/0000/stale.jpg").write_bytes(b"")
    (folder / "train/0000/half.jpg.part").write_bytes(b"")
    (folder / "train/0007").mkdir()
    (folder / "train/0007/old.jpg").write_bytes(b"")
    again = stage(images, folder, SIZE, workers=0)
    assert by_source(again) == staged
    expected = {item.path for items in again.parts.values() for item in items}
    assert set(tree(folder).values()) == expected | {folder / "stage.txt"}
    assert all(path.is_file() for path in expected)
    assert kept.stat().st_mtime_ns == stamp
    assert staged["0.jpg"].readlink() == data / "cat/0.jpg"


def test_another_input_size_is_another_stage(data, tmp_path):
    images = inspected(data)
    first = by_source(stage(images, tmp_path / "stage", SIZE, workers=0))
    assert not first["large.png"].is_symlink()
    second = by_source(stage(images, tmp_path / "stage", (32, 32), workers=0))
    assert second["large.png"].is_symlink()
    third = by_source(stage(images, tmp_path / "stage", (8, 8), workers=0))
    with Image.open(third["large.png"]) as shrunk:
        assert min(shrunk.size) == 16


def test_where_links_fail_files_are_copied(data, tmp_path, monkeypatch):
    def refuse(self, target, target_is_directory=False):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    images = inspected(data)
    staged = by_source(stage(images, tmp_path / "stage", SIZE, workers=0))
    assert not any(path.is_symlink() for path in staged.values())
    assert staged["0.jpg"].read_bytes() == (data / "cat/0.jpg").read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in staged.values()}
    stage(images, tmp_path / "stage", SIZE, workers=0)
    assert {path: path.stat().st_mtime_ns for path in staged.values()} == stamps


@pytest.mark.parametrize("name", ["0.jpg", "turned.jpg"])
def test_files_that_vanish_after_inspection_are_named(data, tmp_path, name):
    images = inspected(data)
    (data / "cat" / name).unlink()
    with pytest.raises(InputError, match=rf"1 images could be read at first but not now \(.*{name}: "):
        stage(images, tmp_path / "stage", SIZE, workers=0)


def test_a_full_disk_is_one_line_with_the_space_needed(data, tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    images = inspected(data)
    monkeypatch.setattr(Path, "write_bytes", full)
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/stage.txt").write_text("16 x 16\n")
    with pytest.raises(SetupError, match=r"the disk is full: 4 images could not be prepared in .*; free about 1 MB"):
        stage(images, tmp_path / "stage", SIZE, workers=0)
    assert not [name for name in tree(tmp_path / "stage") if name.endswith(".part")]


def test_a_place_that_cannot_be_written_is_one_line(data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((SetupError, InputError), match="file"):
        stage(inspected(data), tmp_path / "file/stage", SIZE, workers=0)


def test_the_user_s_folder_is_never_written_to(data):
    with pytest.raises(InputError, match="lie in each other"):
        stage(inspected(data), data / "run/stage", SIZE, workers=0)


def test_images_without_parts_are_a_mistake_of_the_program(data, tmp_path):
    images = inspected(data)
    bare = images.with_images(replace(image, part="") for image in images.images)
    with pytest.raises(ValueError, match="parts"):
        stage(bare, tmp_path / "stage", SIZE, workers=0)


@settings(max_examples=15, deadline=None)
@given(
    orientation=st.integers(1, 8),
    format=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF"]),
    mode=st.sampled_from(["RGB", "L", "1"]),
    size=st.tuples(st.integers(6, 90), st.integers(6, 90)),
)
def test_whatever_comes_in_comes_out_ordinary(tmp_path_factory, orientation, format, mode, size):
    base = tmp_path_factory.mktemp("any")
    exif = Image.Exif()
    exif[0x0112] = orientation
    for label in "ab":
        (base / "data" / label).mkdir(parents=True)
        for n in range(3):
            picture(10 * ord(label) + n, *size).convert(mode).save(
                base / "data" / label / f"{n}.{format.lower()}", exif=exif
            )
    images = inspected(base / "data")
    staged = stage(images, base / "stage", (8, 8), workers=0)
    for items in staged.parts.values():
        for item in items:
            again, source = pixels.read(item.path), pixels.read(item.source)
            assert again.repairs == ()
            expected = pixels.shrink(source.pixels, 8)
            assert again.pixels.shape == expected.shape
            assert item.path.suffix == (".jpg" if format in ("JPEG", "WEBP") else ".png")


def test_keras_reads_the_stage_in_the_same_order(data, tmp_path):
    import keras

    staged = stage(inspected(data), tmp_path / "stage", SIZE, workers=0)
    dataset = keras.utils.image_dataset_from_directory(
        tmp_path / "stage/train", class_names=list(staged.folders), shuffle=False, image_size=SIZE, verbose=False
    )
    assert dataset.file_paths == [str(item.path) for item in staged.parts["train"]]
    labels = np.concatenate([labels.numpy() for _, labels in dataset])
    assert labels.tolist() == [item.label for item in staged.parts["train"]]


@pytest.mark.shared
def test_repaired_odd_images_and_turned_photos_decode_in_tensorflow(tmp_path):
    import tensorflow as tf

    for name in ("odd_images", "exif_orient"):
        with tarfile.open(SHARED / f"data/{name}.tar") as tar:
            tar.extractall(tmp_path / "data", filter="data")
    (tmp_path / "data/odd_images/MANIFEST.csv").unlink()
    images = inspected(tmp_path / "data")
    staged = stage(images, tmp_path / "stage", (96, 96), workers=2)
    items = [item for items in staged.parts.values() for item in items]
    assert len(items) == len(images.usable) > 290
    upright = {}
    for item in items:
        decoded = tf.io.decode_image(item.path.read_bytes(), channels=3, expand_animations=False).numpy()
        expected = pixels.read_shrunk(item.source, 96).pixels
        assert decoded.shape == expected.shape, item.source.name
        # one of them is coloured noise, on which JPEG is off by 3.1
        assert np.abs(decoded.astype(np.float32) - expected).mean() < 4, item.source.name
        if staged.classes[item.label] == "exif_orient":
            upright[item.source.stem] = pixels.stretch(decoded, 224, 224)
    for name, values in upright.items():
        assert np.abs(values - upright[name[:-1] + "1"]).mean() < 6, name
