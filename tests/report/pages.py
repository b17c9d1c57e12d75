"""What the tests of every page share: hostile names, a reader of HTML, a browser."""

import html
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> ' `",
    "two\nlines\tand\x00nul",
    "\u202eeslaf \u05e9\u05dc\u05d5\u05dd",
    "{{ 7 * 7 }}{% raw %}",
    "w" * 240,
    "lone \udcff surrogate",
)
DATA: dict[str, str | None] = {"type": "application/json", "id": "cell-data"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def foreign_scripts(page: "Page") -> list[dict[str, str | None]]:
    """Script elements that are not the page's own two: its data, which are not run, and its code."""
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    return [attributes for attributes in scripts if attributes not in ({}, DATA)] + scripts[2:]


class Page(HTMLParser):
    """What a browser would see: every start tag with its attributes, and the text outside of tags."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.chunks: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("th", "td", "dt", "dd", "p", "li", "span"):  # stand apart, also without a space in the source
            self.chunks.append(" ")

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] not in ("style", "script"):
            self.chunks.append(data)

    @property
    def text(self) -> str:
        """Words as they are read: no-break spaces and line breaks are spaces."""
        return " ".join("".join(self.chunks).split())

    def values(self, name: str) -> list[str]:
        """Every value of one attribute."""
        return [value or "" for _, attributes in self.tags for key, value in attributes.items() if key == name]


def check_in_a_browser(source: str, folder: Path, width: int) -> None:
    """Nothing is wider than the screen, and every picture can be drawn.

    The page is put into a frame of that width, as Chromium's own window does not go below 500 pixels.
    """
    report = html.escape(source)
    wrapper = folder / "wrapper.html"
    wrapper.write_text(
        f"""<!DOCTYPE html><iframe id="page" width="{width}" height="800" srcdoc="{report}"></iframe><script>
        const frame = document.getElementById("page");
        frame.onload = () => {{
          const root = frame.contentDocument.documentElement;
          const pictures = [...frame.contentDocument.images].filter(image => !image.naturalWidth).length;
          document.title = ["measured", root.clientWidth, root.scrollWidth, pictures].join(" ");
        }};</script>""",
        encoding="utf-8",
    )
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,900", "--dump-dom", *(["--no-sandbox"] if sys.platform == "linux" else []),
            wrapper.as_uri(),
        ],
        capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=120, check=False,
    )  # fmt: skip
    measured = re.search(r"<title>measured (\d+) (\d+) (\d+)</title>", done.stdout)
    assert measured, done.stderr[-2000:]
    visible, wide, broken = map(int, measured.groups())
    assert 0 < visible <= width
    assert wide <= visible
    assert broken == 0
