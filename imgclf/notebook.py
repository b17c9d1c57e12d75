"""Values as small pieces of HTML for notebooks. May import progress and errors only; draws nothing (see showing.py).

Names of classes and files may hold anything, so every text that is not ours goes through `text`.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from imgclf.progress import printable

SHOWN_ROWS = 30  # a longer table is no longer read
PLAIN = "tex2jax_ignore mathjax_ignore"  # notebooks would set what is between two dollar signs as a formula


class Cell(NamedTuple):
    """A figure of ours, and in small print how sure it is.

    Attributes:
        value: the figure as text.
        small: what stands behind it; may be empty.
    """

    value: str
    small: str = ""


def text(value: object) -> str:
    """Anybody's text as HTML that shows it and does nothing else: control characters are written out.

    It is isolated (`<bdi>`), so that a name written from right to left does not turn what stands around it.
    """
    return f"<bdi>{escape(printable(str(value)))}</bdi>"


def table(head: Sequence[str], rows: Iterable[Sequence[str | Cell]], more: str = "") -> str:
    """A table whose first column holds texts, to the left, and whose others hold figures, to the right.

    Args:
        head: titles of the columns.
        rows: their cells.
        more: what to say below it ("and 70 more classes"); may be empty.
    """
    left, right = ' style="text-align:left"', ' style="text-align:right"'
    titles = "".join(f"<th{right if at else left}>{text(title)}</th>" for at, title in enumerate(head))
    lines = []
    for name, *figures in rows:
        cells = "".join(f"<td{right}>{_shown(figure)}</td>" for figure in figures)
        lines.append(f"<tr><th{left}>{_shown(name)}</th>{cells}</tr>")
    below = paragraph("", more) if more else ""
    body = f"<thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<table class="{PLAIN}" style="white-space:nowrap">{body}</table>{below}'


def listing(head: Sequence[str], rows: Iterable[Sequence[Sequence[object]]]) -> str:
    """A table of texts, to the left; a cell has one or more lines."""
    left = ' style="text-align:left;vertical-align:top"'
    titles = "".join(f"<th{left}>{text(title)}</th>" for title in head)
    body = "".join(
        "<tr>" + "".join(f"<td{left}>{'<br>'.join(map(text, lines))}</td>" for lines in row) + "</tr>" for row in rows
    )
    return f'<table class="{PLAIN}"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'


def paragraph(*lines: object) -> str:
    """Lines of text, the first of them bold; it may be empty."""
    first, *others = (text(line) for line in lines)
    head = [f"<b>{first}</b>"] if lines[0] else []
    return f'<p class="{PLAIN}">{"<br>".join([*head, *others])}</p>'


def _shown(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return text(cell)
    small = f" <small>{escape(cell.small)}</small>" if cell.small else ""
    return escape(cell.value) + small
