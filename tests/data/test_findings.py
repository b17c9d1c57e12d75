import json
import os
import sys
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgclf.data import findings
from imgclf.data.check import check
from imgclf.data.checks import CHECKS, diagnose
from imgclf.data.findings import Facts
from imgclf.data.imageset import ImageSet
from imgclf.data.scan import scan
from imgclf.data.similar import Pair
from tests.data.defects import changed, fingerprint, make_defects
from tests.data.drawing import image_set, looks, picture, save, texture

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="names that other file systems do not take")


def reported(diagnosis):
    """Kind -> what it names: the paths of files, or the class."""
    return {
        finding.kind: sorted(
            (tuple(sorted(diagnosis.shown(path) for path in item.paths)) or item.label for item in finding.items),
            key=str,
        )
        for finding in diagnosis.findings
    }


def files(*names):
    return [(name,) for name in sorted(names)]


@pytest.fixture(scope="module")
def defects(tmp_path_factory):
    return make_defects(tmp_path_factory.mktemp("defects") / "photos")


@pytest.fixture(scope="module")
def checkup(defects):
    """What the doctor says of it, without the extra for HEIC and with a lower bound for what is very large."""
    before = fingerprint(defects)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        patch.setattr(findings, "LARGE_PIXELS", 80_000)
        found = check(scan(defects), workers=0)
    assert fingerprint(defects) == before
    return found


def test_every_defect_is_named_once_under_its_kind(checkup):
    linux = sys.platform == "linux"
    expected = {
        "contradictory-labels": [("cat/exact across.png", "dog/exact across.png"),
                                 ("cat/same across.png", "emu/same across.png")],
        "empty-classes": [("empty class",), "unread"],
        "unreadable": files("cat/broken.jpg", "cat/empty.png", "cat/truncated.png", "unread/page.jpg"),
        "unsupported": files("dog/drawing.jpg", "dog/photo.heic", "dog/raw.nef"),
        "left-out": files("outside.png", *["dog/gone.png"] * linux),
        "class-names": ["'Sea Lion' / 'sea_lion'", *["café"] * linux],
        "classes-like-parts": ["test"],
        "single-image-classes": ["lone"],
        "imbalance": ["lone"],
        "near-across-classes": [("cat/near across.png", "emu/near across.png")],
        "duplicates": [("cat/exact within 2.png", "cat/exact within.png")],
        "small": files("cat/very small.png"),
        "stretched": files("cat/tall.png"),
        "dark": files("dog/dark.png"),
        "bright": files("dog/bright.png"),
        "blurred": files("dog/blurred.png"),
        "plain": files("emu/plain.png"),
        "near-duplicates": [("cat/near within 2.png", "cat/near within.png")],
        "rotated": files("dog/sideways.png"),
        "wrong-extension": files("cat/really.jpg"),
        "unusual": files("dog/unusual.webp"),
        "odd-colours": files("emu/grey.png"),
        "large": files("cat/very large.png"),
        "odd-size": files("cat/larger.png"),
        "ignored": files("emu/.hidden", "emu/Thumbs.db", "emu/labels.csv"),
    }  # fmt: skip
    assert reported(checkup.diagnosis) == expected


def test_reasons_are_told(checkup):
    notes = {checkup.diagnosis.shown(path): item.note
             for finding in checkup.diagnosis.findings for item in finding.items for path in item.paths}  # fmt: skip
    assert notes["cat/empty.png"] == "empty file"
    assert notes["unread/page.jpg"] == "a web page, not an image"
    assert notes["dog/photo.heic"].startswith("HEIC needs the extra")
    assert notes["dog/drawing.jpg"] == "an SVG drawing, not a photo"
    assert notes["cat/really.jpg"] == "extension .jpg but the content is PNG"
    assert notes["dog/sideways.png"] == "EXIF orientation 6"
    assert notes["cat/tall.png"] == "48 x 192 pixels"
    assert notes["emu/near across.png"] == "cat and emu"


def test_levels_come_in_order(checkup):
    levels = [finding.level for finding in checkup.diagnosis.findings]
    assert levels == sorted(levels, key=("error", "warning", "note").index)
    assert checkup.diagnosis.count("error") == levels.count("error") == 3
    assert checkup.diagnosis.of("dark").files == 1
    assert checkup.diagnosis.of("duplicates").files == 2
    assert checkup.diagnosis.of("leaks") is None


def test_json_is_plain_and_complete(checkup):
    table = checkup.diagnosis.to_json()
    assert json.loads(json.dumps(table)) == table
    assert table["images"] == len(checkup.images.usable) == sum(table["classes"].values()) == table["parts"]["all"]
    assert table["classes"]["lone"] == 1 and table["classes"]["unread"] == 0
    kinds = [finding["kind"] for finding in table["findings"]]
    assert len(kinds) == len(set(kinds))
    (tall,) = next(each for each in table["findings"] if each["kind"] == "stretched")["items"]
    assert tall == {"paths": ["cat/tall.png"], "note": "48 x 192 pixels", "class": ""}


def test_text_is_short_or_complete(checkup):
    short, everything = list(checkup.diagnosis.lines()), list(checkup.diagnosis.lines(None))
    assert "\n".join(short) == str(checkup.diagnosis)
    assert "           ... and 1 more" in short
    assert not any("... and" in line for line in everything)
    assert sum("unread/page.jpg" in line for line in everything) == 1
    assert short[-1] == "3 errors, 14 warnings, 8 notes"


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    """Ready-made parts with what can be wrong about parts."""
    root = tmp_path_factory.mktemp("parted") / "photos"
    seeds = iter(range(20_000, 30_000))
    for part, number in (("train", 22), ("Validation", 8), ("test", 8)):
        for label in ("cat", "dog", "emu"):
            for each in range(number):
                save(texture(next(seeds)), root / part / label / f"{each:02}.png")

    def copy(source, target, change=lambda image: image):
        save(change(np.asarray(Image.open(root / source))), root / target, compress_level=1)

    copy("train/cat/00.png", "test/cat/copied.png")
    copy("train/cat/01.png", "Validation/cat/near.png", changed)
    copy("train/dog/02.png", "train/dog/twice.png")
    copy("test/dog/03.png", "test/dog/nearly twice.png", changed)
    copy("train/dog/04.png", "train/emu/other label.png")
    (root / "test/yak").mkdir()
    (root / "Validation/zebu").mkdir()
    for each in range(20):
        save(texture(next(seeds)), root / "train/yak" / f"{each}.png")
        save(texture(next(seeds)), root / "test/zebu" / f"{each}.png")
    (root / "train/nothing").mkdir()
    (root / "extra").mkdir()
    save(texture(next(seeds)), root / "extra/1.png")
    save(texture(next(seeds)), root / "outside.png")
    save(texture(next(seeds)), root / "test/outside.png")
    return root


def test_ready_made_parts(parted):
    before = fingerprint(parted)
    found = check(scan(parted), workers=0).diagnosis
    assert fingerprint(parted) == before
    assert reported(found) == {
        "contradictory-labels": [("train/dog/04.png", "train/emu/other label.png")],
        "leaks": [("Validation/cat/near.png", "train/cat/01.png"), ("test/cat/copied.png", "train/cat/00.png")],
        "empty-classes": [("train/nothing",)],
        "untrained-classes": ["zebu"],
        "unmeasured-classes": ["yak", "zebu"],
        "left-out": files("extra", "outside.png", "test/outside.png"),
        "duplicates": [("train/dog/02.png", "train/dog/twice.png")],
        "near-duplicates": [("test/dog/03.png", "test/dog/nearly twice.png")],
    }
    assert {item.note for item in found.of("unmeasured-classes").items} == {
        "no image in val and test",
        "no image in val",
    }
    assert {item.note for item in found.of("leaks").items} == {"train and val", "train and test"}
    assert found.to_json()["parts"] == {"train": 88, "val": 25, "test": 46}
    assert next(found.lines()).endswith("159 images in 5 classes (88 train, 25 val, 46 test)")


def test_a_clean_folder_has_nothing(tmp_path):
    for label in "ab":
        for number in range(20):
            save(texture(ord(label) * 100 + number), tmp_path / label / f"{number}.png")
    found = check(scan(tmp_path), workers=0).diagnosis
    assert found.findings == ()
    assert list(found.lines())[-1] == "nothing found"


def test_a_class_that_is_dark_is_a_shortcut_and_its_images_are_not_each_a_finding(tmp_path):
    for label, share in (("day", 1), ("night", 0.45), ("noon", 1)):
        for number in range(20):
            image = texture(ord(label[0]) * 100 + ord(label[1]) * 10_000 + number)
            save((image * share).astype(np.uint8), tmp_path / label / f"{number}.png")
    found = check(scan(tmp_path), workers=0).diagnosis
    shortcuts = found.of("shortcuts")
    assert {item.label for item in shortcuts.items} == {"night"}
    assert shortcuts.items[0].paths == ()
    assert any(item.note.startswith("brightness tells it") for item in shortcuts.items)


@linux_only
def test_odd_names_survive_in_text_and_json(tmp_path):
    root = tmp_path / "photos\x1b[31m"
    for label in (b"caf\xe9", b"nach\nbarn", b"c"):
        folder = Path(os.fsdecode(os.fsencode(root) + b"/" + label))
        save(texture(len(label)), folder / "one.png")
        (folder / os.fsdecode(b"b\xe9d\n.jpg")).write_bytes(b"no image")
        (folder / "tab\t.nef").write_bytes(b"raw")
    found = check(scan(root), workers=0).diagnosis
    lines = list(found.lines(None))
    text = "\n".join(lines).encode()  # what is no Unicode would raise
    assert len(text.splitlines()) == len(lines)
    assert all(line.isprintable() for line in lines)
    assert r"           caf\udce9/b\udce9d\n.jpg: not an image in a known format" in lines
    assert json.loads(json.dumps(found.to_json())) == found.to_json()


# On images that exist in name only


def of(images, pairs=(), **others):
    return reported(diagnose(Facts(image_set(images, **others), tuple(pairs))))


def many(number, label="a", **others):
    return [replace(picture(f"{label}{each}", label), **others) for each in range(number)]


def test_nothing_is_said_of_an_empty_set():
    assert diagnose(Facts(ImageSet(Path("x"), (), ()))).findings == ()


def test_images_without_looks_are_no_obstacle():
    bare = [replace(image, looks=None) for image in (*many(25), *many(25, "b"))]
    assert of(bare) == {}
    twice = replace(bare[0], path=Path("photos/b/copy.jpg"), label="b")
    assert of([*bare, twice]) == {"contradictory-labels": [tuple(sorted(("a/a0.jpg", "b/copy.jpg")))]}


@pytest.mark.parametrize("kind, odd", [
    ("dark", {"brightest": 0.31}), ("bright", {"darkest": 0.96}), ("blurred", {"sharpness": 0.28}),
    ("plain", {"entropy": 1.3}),
])  # fmt: skip
def test_what_most_images_have_is_no_problem_of_theirs(kind, odd):
    odd_ones = [replace(image, looks=looks(image.looks.pixels, **odd)) for image in many(30)]
    assert of([*odd_ones, *many(30, "b")]) == {kind: files(*(f"a/a{each}.jpg" for each in range(30)))}
    assert of([*odd_ones, *many(29, "b")]) == {}


def test_the_thresholds_are_not_reached_by_what_is_on_them():
    edge = looks("edge", brightest=0.32, darkest=0.94, sharpness=0.29, entropy=3.0)
    on_the_edge = replace(picture("edge"), looks=edge, width=35, height=100)
    assert of([on_the_edge, *many(25), *many(25, "b")]) == {}


@pytest.mark.parametrize("sizes, kind, level", [
    ((20, 59), None, None), ((20, 60), "imbalance", "note"), ((20, 199), "imbalance", "note"),
    ((20, 200), "imbalance", "warning"),
])  # fmt: skip
def test_imbalance_is_a_note_or_a_warning(sizes, kind, level):
    images = [image for label, size in zip("ab", sizes, strict=True) for image in many(size, label)]
    found = diagnose(Facts(image_set(images))).findings
    assert [(finding.kind, finding.level) for finding in found] == ([(kind, level)] if kind else [])


def test_small_classes():
    found = of([*many(1, "a"), *many(2, "b"), *many(19, "c"), *many(20, "d")])
    assert found["single-image-classes"] == ["a"]
    assert found["tiny-classes"] == ["b", "c"]


def test_pairs_of_pictures_that_were_left_out_do_not_matter():
    images = [*many(25), *many(25, "b")]
    gone = [Pair("a0", "gone", 0.9, same) for same in (True, False)]
    assert of(images, gone) == of(images)


def test_near_copies_in_a_contradiction_are_not_named_again():
    images = [*many(25), *many(25, "b")]
    pairs = [Pair("a0", "a1", 0.95, True), Pair("a1", "b0", 0.95, True)]
    assert of(images, pairs) == {"contradictory-labels": [("a/a0.jpg", "a/a1.jpg", "b/b0.jpg")]}


def test_copies_with_several_labels_are_no_mere_copies():
    extra = [picture("x1", pixels="x"), picture("x2", pixels="x"), picture("x3", "b", pixels="x")]
    assert of([*many(25), *many(25, "b"), *extra]) == {"contradictory-labels": [("a/x1.jpg", "a/x2.jpg", "b/x3.jpg")]}


def test_the_folder_around_everything_may_have_the_name_of_a_class(tmp_path):
    root = tmp_path / unicodedata.normalize("NFD", "café")
    label = unicodedata.normalize("NFC", "café")
    images = [replace(image, path=root / label / image.path.name, label=label) for image in many(25)]
    images += [replace(image, path=root / "b" / image.path.name) for image in many(25, "b")]
    assert diagnose(Facts(replace(image_set(images), root=root))).findings == ()


def test_a_file_that_another_finding_says_the_same_of_is_not_odd_in_size():
    ordinary = [*many(25, width=200, height=200), *many(25, "b", width=200, height=200)]
    for side, kind in ((20, "small"), (60, "odd-size"), (500, "odd-size"), (8000, "large")):
        assert of([*ordinary, replace(picture("x"), width=side, height=side)]) == {kind: [("a/x.jpg",)]}


def test_every_check_has_words():
    for row in CHECKS:
        assert row.title and row.fix and (row.why or row.kind == "ignored")
    assert Counter(row.kind for row in CHECKS).most_common(2)[0] == ("imbalance", 2)
