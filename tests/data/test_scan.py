import os
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from imgclf.data.scan import find_image_files, scan
from imgclf.errors import InputError


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not read by scan")


def listed(found):
    return [(image.part, image.label, image.path.relative_to(found.root).as_posix()) for image in found.images]


def test_flat_class_folders_in_the_order_of_their_names(tmp_path):
    fill(tmp_path, "dog/b.JPG", "dog/a.png", "cat/z.jpeg", "Ant/1.webp")
    found = scan(tmp_path)
    assert found.classes == ("Ant", "cat", "dog")
    assert listed(found) == [
        ("", "Ant", "Ant/1.webp"),
        ("", "cat", "cat/z.jpeg"),
        ("", "dog", "dog/a.png"),
        ("", "dog", "dog/b.JPG"),
    ]
    assert (found.root, found.has_parts, found.ignored) == (tmp_path, False, {})


def test_nested_folders_belong_to_the_top_one_and_empty_ones_are_no_class(tmp_path):
    fill(tmp_path, "cat/2024/may/a.jpg", "cat/b.jpg", "dog/x/c.jpg", "notes/readme.txt")
    (tmp_path / "empty/inner").mkdir(parents=True)
    found = scan(str(tmp_path))
    assert found.classes == ("cat", "dog")
    assert [label for _, label, _ in listed(found)] == ["cat", "cat", "dog"]
    assert found.ignored_counts == {"not an image": 1, "class folder without images": 2}
    assert found.ignored["class folder without images"] == (str(tmp_path / "empty"), str(tmp_path / "notes"))


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "VALIDATION", "Testing"), ("TRAIN", "valid")])
def test_ready_made_parts_match_classes_by_name(tmp_path, names):
    train, val, *test = names
    fill(tmp_path, f"{train}/cat/1.jpg", f"{train}/dog/2.jpg", f"{train}/emu/3.jpg", f"{val}/dog/4.jpg")
    fill(tmp_path, *(f"{name}/emu/5.jpg" for name in test))
    found = scan(tmp_path)
    assert found.has_parts
    assert found.classes == ("cat", "dog", "emu")
    expected = [("train", "cat"), ("train", "dog"), ("train", "emu"), ("val", "dog")]
    assert [(part, label) for part, label, _ in listed(found)] == expected + [("test", "emu")] * len(test)


def test_train_and_test_without_validation(tmp_path):
    fill(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/b/2.jpg", "extra/c/3.jpg", "train/.DS_Store", "x.jpg")
    found = scan(tmp_path)
    assert [part for part, _, _ in listed(found)] == ["train", "train", "test"]
    assert found.ignored_counts == {
        "folder beside train/, val/ and test/": 1,
        "hidden or system file": 1,
        "image outside of a class folder": 1,
    }


def test_classes_that_are_called_like_parts_are_classes(tmp_path):
    fill(tmp_path, "train/1.jpg", "test/1.jpg", "bus/1.jpg")
    assert scan(tmp_path).classes == ("bus", "test", "train")
    assert not scan(tmp_path).has_parts


def test_parts_without_train_are_an_error(tmp_path):
    fill(tmp_path, "val/a/1.jpg", "val/b/1.jpg", "test/a/2.jpg")
    with pytest.raises(InputError, match="but no train/"):
        scan(tmp_path)


@pytest.mark.parametrize("inner", ["dataset", "dataset/images/all"])
def test_a_folder_around_everything_is_looked_through(tmp_path, inner):
    fill(tmp_path, f"{inner}/train/a/1.jpg", f"{inner}/train/b/1.jpg", f"{inner}/test/a/2.jpg", "__MACOSX/._a.jpg")
    found = scan(tmp_path)
    assert found.has_parts
    assert found.classes == ("a", "b")
    assert found.ignored_counts == {"hidden or system file": 1}


def test_a_lone_train_folder_is_looked_through(tmp_path):
    fill(tmp_path, "train/a/1.jpg", "train/b/1.jpg")
    assert (scan(tmp_path).classes, scan(tmp_path).has_parts) == (("a", "b"), False)


def test_junk_and_other_files_are_counted(tmp_path):
    fill(tmp_path, "a/1.jpg", "a/.DS_Store", "a/Thumbs.db", "a/._1.jpg", "a/desktop.ini", "a/.ipynb_checkpoints/1.jpg")
    fill(tmp_path, "b/1.jpg", "b/__MACOSX/2.jpg", "b/labels.csv", "b/run.py", "b/strange.xyz", "b/noextension", "x.jpg")
    found = scan(tmp_path)
    assert len(found.images) == 2
    expected = {"hidden or system file": 6, "not an image": 4, "image outside of a class folder": 1}
    assert found.ignored_counts == expected
    assert found.ignored["image outside of a class folder"] == (str(tmp_path / "x.jpg"),)
    assert found.ignored["not an image"] == tuple(
        str(tmp_path / "b" / name) for name in ("labels.csv", "noextension", "run.py", "strange.xyz")
    )
    assert "  hidden or system file: 6 (ignored)" in str(found).splitlines()


def test_files_without_a_telling_extension_are_sniffed(tmp_path):
    fill(tmp_path, "a/1.jpg", "b/1.jpg")
    for name, format in (("photo", "JPEG"), ("scan.0001", "PNG"), ("c.image", "WEBP"), ("d.img", "BMP")):
        Image.new("RGB", (4, 4)).save(tmp_path / "a" / name, format)
    Image.new("RGB", (4, 4)).save(tmp_path / "a/raw.dng", "TIFF")
    assert [path for _, label, path in listed(scan(tmp_path)) if label == "a"] == [
        "a/1.jpg",
        "a/c.image",
        "a/d.img",
        "a/photo",
        "a/scan.0001",
    ]


def test_names_that_differ_only_in_their_unicode_form_are_one_class(tmp_path):
    composed, decomposed = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    fill(tmp_path, f"train/{composed}/1.jpg", "train/tea/1.jpg", f"test/{decomposed}/2.jpg")
    assert scan(tmp_path).classes == (composed, "tea")
    flat = tmp_path / "flat"
    fill(flat, f"{composed}/1.jpg", f"{decomposed}/2.jpg", "tea/1.jpg")
    assert scan(flat).classes == (composed, "tea")
    assert len(scan(flat).images) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_are_followed_but_not_in_circles(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    fill(elsewhere, "1.jpg", "deep/2.jpg")
    data = tmp_path / "data"
    fill(data, "b/1.jpg", "b/inner/2.jpg")
    (data / "a").symlink_to(elsewhere)
    (elsewhere / "deep/up").symlink_to(elsewhere)
    (data / "b/inner/top").symlink_to(data)
    (data / "b/self").symlink_to(data / "b")
    (data / "b/gone.jpg").symlink_to(data / "absent.jpg")
    os.mkfifo(data / "b/pipe.jpg")
    found = scan(data)
    names = [path for _, _, path in listed(found)]
    assert [name for name in names if name.count("/") < 3] == ["a/1.jpg", "a/deep/2.jpg", "b/1.jpg", "b/inner/2.jpg"]
    assert found.ignored_counts["broken link"] >= 1
    assert found.ignored_counts["not an image"] >= 1


@pytest.mark.parametrize(
    "files, what, fix",
    [
        ([], "holds no class folders", "put the images of each class into a folder of its own"),
        (["1.jpg", "2.jpg"], "holds 2 images but no class folders", "folder of its own"),
        (["cat/1.jpg", "cat/2.jpg"], "holds only one class ('cat')", "two classes or more"),
        (["a/1.txt", "b/2.pdf"], "holds 2 folders but no images, only 2 files that are not images", "JPEG or PNG"),
    ],
)
def test_folders_that_are_no_data_say_what_was_seen(tmp_path, files, what, fix):
    fill(tmp_path, *files)
    with pytest.raises(InputError) as caught:
        scan(tmp_path)
    assert caught.value.what == f"{tmp_path} {what}"
    assert fix in caught.value.fix


def test_a_missing_folder_suggests_the_nearest_and_a_file_is_no_folder(tmp_path):
    fill(tmp_path, "photos/a/1.jpg", "archive.zip")
    with pytest.raises(InputError) as caught:
        scan(tmp_path / "photo")
    assert caught.value.fix == f"did you mean {tmp_path / 'photos'}?"
    with pytest.raises(InputError, match=r"archive\.zip is a file"):
        scan(tmp_path / "archive.zip")
    with pytest.raises(InputError, match="there is no folder"):
        scan(tmp_path / "nowhere/at/all")


def test_relative_folders(tmp_path, monkeypatch):
    fill(tmp_path, "a/1.jpg", "b/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert [image.path for image in scan(".").images] == [Path("a/1.jpg"), Path("b/1.jpg")]


def test_find_image_files_gives_all_images_below_a_folder(tmp_path):
    fill(tmp_path, "b.jpg", "a/1.png", "a/deep/2.gif", "a/notes.txt", ".hidden/3.jpg")
    found = [path.relative_to(tmp_path).as_posix() for path in find_image_files(tmp_path)]
    assert found == ["a/1.png", "a/deep/2.gif", "b.jpg"]
