from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.split import assign_parts, leaks, read_rows, read_split, write_split
from imgclf.data.split import test_part as part_for_test
from imgclf.errors import InputError

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
    assert {key: {part} for key, part in read_split(path).items()} == parts_by_key(split)
    assert [each.path for each in part_for_test(path, ROOT)] == [each.path for each in split.part("test")]
    assert [file.name for file in tmp_path.iterdir()] == ["split.csv"]


def test_a_key_in_several_parts_counts_as_the_last(tmp_path):
    made = [image(label, f"{n}.jpg", part="train") for label in "ab" for n in range(9)]
    made += [image("a", "copy.jpg", "a-3.jpg", "test")]
    write_split(assign_parts(image_set(made, has_parts=True)), tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv")["a-3.jpg"] == "test"


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "cannot be read"),
        ("", "is no split"),
        ("a,b\n", "is no split"),
        ("path,label,part,key\nx,y,train\n", "row 2"),
        ("path,label,part,key\nx,y,holdout,k\n", "row 2"),
    ],
)
def test_damaged_split_files_are_named(tmp_path, text, message):
    path = tmp_path / "split.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_split(path)
    assert str(path) in str(caught.value)
