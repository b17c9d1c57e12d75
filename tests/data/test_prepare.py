import csv
from collections import Counter

import numpy as np
import pytest

from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageSet
from imgclf.data.prepare import prepare, with_parts, write_parts
from imgclf.data.split_file import read_rows, write_split
from imgclf.errors import InputError
from tests.data.drawing import save, texture


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def flat(tmp_path):
    for label in range(2):
        for number in range(12):
            save(texture(100 * label + number, 40), tmp_path / "photos" / "ab"[label] / f"p{number // 3}_{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def parted(tmp_path):
    for part, size in (("train", 8), ("val", 3), ("test", 3)):
        for label in range(2):
            for number in range(size):
                seed = 1000 * len(part) + 100 * label + number
                save(texture(seed, 40), tmp_path / "photos" / part / "ab"[label] / f"{number}.png")
    return tmp_path / "photos"


def settings(**given):
    return TrainConfig(workers=0, **given)


def split_of(data, **given) -> tuple[ImageSet, tuple[str, ...]]:
    config = settings(**given)
    return with_parts(prepare(data, config), config)


def parts(images):
    return {images.name_of(image): image.part for image in images.usable}


def test_an_edited_split_goes_before_ready_made_parts(parted, tmp_path):
    images, _ = split_of(parted)
    write_split(images, tmp_path / "split.csv")
    text = (tmp_path / "split.csv").read_text().replace("train/a/0.png,a,train", "train/a/0.png,a,test")
    (tmp_path / "split.csv").write_text(text.replace(",", ";"))  # as a spreadsheet writes it
    edited, notes = split_of(parted, split=str(tmp_path / "split.csv"))
    assert parts(edited) == {**parts(images), "train/a/0.png": "test"}
    assert any("28 images, 0 new" in note for note in notes)


def test_a_split_of_other_images_is_an_error(flat, tmp_path):
    (tmp_path / "split.csv").write_text("path,label,part,key\nx.png,a,train,\n")
    with pytest.raises(InputError, match="knows none of the images"):
        split_of(flat, split=str(tmp_path / "split.csv"))


def test_groups_are_kept_together(flat):
    images, _ = split_of(flat, group_by=r"(p\d)_")
    where = {}
    for image in images.usable:
        where.setdefault(image.group, set()).add(image.part)
    assert len(where) == 4 and all(len(several) == 1 for several in where.values())


def test_drop_leaks_leaves_the_training_copies_out(parted):
    test = np.asarray(texture(1000 * len("test"), 40))
    save(test, parted / "train/a/copy of a test image.png")
    with_leak, _ = split_of(parted)
    without, notes = split_of(parted, drop_leaks=True)
    assert set(parts(with_leak)) - set(parts(without)) == {"train/a/copy of a test image.png"}
    assert any("1 image" in note for note in notes)


def test_a_class_that_corrections_leave_without_training_images_is_an_error(parted, tmp_path):
    for number in range(8):
        (parted / f"train/a/{number}.png").unlink()
    save(texture(1000 * len("test"), 40), parted / "train/a/the only one.png")
    with pytest.raises(InputError, match=r"the class 'a' .* has no training image"):
        split_of(parted, drop_leaks=True)


def test_folds_are_files_that_train_takes(flat, tmp_path):
    written = write_parts(flat, settings(), tmp_path / "split.csv", folds=3)
    assert [path.name for path, _ in written] == ["split-1.csv", "split-2.csv", "split-3.csv"]
    tested = Counter(row.path for path, _ in written for row in read_rows(path) if row.part == "test")
    assert tested == dict.fromkeys((f"{label}/p{n // 3}_{n}.png" for label in "ab" for n in range(12)), 1)
    images, _ = split_of(flat, split=str(written[1][0]))
    assert parts(images) == {row.path: row.part for row in read_rows(written[1][0])}


def test_folds_of_ready_made_parts_are_folds(parted, tmp_path):
    written = write_parts(parted, settings(), tmp_path / "split.csv", folds=3)
    tests = [
        frozenset(image.path for image in split_of(parted, split=str(path))[0].part("test")) for path, _ in written
    ]
    assert len(set(tests)) == 3


@pytest.mark.parametrize("option", [{"split": "x.csv"}, {"drop_leaks": True}, {"val_share": 0.2}, {"test_share": 0.2}])
def test_options_that_mean_nothing_for_folds_are_an_error(flat, tmp_path, option):
    with pytest.raises(InputError, match="means nothing for --folds"):
        write_parts(flat, settings(**option), tmp_path / "split.csv", folds=3)


def test_nothing_is_written_over(flat, tmp_path):
    (tmp_path / "split.csv").write_text("mine")
    with pytest.raises(InputError, match="is already there"):
        write_parts(flat, settings(), tmp_path / "split.csv")
    assert (tmp_path / "split.csv").read_text() == "mine"


def test_corrections_come_before_the_choice_of_classes(flat, tmp_path):
    for number in range(6):
        save(texture(500 + number, 40), flat / "c" / f"{number}.png")
    with (tmp_path / "fixes.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(
            [("path", "label", "action", "new_label"), ("photos/c/0.png", "c", "relabel", "a")]
        )
    images, _ = split_of(flat, fixes=str(tmp_path / "fixes.csv"), exclude_classes=("c",))
    assert images.classes == ("a", "b")
    assert Counter(image.label for image in images.usable) == {"a": 13, "b": 12}


def test_a_table_elsewhere_names_its_files_so_that_they_are_found_again(flat, tmp_path):
    (tmp_path / "tables").mkdir()
    rows = [("path", "label"), *((f"../photos/{label}/p{n // 3}_{n}.png", label) for label in "ab" for n in range(12))]
    with (tmp_path / "tables/labels.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    config = settings(csv=str(tmp_path / "tables/labels.csv"))
    images, _ = with_parts(prepare(None, config), config)
    write_split(images, tmp_path / "split.csv")
    assert all((images.root / row.path).is_file() for row in read_rows(tmp_path / "split.csv"))
    assert len(read_rows(tmp_path / "split.csv")) == 24
