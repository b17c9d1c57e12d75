import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclf.data.bonds import bonds, contradictions, doubted
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.split import (
    assign_folds,
    assign_parts,
    default_share,
    earlier_parts,
    leaks,
    with_groups,
    without_leaks,
)
from imgclf.data.split_file import SplitRow, images_in, read_rows, write_split
from imgclf.errors import InputError
from tests.data.drawing import picture
from tests.data.test_bonds import film, images_with_bonds
from tests.data.test_similar import pair

ROOT = Path("photos")


def image(label, name, key=None, part="", verdict="fine"):
    folder = ROOT / part / label if part else ROOT / label
    return ImageFile(folder / name, label, part, key or f"{label}-{name}", "JPEG", 8, 8, verdict)


def image_set(images, has_parts=False):
    images = tuple(images)
    return ImageSet(ROOT, tuple(sorted({image.label for image in images})), images, {}, has_parts)


def classes(**sizes):
    return image_set(image(label, f"{n}.jpg") for label, size in sizes.items() for n in range(size))


def parts_by_key(images):
    parts = defaultdict(set)
    for each in images.usable:
        parts[each.key].add(each.part)
    return parts


def numbers(images):
    counts = images.counts()
    return {
        label: tuple(counts.get(part, Counter())[label] for part in ("train", "val", "test"))
        for label in images.classes
    }


@st.composite
def datasets(draw):
    """Up to 4 classes of 3 to 40 distinct images each, some of them present in several copies, also across classes."""
    sizes = draw(st.lists(st.integers(3, 40), min_size=1, max_size=4))
    images = [image(f"class{c}", f"{n}.jpg") for c, size in enumerate(sizes) for n in range(size)]
    for copy, source in enumerate(draw(st.lists(st.sampled_from(images), max_size=8))):
        label = draw(st.sampled_from([source.label, *{each.label for each in images}]))
        images.append(image(label, f"copy{copy}.jpg", key=source.key))
    return image_set(images)


@settings(max_examples=150, deadline=None)
@given(images=datasets(), seed=st.integers(0, 10**9))
def test_a_split_is_a_partition_that_keeps_duplicates_together(images, seed):
    try:
        split = assign_parts(images, seed=seed)
    except InputError:
        # only where nearly everything lies in several classes
        own = Counter(next(iter(labels)) for labels in labels_by_key(images).values() if len(labels) == 1)
        assert all(number < 2 for number in own.values())
        return
    assert Counter(each.path for each in split.images) == Counter(each.path for each in images.images)
    assert {each.part for each in split.images} <= {"train", "val", "test"}
    assert all(len(parts) == 1 for parts in parts_by_key(split).values())
    assert all(train >= 1 for train, _, _ in numbers(split).values())
    assert all(each.part == "" for each in images.images)


def labels_by_key(images):
    labels = defaultdict(set)
    for each in images.images:
        labels[each.key].add(each.label)
    return labels


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(3, 200), min_size=1, max_size=4),
    val=st.floats(0.05, 0.3),
    test=st.floats(0.05, 0.3),
    seed=st.integers(0, 1000),
)
def test_each_class_has_its_shares_to_within_one_image(sizes, val, test, seed):
    images = classes(**{f"class{number}": size for number, size in enumerate(sizes)})
    for (n_train, n_val, n_test), size in zip(
        numbers(assign_parts(images, val, test, seed)).values(), sizes, strict=True
    ):
        assert min(n_train, n_val, n_test) >= 1
        assert abs(n_val - val * size) <= 1
        assert abs(n_test - test * size) <= 1
        assert n_train + n_val + n_test == size


@settings(max_examples=100, deadline=None)
@given(images=datasets(), seed=st.integers(0, 1000), data=st.data())
def test_renaming_and_reordering_change_nothing(images, seed, data):
    shuffled = data.draw(st.permutations(images.images))
    renamed = image_set(
        replace(each, path=ROOT / each.label / f"other{number}.png") for number, each in enumerate(shuffled)
    )
    try:
        expected = parts_by_key(assign_parts(images, seed=seed))
    except InputError:
        with pytest.raises(InputError):
            assign_parts(renamed, seed=seed)
    else:
        assert parts_by_key(assign_parts(renamed, seed=seed)) == expected


def test_the_seed_decides():
    images = classes(cat=50, dog=50)
    splits = [parts_by_key(assign_parts(images, seed=seed)) for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_small_classes_fill_train_then_test_then_val():
    split = assign_parts(classes(one=1, two=2, three=3, twenty=20))
    assert numbers(split) == {"one": (1, 0, 0), "two": (1, 0, 1), "three": (1, 1, 1), "twenty": (14, 3, 3)}


def test_shares_of_zero_make_no_such_part():
    split = assign_parts(classes(a=10, b=10), val_share=0.2, test_share=0.0)
    assert numbers(split) == {"a": (8, 2, 0), "b": (8, 2, 0)}
    split = assign_parts(classes(a=1, b=1), val_share=0, test_share=0)
    assert numbers(split) == {"a": (1, 0, 0), "b": (1, 0, 0)}


def test_a_picture_in_two_classes_is_trained_on_and_never_measured():
    both = [image(label, "same.jpg", key="same") for label in ("cat", "dog")]
    for seed in range(20):
        split = assign_parts(image_set([*classes(cat=10, dog=10).images, *both]), seed=seed)
        assert parts_by_key(split)["same"] == {"train"}


def test_unreadable_files_get_no_part():
    images = image_set([*classes(a=5, b=5).images, image("a", "bad.jpg", verdict="unreadable")])
    split = assign_parts(images)
    assert [each.part for each in split.images if each.verdict == "unreadable"] == [""]


def test_ready_made_parts_are_kept():
    made = [image(label, f"{n}.jpg", f"{part}{label}{n}", part) for part in ("train", "val", "test")
            for label in "ab" for n in range(4)]  # fmt: skip
    images = image_set(made, has_parts=True)
    assert set(assign_parts(images).images) == set(images.images)


@pytest.mark.parametrize("missing", [("val",), ("test",), ("val", "test")])
def test_missing_parts_are_taken_from_train(missing):
    made = [image(label, f"{n}.jpg", f"{part}{label}{n}", part) for part in ("train", "val", "test")
            if part not in missing for label in "ab" for n in range(20)]  # fmt: skip
    split = assign_parts(image_set(made, has_parts=True))
    for train, val, test in numbers(split).values():
        assert (val, test) == tuple(3 if part in missing else 20 for part in ("val", "test"))
        assert train == 20 - 3 * len(missing)


def test_leaks_between_ready_made_parts_are_reported_and_kept():
    made = [image(label, f"{n}.jpg", part="train") for label in "ab" for n in range(10)]
    made += [image("a", "copy.jpg", "a-3.jpg", "test"), image("b", "x.jpg", "a-3.jpg", "test")]
    split = assign_parts(image_set(made, has_parts=True))
    pairs = [(first.path.name, first.part, second.path.name, second.part) for first, second in leaks(split)]
    assert pairs == [("3.jpg", "train", "copy.jpg", "test"), ("3.jpg", "train", "x.jpg", "test")]
    assert leaks(assign_parts(classes(a=10, b=10))) == []


@pytest.mark.parametrize(
    "images, message",
    [
        (classes(cat=1, dog=1), r"too few images to set a validation part aside \(cat 1, dog 1\)"),
        (classes(cat=2, dog=2), r"too few images to set a validation part aside \(cat 2, dog 2\)"),
        (
            image_set([image("a", "1.jpg", part="train"), image("b", "1.jpg", part="test")], has_parts=True),
            r"the class 'b' in photos has no training image \(a 1, b 1\)",
        ),
    ],
)
def test_too_few_images_is_an_error_with_the_numbers(images, message):
    with pytest.raises(InputError, match=message):
        assign_parts(images)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-0.1, 0.2), (1.2, 0.0)])
def test_shares_out_of_range(shares):
    with pytest.raises(InputError, match="leave nothing to train on"):
        assign_parts(classes(a=9, b=9), *shares)


def test_images_that_were_not_inspected_are_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="inspected"):
        assign_parts(image_set([ImageFile(ROOT / "a/1.jpg", "a")]))


def test_split_csv_round_trip(tmp_path):
    images = image_set([*classes(cat=5, dog=5).images, image("cat", 'a "b", c\nd é \udce9.jpg', key="strange")])
    split = assign_parts(images)
    path = tmp_path / "split.csv"
    write_split(split, path)
    assert path.read_bytes().startswith(b"path,label,part,key\n")
    rows = read_rows(path)
    assert [(ROOT / row.path, row.label, row.part, row.key) for row in rows] == [
        (each.path, each.label, each.part, each.key) for each in split.images
    ]
    assert [each.path for each in images_in(path, ROOT, "test")] == [each.path for each in split.part("test")]
    assert [file.name for file in tmp_path.iterdir()] == ["split.csv"]


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "there is no file"),
        ("", "is empty"),
        ("a,b\n", "has no column path and no column part"),
        ("path,label,part,key\n,y,train,k\n", "row 2 .* has no path"),
        ("path,label,part,key\nx,y,holdout,k\n", "row 2"),
    ],
)
def test_damaged_split_files_are_named(tmp_path, text, message):
    path = tmp_path / "split.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)


# What belongs together


def part_of(images):
    return {each.path: each.part for each in images.usable}


def rows_of(images):
    return [SplitRow(images.name_of(each), each.label, each.part, each.key) for each in images.usable]


@st.composite
def bound_sets(draw):
    """Classes of 6 to 30 pictures, of which some are copies, nearly the same or of one group, also across classes."""
    images, pairs = draw(images_with_bonds())
    for label in "abc":
        images += [picture(f"{label}{number}", label) for number in range(draw(st.integers(6, 30)))]
    return image_set(images), pairs


@settings(max_examples=100, deadline=None)
@given(bound_sets(), st.integers(0, 1000))
def test_no_unit_is_torn_apart_and_contradictions_are_never_measured(drawn, seed):
    images, pairs = drawn
    split = assign_parts(images, seed=seed, pairs=pairs)
    parts, usable = part_of(split), images.usable
    for unit in bonds(usable, pairs):
        assert len({parts[usable[index].path] for index in unit}) == 1
    for unit in contradictions(usable, pairs):
        assert {parts[usable[index].path] for index in unit} == {"train"}
    assert all(train >= 1 for train, _, _ in numbers(split).values())
    assert leaks(split, pairs) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(20, 120), min_size=1, max_size=3), st.data())
def test_small_units_leave_each_class_within_one_image_of_its_share(sizes, data):
    images, pairs = [], []
    for label, size in zip("abc", sizes, strict=False):
        images += [picture(f"{label}{number}", label) for number in range(size)]
        twos = data.draw(st.integers(0, size // 4))  # up to half of the class is in twos
        pairs += [pair(f"{label}{2 * number}", f"{label}{2 * number + 1}") for number in range(twos)]
    split = assign_parts(image_set(images), 0.15, 0.2, pairs=pairs)
    for (train, val, test), size in zip(numbers(split).values(), sizes, strict=True):
        assert abs(val - 0.15 * size) <= 1
        assert abs(test - 0.2 * size) <= 1
        assert abs(train - 0.65 * size) <= 1.001


def test_large_units_come_as_near_to_the_shares_as_they_can():
    """Ten groups of ten: one and a half each to validate and to test cannot be had."""
    images = [
        picture(f"{label}{number}", label, group=f"{label}{number // 10}") for label in "ab" for number in range(100)
    ]
    for seed in range(10):
        for _, *measured in numbers(assign_parts(image_set(images), seed=seed)).values():
            assert set(measured) <= {10, 20}


def test_one_huge_group_still_leaves_every_part_something():
    images = [picture(f"a{number}", "a", group="g" if number < 90 else "") for number in range(100)]
    images += [picture(f"b{number}", "b") for number in range(10)]
    split = numbers(assign_parts(image_set(images)))
    assert split["a"][0] >= 90
    assert split["b"] == (6, 2, 2)
    whole = [picture(f"{label}{number}", label, group=label) for label in "ab" for number in range(30)]
    with pytest.raises(InputError, match="too few images to set a"):
        assign_parts(image_set(whole))


def test_what_a_large_unit_takes_too_much_of_is_missing_in_the_other_parts_alike():
    images = [picture(f"a{number}", "a", group="g" if number < 48 else "") for number in range(60)]
    images += [picture(f"b{number}", "b") for number in range(20)]
    assert numbers(assign_parts(image_set(images), 0.2, 0.2))["a"] == (48, 6, 6)
    twice = [picture("copy 1", "a", pixels="x"), *(picture(f"copy {n}", "b", pixels="x") for n in range(2, 20))]
    folds = assign_folds(image_set([*images, *twice]), 3)  # what contradicts itself is all in one fold
    assert all(min(row) >= 1 for fold in folds for row in numbers(fold).values())


def test_a_film_is_broken_up_into_scenes_that_are_kept_whole():
    frames, pairs = film(400, "ab")
    pairs = [each for each in pairs if each[:2] != ("f0199", "f0200")]
    copies = [replace(picture(f"copy{number}"), looks=frames[50].looks) for number in range(30)]
    split = assign_parts(image_set([*frames, *copies]), pairs=pairs)
    assert min(min(row) for row in numbers(split).values()) >= 29
    assert len({each.part for each in split.usable if each.looks == frames[50].looks}) == 1


# An earlier split


@settings(max_examples=60, deadline=None)
@given(bound_sets(), st.data())
def test_images_that_are_added_move_no_old_one_and_follow_what_they_are_like(drawn, data):
    images, pairs = drawn
    old = assign_parts(images, seed=1, pairs=pairs)
    likes = data.draw(st.lists(st.sampled_from(old.usable), max_size=5, unique=True))
    near = [picture(f"near{number}", each.label) for number, each in enumerate(likes)]
    pairs = [*pairs, *(pair(each.looks.pixels, new.looks.pixels) for each, new in zip(likes, near, strict=True))]
    copies = [replace(each, path=ROOT / each.label / f"copy{number}.jpg") for number, each in enumerate(likes)]
    fresh = [picture(f"new{number}", label) for label in "abcd" for number in range(data.draw(st.integers(0, 9)))]
    grown = image_set([replace(each, part="") for each in (*images.images, *near, *copies, *fresh)])
    new = part_of(assign_parts(grown, seed=2, pairs=pairs, earlier=rows_of(old)))
    before = part_of(old)
    assert {path: new[path] for path in before} == before
    for like, close, copy in zip(likes, near, copies, strict=True):
        assert new[close.path] == new[copy.path] == before[like.path]


def test_new_images_bring_the_shares_back():
    old = assign_parts(classes(a=100, b=100))
    left = [replace(each, part="") for each in old.images if each.part == "train"]
    grown = image_set([*left, *(image(label, f"new{number}.jpg") for label in "ab" for number in range(30))])
    assert numbers(assign_parts(grown, earlier=rows_of(old))) == {"a": (70, 15, 15), "b": (70, 15, 15)}


def test_an_edited_split_is_known_by_path_and_content_then_content_then_path():
    rows = [SplitRow("a/1.jpg", "a", "train", "k1"), SplitRow("a/2.jpg", "a", "val", "k1"),
            SplitRow("a/3.jpg", "a", "test", "k3"), SplitRow("a/4.jpg", "a", "val", "")]  # fmt: skip
    images = image_set([
        image("a", "unread.jpg", "k3", verdict="unreadable"),
        image("a", "1.jpg", "k1"),  # both copies keep what they have
        image("a", "2.jpg", "k1"),
        image("a", "moved.jpg", "k1"),  # of several parts the last
        image("a", "4.jpg", "k3"),  # content before path
        image("a", "3.jpg", "edited"),  # path where the content is new
        image("a", "5.jpg", "k5"),
    ])  # fmt: skip
    assert earlier_parts(images, rows) == {0: "train", 1: "val", 2: "val", 3: "test", 4: "test"}
    assert earlier_parts(images, rows[::-1]) == earlier_parts(images, rows)
    assert earlier_parts(images, []) == {}


def test_an_edited_part_is_kept_also_where_its_share_is_zero(tmp_path):
    path = tmp_path / "split.csv"
    write_split(assign_parts(classes(a=20, b=20), 0, 0.2), path)
    path.write_text(re.sub(r"(a/\d+\.jpg,a,)train", r"\1val", path.read_text(), count=2))
    again = assign_parts(classes(a=20, b=20), 0, 0.2, earlier=read_rows(path))
    assert numbers(again) == {"a": (14, 2, 4), "b": (16, 0, 4)}


def test_near_copies_of_ready_made_test_images_stay_in_train_and_do_not_validate():
    made = [picture(f"{part}{label}{number}", label, part)
            for part in ("train", "test") for label in "ab" for number in range(20)]  # fmt: skip
    pairs = [pair(f"traina{number}", f"testa{number}") for number in range(15)]
    near = {f"key traina{number}" for number in range(15)}
    for seed in range(5):
        split = assign_parts(image_set(made, has_parts=True), seed=seed, pairs=pairs)
        assert numbers(split) == {"a": (17, 3, 20), "b": (17, 3, 20)}
        assert {each.part for each in split.usable if each.key in near} == {"train"}


# Folds


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(3, 60), min_size=1, max_size=4), st.integers(3, 12), st.integers(0, 1000))
def test_folds_of_single_images_are_even(sizes, count, seed):
    images = classes(**{f"class{number}": max(size, count) for number, size in enumerate(sizes)})
    folds = assign_folds(images, count, seed)
    for part in ("test", "val"):
        assert Counter(each.path for fold in folds for each in fold.part(part)) == dict.fromkeys(part_of(images), 1)
    for number, fold in enumerate(folds):
        after = folds[(number + 1) % count]
        assert part_of(fold).keys() == part_of(images).keys()
        assert {each.path for each in fold.part("val")} == {each.path for each in after.part("test")}
        for label, size in Counter(each.label for each in images.images).items():
            assert abs(fold.counts()["test"][label] - size / count) <= 1.001


@settings(max_examples=60, deadline=None)
@given(bound_sets(), st.integers(3, 5))
def test_folds_tear_nothing_apart(drawn, count):
    images, pairs = drawn
    folds = assign_folds(images, count, pairs=pairs)
    assert len(folds) == count
    tested = Counter(each.path for fold in folds for each in fold.part("test"))
    unsure = {images.usable[index].path for unit in doubted(images.usable, pairs) for index in unit}
    assert tested == dict.fromkeys(part_of(images).keys() - unsure, 1)
    units = bonds(images.usable, pairs)
    for fold in folds:
        parts = part_of(fold)
        assert all(len({parts[images.usable[index].path] for index in unit}) == 1 for unit in units)


def test_folds_that_cannot_be_made():
    with pytest.raises(InputError, match="2 folds leave nothing to train on"):
        assign_folds(classes(a=9, b=9), 2)
    with pytest.raises(InputError, match="the class 'b' has 4 images, too few for 5 folds"):
        assign_folds(classes(a=9, b=4), 5)


# Groups


def test_groups_are_told_by_the_path():
    names = ["p1_a.jpg", "p1_b.jpg", "p2_a.jpg", "other.jpg"]
    images = image_set(image(label, name, f"{label}{name}") for label in ("cat", "dog") for name in names)

    def groups(pattern):
        return [each.group for each in with_groups(images, pattern).images]

    assert groups(r"p\d") == ["p1", "p1", "p2", ""] * 2
    assert groups(r"/(p\d)_") == ["p1", "p1", "p2", ""] * 2
    assert groups(r"^(\w+)/(p\d)") == ["cat/p1", "cat/p1", "cat/p2", "", "dog/p1", "dog/p1", "dog/p2", ""]
    assert groups(r"(p1)|(p2)") == ["p1/", "p1/", "/p2", ""] * 2
    assert groups(r"(p1)?_") == ["p1", "p1", "", ""] * 2  # what catches nothing names no group
    assert all(each.group == "" for each in images.images)


@pytest.mark.parametrize("pattern, message", [
    ("(", "is no regular expression"), ("patient", "matches no path, or catches nothing; .* a/0.jpg"),
    ("(x)?(y)?", "matches no path"), ("", "matches no path"),
])  # fmt: skip
def test_patterns_that_name_no_group(pattern, message):
    with pytest.raises(InputError, match=message):
        with_groups(classes(a=3, b=3), pattern)
    assert pattern == "(" or with_groups(classes(), pattern).images == ()


def test_groups_keep_what_they_have_and_bind():
    images = with_groups(with_groups(classes(a=60, b=60), r"(a)/1\d"), r"(b)/2\d")
    groups = defaultdict(set)
    for each in assign_parts(images).images:
        groups[each.group].add(each.part)
    assert {name: len(parts) for name, parts in groups.items()} == {"": 3, "a": 1, "b": 1}


# Leaks


def test_leaks_of_near_copies_and_what_is_left_without_them():
    parts = ("train", "val", "test")
    images = image_set((picture(f"{part}{n}", "ab"[n % 2], part) for part in parts for n in range(8)), has_parts=True)
    pairs = [pair("train0", "test0"), pair("train1", "val1"), pair("val1", "test1"), pair("train2", "train4")]
    found = [(first.key, second.key) for first, second in leaks(images, pairs)]
    assert found == [("key train1", "key val1"), ("key train0", "key test0"), ("key val1", "key test1")]
    kept = without_leaks(images, pairs)
    gone = {each.key for each in images.images} - {each.key for each in kept.images}
    assert gone == {"key train0", "key train1", "key val1"}
    assert leaks(kept, pairs) == []
    assert without_leaks(kept, pairs) == kept


@settings(max_examples=60, deadline=None)
@given(bound_sets(), st.data())
def test_without_leaks_there_are_none_and_the_test_part_is_whole(drawn, data):
    images, pairs = drawn
    part = st.sampled_from(["train", "val", "test"])
    parted = image_set((replace(each, part=data.draw(part)) for each in images.images), has_parts=True)
    kept = without_leaks(parted, pairs)
    assert leaks(kept, pairs) == []
    assert kept.part("test") == parted.part("test")
    assert bool(leaks(parted, pairs)) == (kept != parted)


def test_shares_by_default():
    assert default_share(100) == default_share(0) == 0.15
    assert default_share(100_000) == 0.05


def test_very_many_classes():
    """Work that grows with classes times images would take minutes here."""
    images = image_set(picture(f"{label} {number}", f"{label:04}") for label in range(1000) for number in range(20))
    assert set(numbers(assign_parts(images)).values()) == {(14, 3, 3)}
