from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from imgclf.data.bonds import GIANT, bonds, contradictions
from imgclf.data.similar import Pair
from tests.data.drawing import picture
from tests.data.test_similar import pair


def connected(count, edges):
    """Components by hand: every image starts alone, every edge merges two."""
    of = list(range(count))
    for first, second in edges:
        old, new = of[second], of[first]
        of = [new if each == old else each for each in of]
    units = defaultdict(list)
    for index, number in enumerate(of):
        units[number].append(index)
    return sorted(tuple(unit) for unit in units.values())


@st.composite
def images_with_bonds(draw, most=24):
    """Images whose keys, pixels and groups coincide now and then, and pairs between some of their pictures."""
    few = st.integers(0, 30)
    count = draw(st.integers(0, most))
    images = []
    for number in range(count):
        pixels = draw(few)
        copy = draw(st.booleans())
        key = f"key {pixels}" if copy else f"key {pixels} {number}"  # one key always means the same pixels
        group = draw(st.sampled_from(["", "", "", "p1", "p2"]))
        images.append(
            picture(f"{number}", draw(st.sampled_from("abc")), key=key, pixels=f"pixels {pixels}", group=group)
        )
    names = st.sampled_from([f"pixels {number}" for number in range(31)])
    edges = draw(st.lists(st.tuples(names, names, st.booleans()).filter(lambda edge: edge[0] != edge[1]), max_size=12))
    return images, [pair(*edge) for edge in edges]


def edges_of(images, pairs, groups=True):
    """Every reason for which two images belong together, looked for pair by pair."""
    near = {frozenset(each[:2]) for each in pairs}
    for i, one in enumerate(images):
        for j, other in enumerate(images[:i]):
            if (
                one.key == other.key
                or one.looks.pixels == other.looks.pixels
                or (groups and one.group and one.group == other.group)
                or frozenset((one.looks.pixels, other.looks.pixels)) in near
            ):
                yield i, j


@settings(max_examples=150, deadline=None)
@given(images_with_bonds())
def test_bonds_are_the_components_of_all_reasons(drawn):
    images, pairs = drawn
    units = bonds(images, pairs)
    assert sorted(units) == connected(len(images), edges_of(images, pairs))
    assert units == sorted(units)
    assert all(list(unit) == sorted(unit) for unit in units)


@settings(max_examples=150, deadline=None)
@given(images_with_bonds())
def test_contradictions_are_the_pictures_with_several_labels(drawn):
    images, pairs = drawn
    same = [each for each in pairs if each.same]
    units = connected(len(images), edges_of(images, same, groups=False))
    expected = [unit for unit in units if len({images[index].label for index in unit}) > 1]
    assert sorted(contradictions(images, pairs)) == expected


def test_images_without_looks_are_bound_by_their_keys_and_groups_only():
    known = [("k", ""), ("k", ""), ("l", "g"), ("m", "g"), ("n", "")]
    bare = [replace(picture(f"{number}", key=key, group=group), looks=None)
            for number, (key, group) in enumerate(known)]  # fmt: skip
    assert bonds(bare, [Pair("", "x", 0.9, True)]) == [(0, 1), (2, 3), (4,)]
    assert bonds([], []) == contradictions([], []) == []


def test_pairs_of_pictures_that_are_not_in_the_set_bind_nothing():
    images = [picture("a"), picture("b")]
    assert bonds(images, [pair("a", "gone"), pair("gone", "b")]) == [(0,), (1,)]


def film(frames, labels="a"):
    """A film: each frame is nearly the one before."""
    images = [picture(f"f{number:04}", labels[number * len(labels) // frames]) for number in range(frames)]
    pairs = [pair(one.looks.pixels, other.looks.pixels) for one, other in pairwise(images)]
    return images, pairs


def test_a_giant_chain_is_broken_up_into_what_is_alike_one_picture():
    images, pairs = film(200)
    near = {frozenset(each[:2]) for each in pairs}
    units = bonds(images, pairs)
    assert sorted(index for unit in units for index in unit) == list(range(200))
    assert max(map(len, units)) == 3
    for unit in units:
        names = [images[index].looks.pixels for index in unit]
        assert any(all(frozenset((centre, name)) in near for name in names if name != centre) for centre in names)
    assert len(bonds(*film(GIANT[0]))) == 1  # a short film stays whole


def test_a_chain_is_giant_only_when_it_is_much_of_the_set():
    images, pairs = film(60)
    others = [picture(f"other{number}") for number in range(1200)]
    assert max(map(len, bonds([*images, *others], pairs))) == 60


def test_exact_copies_and_groups_are_never_broken_up():
    images, pairs = film(200)
    copies = [picture(f"copy{number}", pixels="f0100") for number in range(70)]
    patient = [picture(f"p{number}", group="patient") for number in range(80)]
    units = bonds([*images, *copies, *patient], [*pairs, pair("p3", "f0003")])
    unit_of = {index: number for number, unit in enumerate(units) for index in unit}
    assert len({unit_of[index] for index in (100, *range(200, 270))}) == 1
    assert len({unit_of[index] for index in range(270, 350)}) == 1
    assert len(units) > 40


def test_breaking_a_giant_leaves_other_bonds_alone():
    images, pairs = film(200)
    others = [picture(name) for name in ("x1", "x2", "x3")]
    units = bonds([*images, *others], [*pairs, pair("x1", "x2"), pair("x2", "x3")])
    assert (200, 201, 202) in units


def test_a_film_that_changes_its_class_contradicts_itself_only_where_it_does():
    images, pairs = film(200, "ab")
    found = contradictions(images, pairs)
    assert found == [(99, 100)]
