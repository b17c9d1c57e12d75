"""The cells of the confusion matrix, the tables that sort, and what a browser makes of the page's script."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jinja2.utils import htmlsafe_json_dumps
from PIL import Image

from imgclf.evaluation.metrics import compute
from imgclf.report import cells as module
from imgclf.report.cells import MAX_IN_CELL, cells
from imgclf.report.facts import Answered, ReportFacts
from imgclf.report.page import render
from tests.browser import Browser, needs_chromium
from tests.report.pages import HOSTILE, Page
from tests.report.test_page import facts_of

NAMES = ("<script>document.title='hacked'</script>", "\"><img src=x onerror=alert(1)> ' &amp; `", "two\nlines",
         "\u202eeslaf \u05e9\u05dc\u05d5\u05dd", "🦊 {{ 7 * 7 }}", "w" * 240, "</script><!--<script>")  # fmt: skip


def answered(folder: Path, classes: tuple[str, ...], confusion: list[list[int]], name: str = "") -> ReportFacts:
    """A run with exactly this confusion matrix; the path of every image says where it belongs."""
    picture = folder / "picture.png"
    Image.new("RGB", (40, 30), "teal").save(picture)
    rows = [(true, said, number) for true, row in enumerate(confusion) for said, count in enumerate(row)
            for number in range(count)]  # fmt: skip
    images = tuple(
        Answered(picture, f"{true}-{said}/{number}{name}.png", classes[true], classes[said], 0.9 - number / 1000,
                 0.9 - number / 1000 if true == said else 0.05, classes[(said + 1) % len(classes)], 0.08)
        for true, said, number in rows
    )  # fmt: skip
    scores = np.zeros((len(rows), len(classes)))
    scores[np.arange(len(rows)), [said for _, said, _ in rows]] = 1
    metrics = compute(np.array([true for true, _, _ in rows]), scores, classes)
    return replace(facts_of(classes), metrics=metrics, tested=images)


def test_every_cell_holds_its_images_and_mistakes_come_by_how_sure_the_model_was(tmp_path: Path) -> None:
    facts = answered(tmp_path, ("cat", "dog"), [[3, 2], [0, 1]])
    found = cells(facts.tested, facts.classes).to_json()
    assert {key: cell["n"] for key, cell in found["cells"].items()} == {"0-0": 3, "0-1": 2, "1-1": 1}
    assert [row[0] for row in found["cells"]["0-1"]["images"]] == ["0-1/0.png", "0-1/1.png"], "surest first"
    assert [row[0] for row in found["cells"]["0-0"]["images"]] == ["0-0/2.png", "0-0/1.png", "0-0/0.png"], "least sure"


def test_thumbnails_are_bounded_in_number_and_go_to_mistakes_first(tmp_path: Path) -> None:
    side = 24
    rng = np.random.default_rng(0)
    images = []
    for number in range(200):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(path)
        label, said = ("a", "b") if number < 100 else ("a", "a")
        images.append(Answered(path, path.name, label, said, 0.9, 0.1, "c", 0.01))
    found = cells(images, ("a", "b", "c")).to_json()["cells"]
    drawn = {key: sum(row[3] is not None for row in cell["images"]) for key, cell in found.items()}
    assert drawn == {"0-1": MAX_IN_CELL[False], "0-0": MAX_IN_CELL[True]}
    assert {key: len(cell["images"]) for key, cell in found.items()} == {"0-1": 100, "0-0": 100}, "the others by name"


@pytest.mark.parametrize("name", ["", "<&>'", "🦊"])
def test_names_are_bounded_too_and_those_of_mistakes_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 6000)
    facts = answered(tmp_path, ("cat", "dog"), [[300, 20], [0, 1]], name)
    found = cells(facts.tested, facts.classes).to_json()["cells"]
    assert len(found["0-1"]["images"]) == 20 and found["0-0"]["n"] == 300
    assert 0 < len(found["0-0"]["images"]) < 120
    assert len(htmlsafe_json_dumps(found)) < 6000 + 200


def test_a_thumbnail_that_is_no_thumbnail_is_a_gap(tmp_path: Path) -> None:
    image = Answered(tmp_path / "gone.jpg", "gone.jpg", "a", "b", 0.9, 0.1, "a", 0.1)
    found = cells((image,), ("a", "b")).to_json()
    assert found["cells"]["0-1"]["images"] == [["gone.jpg", 0.9, 0.1, None]] and found["pictures"] == []


def test_without_answers_there_is_nothing_to_click() -> None:
    source = render(facts_of(("cat", "dog")))
    assert "data-cell=" not in source.split("<script>")[0] and "Click a number" not in Page(source).text


def test_data_cannot_leave_their_element(tmp_path: Path) -> None:
    source = render(answered(tmp_path, NAMES[:3], [[1, 1, 0], [0, 1, 0], [0, 0, 1]], NAMES[6]))
    assert source.count("<script") == source.count("</script>") == 2
    data = re.search(r'<script type="application/json" id="cell-data">(.*?)</script>', source, re.DOTALL)
    assert data
    found = json.loads(data[1])
    assert found["classes"] == list(NAMES[:3]) and found["cells"]["0-1"]["images"][0][0] == f"0-1/0{NAMES[6]}.png"


def opened(tmp_path: Path, facts: ReportFacts) -> str:
    path = tmp_path / "report.html"
    path.write_text(render(facts), encoding="utf-8")
    return path.as_uri()


@needs_chromium
@pytest.mark.browser
def test_a_click_on_a_cell_shows_exactly_its_images(tmp_path: Path, browser: Browser) -> None:
    url = opened(tmp_path, answered(tmp_path, ("cat", "dog", "cow"), [[3, 2, 0], [70, 1, 0], [0, 4, 5]]))
    with browser.page(url) as page:
        assert page.value("document.getElementById('cell').hidden")
        assert page.value("document.querySelectorAll('.matrix button').length") == 6, "empty cells are none"
        page.click(".matrix button[data-cell='2-1']")
        shown = "[...document.querySelectorAll('#cell .path')].map(e => e.textContent)"
        assert page.value(shown) == [f"2-1/{number}.png" for number in range(4)]
        assert page.text("#cell h3").startswith("cow taken for dog 4 images")
        assert page.value("[...document.querySelectorAll('#cell img')].every(e => e.naturalWidth > 0)")
        assert page.value("document.querySelector('[data-cell=\"2-1\"]').ariaExpanded") == "true"
        page.click(".matrix button[data-cell='1-0']")
        assert page.value(shown) == [f"1-0/{number}.png" for number in range(60)]
        listed = page.value("[...document.querySelectorAll('#cell .further li')].map(e => e.textContent)")
        assert listed == [f"1-0/{number}.png" for number in range(60, 70)], "the others by name"
        page.click("#cell .shut")
        assert page.value("document.getElementById('cell').hidden")
        assert not page.errors


@needs_chromium
@pytest.mark.browser
def test_cells_open_and_close_by_the_keyboard(tmp_path: Path, browser: Browser) -> None:
    url = opened(tmp_path, answered(tmp_path, ("cat", "dog", "cow"), [[3, 0, 2], [1, 1, 0], [0, 4, 5]]))
    with browser.page(url) as page:
        page.value("document.querySelector('.matrix button').focus()")
        page.press("ArrowRight")  # over an empty cell
        assert page.value("document.activeElement.dataset.cell") == "0-2"
        page.press("ArrowDown")  # there, too
        assert page.value("document.activeElement.dataset.cell") == "2-2"
        page.press("Enter")
        assert page.text("#cell h3").startswith("cow named correctly 5 images")
        page.press("Escape")
        assert page.value("document.getElementById('cell').hidden")
        assert page.value("document.activeElement.dataset.cell") == "2-2", "back to where one was"
        assert not page.errors


@needs_chromium
@pytest.mark.browser
def test_advice_leads_to_the_images(tmp_path: Path, browser: Browser) -> None:
    with browser.page(opened(tmp_path, answered(tmp_path, ("cat", "dog"), [[20, 5], [0, 20]]))) as page:
        page.click("#next button[data-cell='0-1']")
        assert page.text("#cell h3").startswith("cat taken for dog 5 images")
        assert not page.errors


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("number", [4, 40])
def test_the_table_of_classes_sorts(tmp_path: Path, browser: Browser, number: int) -> None:
    classes = tuple(f"class {at}" for at in range(number))
    confusion = [[at + 1 if at == said else at % 3 if said == (at + 1) % number else 0 for said in range(number)]
                 for at in range(number)]  # fmt: skip
    facts = answered(tmp_path, classes, confusion)
    rows = "[...document.querySelectorAll('#classes tbody tr')].map(e => e.querySelector('bdi').textContent)"
    with browser.page(opened(tmp_path, facts)) as page:
        page.click("#classes button.sort")
        assert page.value(rows) == list(classes), "class 10 comes after class 9"
        page.click("#classes button.sort")
        assert page.value(rows) == list(reversed(classes))
        page.click("#classes th:nth-child(2) button.sort")
        supports = {entry.label: entry.support for entry in facts.metrics.per_class}
        got = [supports[label] for label in page.value(rows)]
        assert got == sorted(got, reverse=True), "numbers begin with the largest"
        assert page.value("document.querySelector('#classes th:nth-child(2)').ariaSort") == "descending"
        if number > 30:
            assert page.value("document.querySelector('#classes tbody').children.length") == 20, "the rest is folded"
        assert not page.errors


@needs_chromium
@pytest.mark.browser
def test_what_was_not_measured_sorts_last(tmp_path: Path, browser: Browser) -> None:
    url = opened(tmp_path, answered(tmp_path, ("none", "some", "all"), [[0, 0, 0], [0, 1, 1], [0, 0, 4]]))
    last = "[...document.querySelectorAll('#classes tbody tr')].at(-1).querySelector('bdi').textContent"
    with browser.page(url) as page:
        for _ in range(2):
            page.click("#classes th:nth-child(3) button.sort")
            assert page.value(last) == "none"


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_names_stay_text_and_nothing_overflows(
    tmp_path: Path, browser: Browser, width: int, dark: bool
) -> None:
    size = len(NAMES)
    facts = answered(tmp_path, NAMES, [[6 if a == b else 3 for b in range(size)] for a in range(size)], NAMES[5])
    facts = replace(facts, title=NAMES[0], run_path=NAMES[1], data_path=HOSTILE[5])
    with browser.page(opened(tmp_path, facts), width, 800, dark) as page:
        page.value("for (const b of document.querySelectorAll('.matrix button')) b.click()")
        page.value("document.querySelector('[data-cell=\"0-1\"]').click()")
        heading = page.value("document.querySelector('#cell h3').textContent")
        assert heading == f"{NAMES[0]} taken for {NAMES[1]}3 images"
        assert page.value("document.images.length > 0 && ![...document.images].some(e => e.src.endsWith('/x'))")
        assert page.value("document.scripts.length") == 2 and "hacked" not in page.value("document.title")[:6]
        wide = page.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide[0] <= wide[1] <= width
        assert (
            page.value("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0
        )
        assert not page.errors


def test_right_answers_have_thumbnails_too_where_there_are_many_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PICTURES", 20)
    paths = []
    for number in range(60):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (8, 8), (number, 0, 0)).save(paths[-1])
    images = [Answered(path, path.name, "a", "b" if at < 40 else "a", 0.9, 0.1) for at, path in enumerate(paths)]
    found = cells(images, ("a", "b")).to_json()["cells"]
    drawn = {key: sum(row[3] is not None for row in cell["images"]) for key, cell in found.items()}
    assert drawn == {"0-1": 15, "0-0": 5}
