"""The review page under a person's hands: real keys and clicks in Chromium, and what then stands in the table."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imgclf.data.suspects import Suspect, read_suspects, write_suspects
from imgclf.review.server import ReviewServer
from tests.browser import Browser, Page, needs_chromium
from tests.conftest import draw

pytestmark = [pytest.mark.browser, needs_chromium]

Serve = Callable[[Path], ReviewServer]
SHOWS = "document.querySelector('#picture img')?.complete"
SAVED = "document.querySelector('#status').textContent === 'Saved in suspects.csv'"


def held(path: Path) -> list[str]:
    """What the table says about each row, in short."""
    return [f"{row.action} {row.new_label}".strip() for row in read_suspects(path)]


def strip_of(page: Page) -> list[str]:
    """What the strip shows of each image that it has."""
    marks: list[str] = page.value(
        "[...document.querySelectorAll('#strip li:not([hidden]) button')].map(button => button.dataset.action)"
    )
    return marks


def faults(page: Page) -> list[str]:
    """What went wrong in the page, without the picture that is broken on purpose."""
    return [error for error in page.errors if not error.endswith(("thumbnail/1", "image/1"))]


def test_keys_decide_and_the_table_says_so(suspects: Path, serve: Serve, browser: Browser) -> None:
    before = read_suspects(suspects)
    with browser.page(serve(suspects).url) as page:
        page.wait(SHOWS)
        assert page.text("#count") == "1 of 5 decided"
        assert (page.text("#label"), page.text("#suggested"), page.text("#confidence")) == ("disc", "frame", "99.0 %")
        page.press("r")  # 0 to frame
        page.wait("document.querySelector('#picture').innerText === 'This image cannot be read.'")
        page.press("x")  # 1
        page.press("1")  # 2 to bar, which is also the suggestion
        page.press("2")  # 3 to disc, which it is already
        assert page.text("#place") == "5 / 5"
        assert page.text("#status") == "Everything is decided: save, or end with Done"
        assert strip_of(page) == ["relabel", "exclude", "relabel", "keep", "keep"]
        page.press("u", "Control+z")  # 3 and 2 are open again
        assert page.text("#place") == "3 / 5"
        page.press("j", "ArrowLeft", "ArrowLeft", "ArrowRight", "k")  # 2
        assert (page.text("#count"), page.text("#unsaved")) == ("4 of 5 decided", "3")
        assert held(suspects) == ["", "", "", "", "keep"]
        page.press("s")
        page.wait(SAVED)
        assert page.text("#unsaved") == ""
        assert not faults(page)
    assert held(suspects) == ["relabel frame", "exclude", "keep", "", "keep"]
    assert [(row.path, row.label, row.key) for row in read_suspects(suspects)] == [
        (row.path, row.label, row.key) for row in before
    ]


def test_mouse_decides_and_done_ends(suspects: Path, serve: Serve, browser: Browser) -> None:
    server = serve(suspects)
    with browser.page(server.url) as page:
        page.wait(SHOWS)
        page.click("#exclude")
        page.click("#undo")
        page.click("#relabel")
        page.click("#strip li:nth-child(4) button")
        page.click("#classes li:nth-child(3) button")  # 3 to frame
        page.click("#previous")
        page.click("#keep")  # 3 again
        for _ in range(3):
            page.click("#previous")
        page.click("#next")
        page.click("#exclude")  # 2
        page.click("#done")
        page.wait("document.body.innerText.startsWith('Saved')")
        assert "4 of 5 decided in suspects.csv" in page.text("body")
        assert not faults(page)
    assert held(suspects) == ["relabel frame", "", "exclude", "keep", "keep"]


def test_typing_finds_a_class_and_makes_a_new_one_only_on_purpose(
    suspects: Path, serve: Serve, browser: Browser
) -> None:
    with browser.page(serve(suspects).url) as page:
        page.press("/", "f", "r", "Enter")  # 0 to frame; r does not relabel while it is typed
        assert page.text("#place") == "2 / 5"
        page.press("/")
        page.write("no such class")
        page.press("Enter")
        assert page.text("#place") == "2 / 5"
        page.press("Escape", "/")
        assert page.value("document.activeElement.value") == ""
        page.write("Röcke & <b>")
        page.press("ArrowDown", "Enter")  # 1
        page.press("4")  # 2: the new class is the fourth
        page.press("Control+s")
        page.wait(SAVED)
        assert not faults(page)
    assert held(suspects) == ["relabel frame", "relabel Röcke & <b>", "relabel Röcke & <b>", "", "keep"]


def test_key_held_down_decides_once(suspects: Path, serve: Serve, browser: Browser) -> None:
    with browser.page(serve(suspects).url) as page:
        for repeated in (False, True, True):
            page.send(
                "Input.dispatchKeyEvent", type="keyDown", key="x", code="KeyX", text="x", autoRepeat=repeated,
            )  # fmt: skip
        assert page.text("#unsaved") == "1"


def test_filters(suspects: Path, serve: Serve, browser: Browser) -> None:
    choose = (
        "(() => { const f = document.querySelector('#filter'); f.value = %r; f.dispatchEvent(new Event('change')); })()"
    )
    with browser.page(serve(suspects).url) as page:
        assert page.text("#filter option:checked") == "All images (5)"
        page.value(choose % "label disc")
        assert page.text("#place") == "1 / 2"
        page.value(choose % "undecided")
        assert strip_of(page) == [""] * 4
        page.press("x", "x")
        assert (page.text("#place"), page.text("#undecided")) == ("1 / 2", "Undecided (2)")
        page.press("u")
        assert (page.text("#place"), page.text("#undecided")) == ("1 / 3", "Undecided (3)")
        page.press("x", "x", "x")
        assert page.text("#picture") == "Everything is decided."
        assert page.value("document.querySelector('#keep').disabled")
        page.press("k", "ArrowRight", "1", "r")  # nothing to decide about
        page.press("u", "u", "u", "u", "u")
        assert page.text("#count") == "1 of 5 decided"


def test_warns_before_decisions_are_lost(suspects: Path, serve: Serve, browser: Browser) -> None:
    leaves = "window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    with browser.page(serve(suspects).url) as page:
        assert page.value(leaves)
        page.press("x")
        assert not page.value(leaves)
        page.press("s")
        page.wait(SAVED)
        assert page.value(leaves)
        page.press("u")  # what is in the file is not what is on the page
        assert not page.value(leaves)


def test_change_by_another_program_is_not_overwritten_unasked(suspects: Path, serve: Serve, browser: Browser) -> None:
    with browser.page(serve(suspects).url) as page:
        page.press("x")
        write_suspects(suspects, read_suspects(suspects)[::-1])
        page.press("s")
        page.wait("document.querySelector('#status').textContent.includes('changed by another program or tab')")
        assert held(suspects) == ["keep", "", "", "", ""]
        page.press("s")
        page.wait(SAVED)
    assert held(suspects) == ["exclude", "", "", "", "keep"]


def test_says_so_when_the_server_has_ended(suspects: Path, serve: Serve, browser: Browser) -> None:
    with browser.page(serve(suspects).url) as page:
        page.press("x")
        page.send("Network.enable")
        nothing = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.send("Network.emulateNetworkConditions", offline=True, **nothing)
        page.press("s")
        page.wait("document.querySelector('#status').textContent.includes('Not saved: imgclf review has ended')")
        assert page.text("#unsaved") == "1"


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_hostile_and_long_names_are_text_and_fit(
    tmp_path: Path, serve: Serve, browser: Browser, width: int, height: int
) -> None:
    names = [
        "<img src=x onerror=document.title=1>", "</script><script>document.title=1</script>", "w" * 200,
        "\u202eeslaf \u05e9\u05dc\u05d5\u05dd", "lone \udcff", "a b\n\tc",
    ]  # fmt: skip
    rows = []
    for number, name in enumerate(names):
        path = tmp_path / name.replace("/", "\u2215")
        draw(0, number).save(path, format="PNG")
        rows.append(Suspect(path, name, names[number - 1], 0.9999))
    write_suspects(tmp_path / "suspects.csv", rows)
    with browser.page(serve(tmp_path / "suspects.csv").url, width, height) as page:
        for number, name in enumerate(names):
            page.wait(SHOWS)
            assert page.value("document.querySelector('#label').textContent") == name
            assert page.text("#place") == f"{number + 1} / 6"
            assert page.value("document.documentElement.scrollWidth") <= width
            assert page.value("document.documentElement.scrollHeight") <= height
            page.click("#relabel")
        page.click("#save")
        page.wait(SAVED)
        assert page.value("document.images.length") == 7
        assert page.value("document.title").startswith("6/6")
        assert not page.errors
    assert held(tmp_path / "suspects.csv") == [f"relabel {names[number - 1]}" for number in range(6)]


def test_phone_opens_the_classes_over_the_buttons(suspects: Path, serve: Serve, browser: Browser) -> None:
    with browser.page(serve(suspects).url, width=390, height=844) as page:
        page.wait(SHOWS)
        assert page.value("document.querySelector('#picker').offsetHeight") == 0
        page.click("#other")
        page.click("#count")  # beside them
        assert page.value("document.querySelector('#picker').offsetHeight") == 0
        page.click("#other")
        page.click("#classes li:nth-child(1) button")
        assert page.value("document.querySelector('#picker').offsetHeight") == 0
        assert strip_of(page)[0] == "relabel"


def test_three_thousand_suspects_do_not_lag(tmp_path: Path, serve: Serve, browser: Browser) -> None:
    draw(0, 0).save(tmp_path / "a.png")
    labels = [f"class {number:03d}" for number in range(200)]
    rows = [Suspect(tmp_path / f"{n}.png", labels[n % 200], labels[n % 199], 0.9) for n in range(3000)]
    for row in rows[:40]:
        row.path.write_bytes((tmp_path / "a.png").read_bytes())
    write_suspects(tmp_path / "suspects.csv", rows)
    with browser.page(serve(tmp_path / "suspects.csv").url) as page:
        page.wait(SHOWS)
        spent = page.value(
            """(async () => {
                const start = performance.now();
                for (let n = 0; n < 20; n++) {
                    document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "x", code: "KeyX", bubbles: true}));
                    await new Promise(requestAnimationFrame);
                }
                return performance.now() - start;
            })()"""
        )
        assert page.text("#place") == "21 / 3000"
        assert spent / 20 < 250  # milliseconds from a key to the picture; about 25 on an idle machine
        asked = page.value("performance.getEntriesByType('resource').filter(e => e.name.includes('thumbnail')).length")
        assert 10 <= asked < 300
