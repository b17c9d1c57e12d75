import os
import zipfile
from pathlib import Path

import pytest

from imgclf.data.inspect import inspect
from imgclf.data.sources import open_source
from imgclf.errors import InputError
from tests.conftest import draw, write_photos

CLASSES = ("Café", "bus", "car")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", CLASSES, 2)


def packed(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def table(folder: Path, path: Path, column: str = "path") -> Path:
    rows = [f"{os.path.relpath(file, path.parent)},{file.parent.name}\n" for file in folder.rglob("*.png")]
    path.write_text("".join([f"{column},label\n", *rows]), encoding="utf-8")
    return path


def what(images):
    """What must be the same from every source: labels and contents."""
    return [(image.label, image.part, image.key) for image in inspect(images, workers=0).images]


def test_a_folder_a_table_and_an_archive_end_in_the_same_set(folder, tmp_path):
    expected = open_source(folder)
    assert (expected.classes, len(expected.images)) == (("Café", "bus", "car"), 6)
    archive, csv = packed(folder, tmp_path / "photos.zip"), table(folder, tmp_path / "labels.CSV")
    within = table(folder, folder / "labels.csv")
    for images in (
        open_source(archive),
        open_source(csv),
        open_source(None, csv=csv),
        open_source(folder, csv=csv),
        open_source(folder, csv=within),
        open_source(tmp_path, csv=Path(csv.rename(tmp_path / "labels.txt"))),
        open_source(archive, csv=tmp_path / "labels.txt"),
    ):
        assert images.classes == expected.classes
        assert what(images) == what(expected)


def test_a_table_beside_an_archive(folder, tmp_path):
    archive, csv = packed(folder, tmp_path / "photos.zip"), table(folder, tmp_path / "labels.csv")
    folder.rename(tmp_path / "away")
    images = open_source(archive, csv=csv)
    assert len(images.images) == 6 and all(image.path.is_relative_to(images.root) for image in images.images)


def test_a_folder_may_be_called_like_a_table_or_an_archive(tmp_path):
    for name in ("photos.csv", "photos.zip"):
        assert open_source(write_photos(tmp_path / name, ("a", "b"), 1)).classes == ("a", "b")


@pytest.mark.parametrize(
    "classes, exclude, left",
    [
        ((), (), ("Café", "bus", "car")),
        (("car", "bus"), (), ("bus", "car")),
        (("CAR", " Bus ", "cafe\u0301"), (), ("Café", "bus", "car")),
        (("bus", "bus", "CAFÉ"), (), ("Café", "bus")),
        ((), ("Bus",), ("Café", "car")),
        (("bus", "car", "café"), ("café",), ("bus", "car")),
        (("bus", "car"), ("Café",), ("bus", "car")),
    ],
)
def test_classes_are_taken_and_left_out_by_name(folder, classes, exclude, left):
    images = open_source(folder, classes=classes, exclude_classes=exclude)
    assert images.classes == left
    assert {image.label for image in images.images} == set(left)
    assert len(images.images) == 2 * len(left)


def test_parts_and_the_rest_stay_when_classes_are_chosen(tmp_path):
    for part in ("train", "val"):
        write_photos(tmp_path / part, ("a", "b", "c"), 1)
    (tmp_path / "train/c/notes.txt").write_bytes(b"")
    images = open_source(tmp_path, exclude_classes=["a"])
    assert images.has_parts and images.ignored_counts == {"not an image": 1}
    assert [(image.part, image.label) for image in images.images] == [
        ("train", "b"),
        ("train", "c"),
        ("val", "b"),
        ("val", "c"),
    ]


def test_classes_of_a_table_too(folder, tmp_path):
    csv = table(folder, tmp_path / "labels.csv")
    assert open_source(csv, exclude_classes=["bus"]).classes == ("Café", "car")


def test_an_exact_name_comes_before_another_letter_case(tmp_path):
    csv = tmp_path / "labels.csv"
    labels = ("cat", "Cat", "dog", "DOG", "emu")
    for number, _ in enumerate(labels):
        draw(0, number).save(tmp_path / f"{number}.png")
    csv.write_text("path,label\n" + "".join(f"{number}.png,{label}\n" for number, label in enumerate(labels)))
    assert open_source(csv, classes=["cat", "EMU"]).classes == ("cat", "emu")
    with pytest.raises(InputError) as caught:
        open_source(csv, classes=["CAT", "emu"])
    assert caught.value.what == "--classes names 'CAT', which may be 'Cat' or 'cat'"


def test_unknown_names_suggest_the_nearest_and_list_all(folder, tmp_path):
    with pytest.raises(InputError) as caught:
        open_source(folder, classes=["bus", "Carr"])
    assert caught.value.what == f"--classes names 'Carr', which is no class of {folder}"
    assert caught.value.fix == "did you mean 'car'? the classes are Café, bus, car"
    with pytest.raises(InputError, match=r"--exclude-classes names 'zebra'.*; the classes are Café, bus, car"):
        open_source(folder, exclude_classes=["zebra"])
    csv = tmp_path / "many.csv"
    for number in range(25):
        draw(0, number).save(tmp_path / f"{number:02}.png")
    rows = [f"{number:02}.png,{number:02}\n" for number in range(25)]
    csv.write_text("".join(["path,label\n", *rows]))
    with pytest.raises(InputError, match=r"18, 19 and 5 more$"):
        open_source(csv, classes=["zebra"])


@pytest.mark.parametrize("classes, exclude, left", [(("bus",), (), "only 'bus'"), ((), CLASSES, "none"),
                                                    (("bus", "car"), ("bus",), "only 'car'")])  # fmt: skip
def test_one_class_is_not_enough(folder, classes, exclude, left):
    with pytest.raises(InputError, match=f"{left} is left; choose two or more of Café, bus, car"):
        open_source(folder, classes=classes, exclude_classes=exclude)


def test_what_is_not_there_or_too_much(folder, tmp_path):
    csv = table(folder, tmp_path / "labels.csv")
    for arguments, message in (
        ({"data": None}, "no images are given"),
        ({"data": csv, "csv": csv}, "two tables are given"),
        ({"data": tmp_path / "absent.zip"}, r"there is no file .*absent\.zip"),
        ({"data": tmp_path / "absent.csv"}, r"there is no file .*absent\.csv"),
        ({"data": None, "csv": tmp_path / "absent.txt"}, r"there is no file .*absent\.txt"),
        ({"data": tmp_path / "absent"}, "there is no folder"),
        ({"data": tmp_path / "absent", "csv": csv}, "there is no folder"),
        ({"data": folder / "bus/bus 0.png"}, "is a file"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(**arguments)


def test_errors_name_the_archive_and_not_the_folder_in_the_cache(tmp_path):
    archive = packed(write_photos(tmp_path / "one", ("only",), 2), tmp_path / "one.zip")
    two = packed(write_photos(tmp_path / "two", ("a", "b"), 2), tmp_path / "two.zip")
    with pytest.raises(InputError) as caught:
        open_source(archive)
    assert caught.value.what.startswith(f"{archive} holds only one class")
    with pytest.raises(InputError) as caught:
        open_source(two, classes=["x"])
    assert caught.value.what.endswith(f"which is no class of {two}")
