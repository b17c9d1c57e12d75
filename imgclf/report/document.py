"""What every page of imgclf is made with: templates, filters, one style. Imports nothing of imgclf.

Class and file names are whatever somebody typed, so templates escape everything, and the page's own security policy
(in `base.html.j2`) forbids every request, and every script but the one that it is made with, known by its hash.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

LONG_TABLE, OPEN_ROWS = 30, 20  # rows; of a table longer than the first, the second are open, the others a click away

View = dict[str, Any]


def page(template: str, styles: Sequence[str] = ("style.css",), script: str = "", **view: object) -> str:
    """A whole HTML document that needs no network and no other file.

    Args:
        template: a template that extends `base.html.j2`.
        styles: the style sheets that go into it, among the templates.
        script: the script that goes into it, among the templates; "" for none. It runs when the page is there.
        **view: what it shows.

    Returns:
        HTML text that can be written as UTF-8 whatever the file names in it are.
    """
    style = Markup("\n".join(map(_source, styles)))
    source = _source(script) if script else ""
    digest = b64encode(sha256(source.encode()).digest()).decode("ascii")
    text = (
        _environment()
        .get_template(template)
        .render(style=style, script=Markup(source), script_hash=Markup(f"'sha256-{digest}'"), **view)
    )
    # A file name that is not valid Unicode reaches Python as lone surrogates, which no encoding can write.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def markdown(template: str, **view: object) -> str:
    """A Markdown document; its template has to make names harmless itself (`imgclf.markdown.plain`).

    Returns:
        Text that can be written as UTF-8, with one empty line at most between paragraphs.
    """
    environment = _environment().overlay(autoescape=False)
    text = environment.get_template(template).render(**view)
    return re.sub(r"\n{3,}", "\n\n", text.encode("utf-8", "backslashreplace").decode("utf-8")).rstrip("\n") + "\n"


def part(template: str, **view: object) -> Markup:
    """A piece of a document, safe to put into another template."""
    return Markup(_environment().get_template(template).render(**view))


def folded(rows: Sequence[Any]) -> View:
    """Rows of a table that are shown at once (`rows`), and those that are one click away (`more`)."""
    cut = OPEN_ROWS if len(rows) > LONG_TABLE else len(rows)
    return {"rows": rows[:cut], "more": rows[cut:]}


def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("imgclf.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        visible=_visible, percent=percent, three=_three, size=_size, grouped=_grouped, plural=_plural
    )
    return environment


def _visible(text: object) -> str:
    """Text with its control characters drawn (a newline as ␊), so that no name can break a line or hide."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: chr(0x2400 + min(ord(match.group()), 0x21)), str(text))


def percent(share: float | None) -> str:
    """A share as `87.6 %`; what is not quite none or all never reads 0.0 or 100.0."""
    if share is None:
        return "–"
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        text = ">\u202f99.9"
    elif text == "0.0" and share > 0:
        text = "<\u202f0.1"
    return f"{text}\u00a0%"


def _three(value: float | None) -> str:
    """A figure to three digits that mean something; small ones as `2.4e-05`."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2g}"


def _size(number: int) -> str:
    """A file's size: `8.9 MB` (a million bytes, as shops and file managers count)."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.1f}\u00a0{unit}"
    return f"{number}\u00a0bytes"


def _grouped(number: int) -> str:
    """A whole number as `2,257,984`."""
    return f"{number:,}"


def _plural(number: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 class`, `10 classes`."""
    return f"{number:,}\u00a0{one if number == 1 else many or one + 's'}"
