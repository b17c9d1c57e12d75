"""Sentences of the report whose names and commands are marked, for the page and the model card. Imports nothing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


class Name(str):
    """Somebody else's text within a sentence: a class, a file."""

    __slots__ = ()


class Command(str):
    """Something to type."""

    __slots__ = ()


@dataclass(frozen=True)
class Advice:
    """One thing to do.

    Attributes:
        weight: larger is more urgent.
        title: what to do, in a few words.
        text: why, with its numbers: pieces that are joined, of which some are a `Name` or a `Command`.
        cells: numbers of the true and the said class whose images it is about.
    """

    weight: float
    title: str
    text: tuple[str, ...]
    cells: tuple[tuple[int, int], ...] = ()

    @property
    def pieces(self) -> Iterator[tuple[str, str]]:
        """Each piece of the text with what it is: "text", "name" or "command"."""
        return marked(self.text)


def marked(pieces: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each piece of a sentence with what it is: "text", "name" or "command"."""
    for piece in pieces:
        yield {Name: "name", Command: "command"}.get(type(piece), "text"), piece


def images(number: int, noun: str) -> str:
    """A count with its noun, kept on one line: 12 test images."""
    return f"{number:,}\u00a0{noun}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A share as 87.6 %."""
    return f"{100 * share:.1f}\u00a0%"


def span(low: float, high: float) -> str:
    """An interval as 81.0 to 92.4 %."""
    return f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"


def points(share: float) -> str:
    """A loss as 1.2 points, or nothing."""
    return f"{100 * share:.1f} points" if share > 0 else "nothing"
