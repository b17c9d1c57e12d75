"""The page of a comparison: what it says, its bounds, and what hostile names do to it."""

from pathlib import Path

import pytest
from PIL import Image

from imgclf.evaluation.compare import Answer, Answers, Comparison, compare
from imgclf.report import compare_page
from imgclf.report.compare_page import render_compare, write_compare_page
from tests.browser import Browser, needs_chromium
from tests.report.pages import HOSTILE, Page, foreign_scripts
from tests.report.test_cells import NAMES


def comparison(folder: Path, names: tuple[str, ...] = ("old", "new"), classes: tuple[str, ...] = ("cat", "dog"),
               flips: int = 3) -> Comparison:  # fmt: skip
    """The second model loses `flips` images of the first class and wins one of the second."""
    picture = folder / "picture.png"
    Image.new("RGB", (40, 30), "teal").save(picture)
    a, b = classes[:2]
    rows = [(a, a, b)] * flips + [(b, a, b), *((label, label, label) for label in classes for _ in range(2))]

    def model(name: str, at: int) -> Answers:
        return Answers(name, classes, tuple(
            Answer(str(n), picture, f"{n} {name}.png", row[0], row[at]) for n, row in enumerate(rows)))  # fmt: skip

    return compare([model(names[0], 1), *(model(name, 2) for name in names[1:])])


def test_it_says_what_was_won_and_lost(tmp_path: Path) -> None:
    text = Page(render_compare(comparison(tmp_path))).text
    assert "new has 2 images fewer right than old, which may well be chance: it won 1 and lost 3 (p = 0.62)" in text
    assert "8 images, the same for all models" in text
    assert "Lost 3 images" in text and "Won 1 image" in text and "Wrong in another way" not in text
    assert "cat 5 100.0 % 40.0 % −3" in text


def test_models_that_agree_say_so(tmp_path: Path) -> None:
    found = comparison(tmp_path)
    same = compare([Answers(name, ("cat",), (Answer("1", tmp_path, "1", "cat", "cat"),)) for name in ("a", "b")])
    text = Page(render_compare(same)).text
    assert "as many images right" in text and "answers every image as a does" in text
    assert "–" in Page(render_compare(found)).text


def test_thumbnails_are_bounded_and_the_others_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_page, "MAX_PICTURES", 10)
    monkeypatch.setattr(compare_page, "MAX_NAMES", 6)
    page = Page(render_compare(comparison(tmp_path, flips=30)))
    assert len(page.values("src")) == 5 + 1, "half of them for each of the two kinds"
    assert "The other 25, by name" in page.text and "19 more" in page.text


def test_it_is_one_file_that_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    assert write_compare_page(comparison(tmp_path), path) == path
    assert "://" not in path.read_text(encoding="utf-8")


def test_names_stay_text(tmp_path: Path) -> None:
    page = Page(render_compare(comparison(tmp_path, (HOSTILE[0], HOSTILE[1], HOSTILE[3]), HOSTILE)))
    assert not foreign_scripts(page) and all(value.startswith("data:image/jpeg") for value in page.values("src"))
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text and "two␊lines␉and␀nul" in page.text


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_it_sorts_and_fits_the_screen(tmp_path: Path, browser: Browser, width: int, dark: bool) -> None:
    found = comparison(tmp_path, (NAMES[0], NAMES[5], NAMES[3]), NAMES[:6], flips=5)
    path = write_compare_page(found, tmp_path / "page.html")
    with browser.page(path.as_uri(), width, 800, dark) as page:
        wide = page.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide[0] <= wide[1] <= width
        page.value("document.querySelectorAll('#classes button.sort')[1].click()")
        counts = page.value(
            "[...document.querySelectorAll('#classes tbody tr')].map(e => Number(e.children[1].dataset.value))"
        )
        assert counts == sorted(found.supports.values(), reverse=True)
        assert page.value("[...document.images].every(e => e.naturalWidth > 0)") and not page.errors
