"""Somebody else's text in a Markdown file. Imports the standard library only."""

import re

MARKS = "\\`*_[]<>|&~"
HTML = "<>&"
BEGINNING = re.compile(
    r"[#+=-]|\d+(?=[.)](?:\s|$))"
)  # of a heading, a list or a line: it means that at the beginning only
# Control characters, and embeddings, overrides and isolates, which would turn round the rest of the line
# (https://www.unicode.org/reports/tr9/).
UNSEEN = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


def plain(text: object) -> str:
    """A text as Markdown shows it, whatever is in it: no markup, no HTML, no line of its own.

    Args:
        text: a name of a class, a file or a folder, or a whole sentence.

    Returns:
        One line that any UTF-8 file can hold; what cannot be seen is written out.
    """
    shown = "".join(f"&#{ord(mark)};" if mark in HTML else f"\\{mark}" if mark in MARKS else mark
                    for mark in _one_line(str(text)))  # fmt: skip
    first = BEGINNING.match(shown)
    return shown if first is None else f"\\{shown}" if not shown[0].isdigit() else _stopped(shown, first.end())


def code(text: str) -> str:
    """A text as a code span outside of tables, whatever is in it: it cannot be ended from within.

    References:
        https://spec.commonmark.org/0.31.2/#code-spans: a span ends at a run of as many backticks as it began with.
    """
    shown = _one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _stopped(text: str, at: int) -> str:
    """A text with a backslash before what would make a numbered list of it."""
    return f"{text[:at]}\\{text[at:]}"


def _one_line(text: str) -> str:
    line = " ".join(text.split()).encode("utf-8", "backslashreplace").decode("utf-8")
    return UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", line)
