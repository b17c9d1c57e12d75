"""What the page is told and what it sends back, as pure functions. May import data.suspects and the ground modules."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgclf.data.suspects import ACTIONS, Suspect, shown_path

MAX_NAME = 255  # characters of a class name; no file system has longer folders


def rows_of(suspects: Sequence[Suspect], folder: Path) -> list[list[Any]]:
    """The rows as the page takes them: path relative to `folder`, label, suggested, confidence, action, new label."""
    return [
        [shown_path(each.path, folder), each.label, each.suggested, each.confidence, each.action, each.new_label]
        for each in suspects
    ]


def classes_of(suspects: Sequence[Suspect]) -> list[str]:
    """Every class that a row names, sorted."""
    return sorted({name for each in suspects for name in (each.label, each.suggested, each.new_label) if name})


def decide(suspects: Sequence[Suspect], decisions: Any) -> tuple[Suspect, ...]:
    """The rows with other decisions.

    Args:
        suspects: the rows.
        decisions: what the page sent: for every row, in order, a list of its action and its new label. A new label
            is a class that some row names, or a new one: up to 255 characters, none of them a control character.

    Returns:
        All rows, in the same order.

    Raises:
        ValueError: `decisions` is anything else.
    """
    if not isinstance(decisions, list) or len(decisions) != len(suspects):
        raise ValueError(f"expected a list of {len(suspects)} decisions")
    known = set(classes_of(suspects))
    return tuple(_decide(suspect, decision, known) for suspect, decision in zip(suspects, decisions, strict=True))


def summary(suspects: Sequence[Suspect]) -> str:
    """How much has been decided: `12 of 60 decided: 3 keep, 5 relabel, 4 exclude`."""
    counts = Counter(suspect.action for suspect in suspects)
    parts = [f"{counts[action]} {action}" for action in ACTIONS if action and counts[action]]
    return f"{len(suspects) - counts['']} of {len(suspects)} decided" + (f": {', '.join(parts)}" if parts else "")


def _decide(suspect: Suspect, decision: Any, known: set[str]) -> Suspect:
    match decision:
        case ["" | "keep" | "exclude" as action, ""]:
            return replace(suspect, action=action, new_label="")
        case ["relabel", str(name)] if name in known or _may_be_class(name):
            return replace(suspect, action="relabel", new_label=name)
    raise ValueError(f"{str(decision)[:80]!r} is no decision")


def _may_be_class(name: str) -> bool:
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return 0 < len(name) <= MAX_NAME and name.strip() != "" and not any(ord(letter) < 32 for letter in name)
