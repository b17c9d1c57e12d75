import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgclf.data import known as knowing
from imgclf.data import similar
from imgclf.data.inspect import inspect
from imgclf.data.known import Known
from imgclf.data.similar import Pair, find_pairs, star_groups
from tests.data.drawing import images_of, picture, save, texture

SIDE = 192


def compressed(image):
    data = io.BytesIO()
    image.save(data, "JPEG", quality=60)
    return Image.open(data)


def cropped(image, share=0.03):
    width, height = image.size
    return image.crop((int(share * width), int(share * height), int((1 - share) * width), int((1 - share) * height)))


def smaller(image):
    return image.resize((int(0.7 * image.width), int(0.7 * image.height)), Image.Resampling.LANCZOS)


def changed(image):
    copy = image.copy()
    copy.paste((240, 240, 240), (100, 40, 122, 62))
    return copy


COPIES = {"compressed": compressed, "smaller": smaller, "cropped": cropped,
          "all": lambda image: compressed(smaller(cropped(image))), "changed": changed}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve different textures, four of them in one more form each."""
    root = tmp_path_factory.mktemp("similar")
    for seed in range(12):
        save(texture(seed, SIDE, fastest=5), root / "a" / f"{seed}.png")
    for seed, (name, change) in enumerate(COPIES.items()):
        image = change(Image.open(root / "a" / f"{seed}.png"))
        save(np.asarray(image), root / "b" / f"{seed} {name}.png")
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def known(cache):
    with Known.open(cache) as known:
        yield known


def named(images, pairs):
    files = {image.looks.pixels: image.path.stem for image in images}
    return {(*sorted((files[pair.first], files[pair.second])), pair.same) for pair in pairs}


def test_copies_are_found_and_different_pictures_are_not(folder, known):
    images = inspect(images_of(folder), 0, known).images
    pairs = find_pairs(images, known)
    assert named(images, pairs) == {
        ("0", "0 compressed", True), ("1", "1 smaller", True), ("2", "2 cropped", True), ("3", "3 all", True),
        ("4", "4 changed", False),
    }  # fmt: skip
    assert list(pairs) == sorted(pairs)
    assert all(pair.first < pair.second and 0.8 <= pair.correlation <= 1 for pair in pairs)


def test_the_order_of_the_images_does_not_matter(folder, tmp_path):
    found = []
    for number, step in enumerate((1, -1)):
        with Known.open(tmp_path / str(number)) as known:
            found.append(find_pairs(inspect(images_of(folder), 0, known).images[::step], known))
    assert found[0] == found[1] != ()


def test_the_second_time_nothing_is_compared(folder, known, monkeypatch):
    images = inspect(images_of(folder), 0, known).images
    first = find_pairs(images, known)

    def compare(*_):
        raise AssertionError("compared again")

    monkeypatch.setattr(similar, "agreement", compare)
    assert find_pairs(images[::-1], known) == first
    left = find_pairs(images[1:], known)  # another set of known pictures
    assert set(left) < set(first)
    monkeypatch.setattr(similar, "VERSION", "another")
    with pytest.raises(AssertionError, match="compared again"):
        find_pairs(images, known)


def test_on_a_grown_folder_only_new_pictures_are_compared(folder, tmp_path, monkeypatch):
    asked = []
    agreement = similar.agreement

    def counting(first, second, least):
        asked.append(len(first))
        return agreement(first, second, least)

    monkeypatch.setattr(similar, "agreement", counting)
    with Known.open(tmp_path / "fresh") as known:
        images = inspect(images_of(folder), 0, known).images
        whole = find_pairs(images, known)
        everything = sum(asked)
    for number in range(len(images)):
        asked.clear()
        with Known.open(tmp_path / str(number)) as known:
            inspect(images_of(folder), 0, known)
            find_pairs(images[:number] + images[number + 1 :], known)
            before = sum(asked)
            assert find_pairs(images, known) == whole
        assert sum(asked) == everything, "every pair is compared once"
        assert before <= everything


def test_images_without_looks_plain_ones_and_exact_copies_make_no_pairs(tmp_path, known):
    save(texture(1), tmp_path / "a/1.png")
    save(texture(1), tmp_path / "b/1.bmp")
    for level in (100, 101, 102):
        save(np.full((64, 64, 3), level, np.uint8), tmp_path / "a" / f"plain{level}.png")
    (tmp_path / "a/broken.png").write_bytes(b"no image")
    assert find_pairs(inspect(images_of(tmp_path), 0, known).images, known) == ()
    assert find_pairs([], known) == ()


def test_what_is_found_without_all_thumbnails_is_not_kept(folder, tmp_path, monkeypatch):
    """Another process may take the thumbnails away at any moment; the next check must find the pairs all the same."""
    with Known.open(tmp_path) as known:
        images = inspect(images_of(folder), 0, known).images
        monkeypatch.setattr(knowing.Known, "thumbnails", lambda self, keys: {})
        monkeypatch.setattr(knowing.Known, "has_thumbnails", lambda self, keys: False)
        assert find_pairs(images, known) == ()
        monkeypatch.undo()
        assert len(find_pairs(images, known)) == 5


def test_thumbnails_that_go_while_pairs_are_confirmed_cost_only_their_pairs(folder, tmp_path, monkeypatch):
    with Known.open(tmp_path) as known:
        images = inspect(images_of(folder), 0, known).images
        every, gone = Known.thumbnails, next(image.key for image in images if image.path.stem == "0")
        calls = []

        def fewer(self, keys):
            calls.append(keys)
            found = every(self, keys)
            if len(calls) > 1:
                found.pop(gone, None)
            return found

        monkeypatch.setattr(knowing.Known, "thumbnails", fewer)
        assert named(images, find_pairs(images, known)) >= {("1", "1 smaller", True)}


def test_a_cache_that_cannot_be_written_loses_no_pairs(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(knowing, "BUSY", 0.0)
    with Known.open(tmp_path) as writing, Known.open(tmp_path) as known:
        writing.connection.execute("BEGIN IMMEDIATE")
        images = inspect(images_of(folder), 0, known).images
        assert len(find_pairs(images, known)) == 5
        writing.connection.rollback()


def test_small_blocks_find_the_same_pairs(folder, cache, tmp_path, monkeypatch):
    with Known.open(cache) as known:
        images = inspect(images_of(folder), 0, known).images
        expected = find_pairs(images, known)
    for name, value in (("HASHES_AT_ONCE", 20), ("PAIRS_AT_ONCE", 2), ("THUMBNAILS_AT_ONCE", 3)):
        monkeypatch.setattr(similar, name, value)
    with Known.open(tmp_path) as known:
        assert find_pairs(inspect(images_of(folder), 0, known).images, known) == expected


def test_a_burst_of_more_than_enough_neighbours_stays_connected(tmp_path, known, monkeypatch):
    monkeypatch.setattr(similar, "NEIGHBOURS", 2)
    whole = Image.fromarray(texture(77, SIDE, fastest=5))
    for number in range(9):
        save(np.asarray(whole.crop((number, 0, SIDE - 9 + number, SIDE))), tmp_path / "a" / f"{number}.png")
    pairs = find_pairs(inspect(images_of(tmp_path), 0, known).images, known)
    reached = {pairs[0].first}
    for _ in range(9):
        reached |= {name for pair in pairs for name in pair[:2] if reached & set(pair[:2])}
    assert len(reached) == 9


def pair(first, second, same=True):
    return Pair(*sorted((first, second)), 0.9, same)


def test_star_groups_by_hand():
    assert star_groups([pair("a", "b"), pair("b", "c")]) == [("b", "a", "c")]
    assert star_groups([pair("a", "b"), pair("b", "c"), pair("c", "d"), pair("x", "y")]) == [
        ("b", "a", "c"),
        ("x", "y"),
    ]
    assert star_groups([]) == []


@settings(max_examples=200)
@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda edge: edge[0] < edge[1])), st.data())
def test_everything_in_a_group_is_alike_its_first_and_in_one_group_only(edges, data):
    pairs = [pair(f"p{first}", f"p{second}") for first, second in edges]
    groups = star_groups(pairs)
    alike = {frozenset(each[:2]) for each in pairs}
    members = [name for group in groups for name in group]
    assert len(members) == len(set(members))
    assert all(len(group) > 1 and {frozenset((group[0], other)) for other in group[1:]} <= alike for group in groups)
    left = {name for each in pairs for name in each[:2]} - set(members)
    assert not any(frozenset(both) in alike for both in combinations(left, 2))  # none that could still be grouped
    assert star_groups(data.draw(st.permutations(pairs))) == groups


def test_hand_made_sets_without_thumbnails_have_no_pairs(known):
    assert find_pairs([picture("one"), picture("two")], known) == ()
