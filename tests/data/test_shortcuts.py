from dataclasses import replace

import numpy as np
import pytest

from imgclf.data import shortcuts
from imgclf.data.known import Known
from imgclf.data.shortcuts import TELLS, find_shortcuts
from tests.data.drawing import looks, picture


@pytest.fixture
def known(tmp_path):
    with Known.open(tmp_path) as known:
        yield known


def images(label, number=30, seed=0, format="JPEG", side=400, **others):
    """Images whose looks are drawn at random, but for what is given: a number, or a range."""
    rng = np.random.default_rng((seed, *label.encode()))
    made = []
    for each in range(number):
        drawn = {
            "brightness": (0.2, 0.8),
            "colourfulness": (10, 80),
            "sharpness": (0.3, 0.9),
            "size": (2e4, 9e4),
            **others,
        }
        values = {name: rng.uniform(*bounds) for name, bounds in drawn.items()}
        values["size"] = int(values["size"])
        image = replace(picture(f"{label}{each}", label), width=side, height=side, format=format)
        made.append(replace(image, looks=looks(image.looks.pixels, **values)))
    return made


def test_nothing_where_classes_are_alike(known):
    assert find_shortcuts([image for label in "abcd" for image in images(label)], known) == ()


@pytest.mark.parametrize("given, name, inside", [
    ({"brightness": (0.02, 0.1)}, "brightness", "0.0"),
    ({"colourfulness": (0, 1)}, "colourfulness", "0"),
    ({"side": 900}, "image size", "900 pixels a side"),
    ({"format": "PNG"}, "file format", "PNG"),
])  # fmt: skip
def test_a_class_that_differs_in_one_property_is_named(known, given, name, inside):
    found = find_shortcuts([*images("a"), *images("b"), *images("c"), *images("odd", **given)], known)
    assert {(each.name, each.label) for each in found if each.name == name} == {(name, "odd")}
    assert {each.label for each in found} == {"odd"}
    first = next(each for each in found if each.name == name)
    assert TELLS <= first.accuracy <= 1
    assert first.inside.startswith(inside)
    assert first.inside != first.outside


def test_the_aspect_ratio_of_a_class(known):
    wide = [replace(image, width=800) for image in images("wide")]
    found = find_shortcuts([*images("a"), *images("b"), *wide], known)
    ratio = next(each for each in found if each.name == "aspect ratio")
    assert (ratio.label, ratio.inside, ratio.outside) == ("wide", "2.00", "1.00")


def test_a_band_in_the_middle_is_found_too(known):
    bands = {"a": (0.1, 0.3), "b": (0.7, 0.9), "mid": (0.49, 0.51)}
    found = find_shortcuts([image for label, band in bands.items() for image in images(label, brightness=band)], known)
    assert {each.label for each in found} == {"a", "b", "mid"}


@pytest.mark.parametrize("number, found", [(19, set()), (20, {"few"})])
def test_a_class_of_a_few_images_is_not_judged(known, number, found):
    told = find_shortcuts([*images("a"), *images("b"), *images("few", number, brightness=(0.02, 0.1))], known)
    assert {each.label for each in told} == found


def test_one_odd_class_among_a_hundred_is_found(known):
    many = [image for number in range(100) for image in images(f"class {number}", 20)]
    found = find_shortcuts([*many, *images("odd", 20, brightness=(0.01, 0.02))], known)
    assert {(each.name, each.label) for each in found} == {("brightness", "odd")}


def test_the_most_telling_comes_first_and_the_order_of_images_does_not_matter(known, tmp_path):
    every = [*images("a"), *images("b"), *images("c", brightness=(0.02, 0.1), sharpness=(0.75, 0.95))]
    found = find_shortcuts(every, known)
    assert [each.accuracy for each in found] == sorted((each.accuracy for each in found), reverse=True)
    with Known.open(tmp_path / "other") as other:
        assert find_shortcuts(every[::-1], other) == found


def test_the_second_time_nothing_is_computed(known, monkeypatch):
    every = [*images("a"), *images("b"), *images("c", brightness=(0.02, 0.1))]
    found = find_shortcuts(every, known)

    def find(_):
        raise AssertionError("computed again")

    monkeypatch.setattr(shortcuts, "_find", find)
    assert find_shortcuts(every[::-1], known) == found != ()
    with pytest.raises(AssertionError, match="computed again"):
        find_shortcuts([replace(every[0], label="b"), *every[1:]], known)


def test_of_very_many_images_a_sample_is_taken(known, monkeypatch):
    monkeypatch.setattr(shortcuts, "IMAGES_TRIED", 70)
    seen, find = [], shortcuts._find
    monkeypatch.setattr(shortcuts, "_find", lambda images: seen.extend(images) or find(images))
    find_shortcuts([*images("a", 100), *images("b", 100)], known)
    assert 50 <= len(seen) <= 70


def test_nothing_to_judge(known):
    assert find_shortcuts([], known) == ()
    assert find_shortcuts([replace(image, looks=None) for image in images("a")], known) == ()
    assert find_shortcuts(images("a"), known) == ()
