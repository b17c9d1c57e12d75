"""The dataset doctor's page as a reader, a hostile file name and a hostile file meet it."""

import html
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgclf.data.diagnosis import Diagnosis, Finding, Item, Level
from imgclf.data.imageset import ImageFile, ImageSet, Part
from imgclf.errors import ImgclfError
from imgclf.report import check_page, pictures
from imgclf.report.check_page import MAX_CLASSES, MAX_ITEMS, MAX_PATHS, MAX_PICTURES, render_check, write_check_page
from tests.report.pages import CHROMIUM, HOSTILE, Page, check_in_a_browser

ROOT = Path("/nowhere/pets")


def photo(path: Path, colour: object = "red", side: int = 32) -> Path:
    """A picture of one colour; of noise where the colour is None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if colour is None:
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(noise).save(path, "PNG")
    else:
        Image.new("RGB", (side, side), colour).save(path, "PNG")  # type: ignore[arg-type]
    return path


def image_at(path: Path, label: str = "cat", part: Part = "", **changes: object) -> ImageFile:
    return ImageFile(path, label, part, verdict=changes.pop("verdict", "fine"), **changes)  # type: ignore[arg-type]


def finding(*items: Item, kind: str = "odd", level: Level = "warning", title: str = "Odd things") -> Finding:
    return Finding(kind, level, f"{title}: {len(items)}", "it may matter", "do something", items)


def diagnosis_of(
    *findings: Finding, images: tuple[ImageFile, ...] = (), classes: tuple[str, ...] = ("cat", "dog"), root: Path = ROOT
) -> Diagnosis:
    return Diagnosis(ImageSet(root, classes, images, has_parts=any(image.part for image in images)), findings)


def rendered(diagnosis: Diagnosis) -> tuple[str, Page]:
    source = render_check(diagnosis, workers=0)
    return source, Page(source)


def section(source: str, number: int) -> Page:
    """What stands in the section of a finding, counted from 1."""
    return Page(source.split(f'<section id="finding-{number}"')[1].split("</section>")[0].partition(">")[2])


def test_says_in_a_sentence_how_the_folder_is() -> None:
    levels: tuple[Level, ...] = ("error", "warning", "note", "note")
    images = tuple(image_at(ROOT / f"{label}/{at}.png", label) for label in ("cat", "dog") for at in range(600))
    _, page = rendered(diagnosis_of(*(finding(Item(label="cat"), level=level) for level in levels), images=images))
    assert "1,200 images in 2 classes: 1 error, 1 warning, 2 notes" in page.text
    assert "Look at the errors before you train" in page.text
    assert "pets" in page.text


def test_a_clean_folder_is_told_so_and_an_empty_diagnosis_is_no_accident() -> None:
    images = tuple(image_at(ROOT / f"{label}/0.png", label) for label in ("cat", "dog"))
    _, page = rendered(diagnosis_of(images=images))
    assert "2 images in 2 classes, and nothing wrong with them" in page.text
    assert "go ahead and train" in page.text
    assert "nav" not in {tag for tag, _ in page.tags}
    _, nothing = rendered(diagnosis_of(classes=()))
    assert "0 images in 0 classes There is nothing here to look at." in nothing.text
    assert "There are no classes" in nothing.text


def test_contents_lead_to_every_finding_in_order() -> None:
    found = (
        finding(Item((ROOT / "a", ROOT / "b")), level="error", title="Pairs"),
        finding(Item((ROOT / "a", ROOT / "b", ROOT / "c")), Item((ROOT / "a", ROOT / "d")), title="Groups"),
        finding(Item((ROOT / "a",)), Item((ROOT / "b",)), title="Files"),
        finding(Item(label="cat"), Item(label="cat"), Item((ROOT / "dog",), "empty", "dog"), title="Classes at odds"),
    )
    source, page = rendered(diagnosis_of(*found))
    anchors = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert anchors == ["classes", "finding-1", "finding-2", "finding-3", "finding-4"]
    assert page.values("href") == [f"#{anchor}" for anchor in anchors[1:]]
    contents = Page(source.split("<nav")[1].split("</nav>")[0].partition(">")[2]).text
    assert re.sub(r"\s+", " ", contents) == (
        "error Pairs 1 pair warning Groups 2 groups, 4 files warning Files 2 files warning Classes at odds 2 classes"
    )


def test_every_finding_shows_its_words_its_files_and_their_notes(tmp_path: Path) -> None:
    files = [photo(tmp_path / "cat" / f"{at}.png") for at in range(3)]
    found = (
        finding(Item((files[0],), "too dark"), Item((files[1],), "too bright"), level="error"),
        finding(Item((files[0], files[2]), "nearly alike")),
        finding(Item((), "only 3 images", "cat"), level="note"),
    )
    source, _ = rendered(diagnosis_of(*found, images=tuple(map(image_at, files)), root=tmp_path))
    for number in (1, 2, 3):
        assert "Why it matters It may matter." in section(source, number).text
        assert "What to do Do something." in section(source, number).text
    alone = section(source, 1)
    assert re.search(r"too dark cat/0\.png\s+too bright cat/1\.png", alone.text)
    assert alone.values("alt") == ["0.png", "1.png"]
    group = section(source, 2)
    assert "nearly alike" in group.text
    assert re.search(r"cat cat/0\.png cat cat/2\.png", group.text)
    assert len(group.values("src")) == 2
    assert "cat only 3 images" in section(source, 3).text


def test_what_tells_the_files_of_a_group_apart_is_marked_and_always_drawn(tmp_path: Path) -> None:
    cats = [photo(tmp_path / "train" / "cat" / f"{at}.png") for at in range(9)]
    dog = photo(tmp_path / "test" / "dog" / "the one.png")
    images = (*(image_at(path, "cat", "train") for path in cats), image_at(dog, "dog", "test"))
    found = finding(Item((*cats, dog), "cat and dog"), Item((cats[0], cats[1]), "cat"))
    source, _ = rendered(diagnosis_of(found, images=images, root=tmp_path))
    page = section(source, 1)
    assert "the one.png" in page.values("alt")
    assert f"{MAX_PICTURES} of 10 files" in page.text
    tags = [attributes.get("class") or "" for tag, attributes in page.tags if tag == "span"]
    assert len([tag for tag in tags if "tag" in tag and "differs" in tag]) == 2 * MAX_PICTURES  # class and part of each
    assert page.text.count("cat and dog") == 1  # in the list of those that are not drawn; here the captions say it
    for path in cats:
        assert f"train/cat/{path.name}" in page.text


def test_counts_of_classes_by_part() -> None:
    parts: tuple[Part, ...] = ("train",) * 6 + ("val",) * 2 + ("test",)
    images = tuple(image_at(ROOT / f"{part}/cat/{at}.png", "cat", part) for at, part in enumerate(parts))
    source, _ = rendered(diagnosis_of(images=images))
    text = section(source.replace('id="classes"', 'id="finding-1"'), 1).text
    assert text == "Classes training 6 validation 2 test 1 all 9 cat 6 2 1 9 dog 0 0 0 0"


def test_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    files = [photo(tmp_path / f"{at}.png") for at in range(2)]
    found = finding(*(Item((path,)) for path in files))
    source, page = rendered(diagnosis_of(found, images=tuple(map(image_at, files)), root=tmp_path))
    assert len(page.values("src")) == 2
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert "http://" not in source
    assert "https://" not in source
    assert not re.search(r"@import|url\((?!#)", source)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page.values("content")


def test_hostile_names_are_text_everywhere() -> None:
    paths = tuple(ROOT / name / f"{name}.jpg" for name in HOSTILE if "/" not in name)
    images = tuple(image_at(path, name, "train") for path, name in zip(paths, HOSTILE[1:], strict=False))
    found = (
        *(finding(*(Item((path,), name) for path, name in zip(paths, HOSTILE, strict=False)), title=HOSTILE[0])
          for _ in range(2)),
        finding(Item(paths, HOSTILE[0]), Item((), HOSTILE[1], HOSTILE[2])),
        finding(*(Item(paths, HOSTILE[0]) for _ in range(MAX_ITEMS + 3)), title=HOSTILE[1]),
    )  # fmt: skip
    source, page = rendered(diagnosis_of(*found, images=images, classes=HOSTILE, root=ROOT / HOSTILE[2] / HOSTILE[1]))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}{% raw %}" in page.text
    assert "two␊lines␉and␀nul" in page.text
    assert "\x00" not in source
    assert "lone \\udcff surrogate" in page.text
    source.encode("utf-8")
    for name in re.findall(r"[^<>]*\u202e[^<>]*", page_without_attributes(source)):
        assert re.search(rf"<(bdi|b|wbr)[^>]*>{re.escape(name)}<", source)  # isolated from what stands around it


def page_without_attributes(source: str) -> str:
    return re.sub(r' (title|alt)="[^"]*"', "", source)


def test_what_could_not_be_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = photo(tmp_path / "cat" / "bad.jpg"), photo(tmp_path / "cat" / "good.jpg")
    read: list[Path] = []
    thumbnail = pictures.thumbnail
    monkeypatch.setattr(pictures, "thumbnail", lambda path, **how: (read.append(path), thumbnail(path, **how))[1])
    images = (image_at(bad, verdict="unreadable", reason="damaged JPEG"), image_at(good))
    found = finding(Item((bad,), "damaged JPEG"), Item((tmp_path / "pipe",), "not an image"), Item((good,), "fine"))
    source, _ = rendered(diagnosis_of(found, images=images, root=tmp_path))
    page = section(source, 1)
    assert read == [good]
    assert len(page.values("src")) == 1
    assert re.search(r"JPG damaged JPEG cat/bad\.jpg", page.text)
    assert "not an image pipe" in page.text


@pytest.mark.parametrize("content", [None, b"", b"\xff\xd8\xff\xe0 broken"])
def test_file_that_has_changed_since_leaves_a_gap_not_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "cat.jpg"
    if content is not None:
        path.write_bytes(content)
    source, _ = rendered(diagnosis_of(finding(Item((path,))), images=(image_at(path),), root=tmp_path))
    assert "no preview" in section(source, 1).text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe, on which reading waits for ever")
def test_file_that_hangs_costs_its_own_picture_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_page, "ITEM_TIMEOUT", 1.0)
    files = [photo(tmp_path / "good.png"), tmp_path / "hangs.png"]
    os.mkfifo(files[1])
    found = finding(*(Item((path,)) for path in files))
    page = Page(render_check(diagnosis_of(found, images=tuple(map(image_at, files)), root=tmp_path), workers=1))
    assert len(page.values("src")) == 1
    assert "no preview" in page.text


def test_at_most_so_many_are_drawn_and_listed(tmp_path: Path) -> None:
    path = photo(tmp_path / "cat" / "0.png")
    names = [path, *(tmp_path / "cat" / f"{at}.png" for at in range(1, 1000))]
    images = tuple(map(image_at, names))
    found = finding(*(Item((name,)) for name in names))
    source, _ = rendered(diagnosis_of(found, images=images, root=tmp_path))
    page = section(source, 1)
    assert [attributes.get("class") for tag, attributes in page.tags if tag == "div"].count("frame") == MAX_ITEMS
    assert f"The first {MAX_ITEMS} of 1,000 are shown; there are 976 more" in page.text
    listed = re.findall(r"cat/(\d+)\.png", page.text)
    assert list(map(int, listed)) == list(range(MAX_ITEMS + MAX_PATHS))
    assert "and 776 more" in page.text


def test_one_enormous_group_and_very_many_classes_stay_readable(tmp_path: Path) -> None:
    names = tuple(tmp_path / "cat" / f"{'long ' * 40}{at}.png" for at in range(5000))
    found = (finding(Item(names)), finding(*(Item((), "1 image", f"class {at}") for at in range(5000))))
    classes = tuple(f"class {at}" for at in range(5000))
    source, _ = rendered(diagnosis_of(*found, classes=classes, root=tmp_path))
    assert "1 group, 5,000 files" in section(source, 1).text
    assert "and 4,794 more" in section(source, 1).text
    assert "and 4,776 more" in section(source, 2).text
    assert f"… and {5000 - MAX_CLASSES:,} classes more" in Page(source).text
    assert len(source) < 1_500_000


def test_page_stays_small_even_if_every_picture_is_noise(tmp_path: Path) -> None:
    path = photo(tmp_path / "noise.png", None, 300)
    copies = [tmp_path / f"{at}.png" for at in range(MAX_PICTURES)]
    for copy in copies:
        copy.symlink_to(path)
    groups = finding(*(Item(tuple(copies)) for _ in range(MAX_ITEMS)))
    source, page = rendered(diagnosis_of(*[groups] * 30, images=tuple(map(image_at, copies)), root=tmp_path))
    assert len(page.values("src")) == 30 * MAX_ITEMS * MAX_PICTURES
    assert len(source) < 6_000_000
    few, _ = rendered(diagnosis_of(groups, images=tuple(map(image_at, copies)), root=tmp_path))
    assert len(few) < 6_000_000


def test_write_check_page_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "check.html"
    path.write_text("old")
    diagnosis = diagnosis_of(finding(Item((ROOT / HOSTILE[6],))), classes=HOSTILE)
    assert write_check_page(diagnosis, path) == path
    assert path.read_text(encoding="utf-8") == render_check(diagnosis)
    assert html.unescape(path.read_text(encoding="utf-8")).count(HOSTILE[0]) == 1
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ImgclfError, match=r"check\.html"):
        write_check_page(diagnosis, path / "inside.html")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on the PATH")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_in_a_browser(tmp_path: Path, width: int) -> None:
    files = [photo(tmp_path / HOSTILE[5][:60] / f"{HOSTILE[5]}{at}.png") for at in range(MAX_PICTURES)]
    images = tuple(
        image_at(path, HOSTILE[5] if at % 2 else HOSTILE[1], "val" if at % 3 else "train")
        for at, path in enumerate(files)
    )
    found = (
        *(finding(Item(tuple(files[:number]), HOSTILE[5])) for number in range(2, MAX_PICTURES + 1)),
        finding(*(Item((path,), HOSTILE[5]) for path in files), Item((), HOSTILE[5], HOSTILE[5]), title=HOSTILE[5]),
        finding(*(Item((ROOT / HOSTILE[5],), HOSTILE[5]) for _ in range(MAX_ITEMS + 9)), title=HOSTILE[0] * 3),
    )
    diagnosis = diagnosis_of(*found, images=images, classes=(HOSTILE[5], *HOSTILE[:5]), root=tmp_path)
    check_in_a_browser(render_check(diagnosis, workers=0).replace("<details", "<details open"), tmp_path, width)
