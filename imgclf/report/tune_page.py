"""The page of a search: facts in, one self-contained HTML file out. Imports search/front, the plots, document."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from imgclf.progress import duration
from imgclf.report import document, front_plots
from imgclf.report.document import View, folded
from imgclf.runs import write_csv, write_text
from imgclf.search.front import Choice, TrialRow, describe

FEW_IMAGES = 100  # validation images; below it most trials cannot be told apart

# What trials are compared by: the parameter of the study -> a title, and a trial's value in words (None: it has none).
COMPARED: dict[str, tuple[str, Callable[[TrialRow], str | None]]] = {
    "network": ("Network", lambda row: row.network),
    "image_size": ("Image size", lambda row: _said(row, "image_size")),
    "depth": ("Fine-tuning", lambda row: _said(row, "unfreeze") or _said(row, "fine_tune_epochs")),
    "augment": ("Augmentation", lambda row: row.settings.get("augment")),
}


@dataclass(frozen=True, slots=True)
class TuneFacts:
    """What the page shows.

    Attributes:
        title: of the images.
        created: ISO 8601.
        command: what the user typed.
        classes: their names.
        data_notes: on the images, a line each.
        searched: what was searched: a title to its values.
        given: what was not searched: a setting to its value.
        rows: all trials; at least one is done.
        front: as `pareto_front` gives it.
        choice: the winner.
        importances: parameter to its share of the differences; may be empty.
    """

    title: str
    created: str
    command: str
    classes: Sequence[str]
    data_notes: Sequence[str]
    searched: Mapping[str, Sequence[str]]
    given: Mapping[str, str]
    rows: tuple[TrialRow, ...]
    front: tuple[TrialRow, ...]
    choice: Choice
    importances: Mapping[str, float]


def render_tune(facts: TuneFacts) -> str:
    """The whole page as one HTML document that needs no network and no other file."""
    winner = facts.choice.winner
    plots = [
        (title, Markup(front_plots.front_plot(facts.rows, facts.front, winner, name)))
        for name, title in (("megabytes", "Accuracy and size"), ("milliseconds", "Accuracy and time"))
    ]
    states = [row.state for row in facts.rows]
    return document.page(
        "tune.html.j2",
        ("style.css", "tune.css"),
        facts=facts,
        winner=winner,
        winner_settings=describe(winner.settings),
        describe=describe,
        few=winner.n < FEW_IMAGES,
        plots=plots,
        progress=Markup(front_plots.progress_plot(facts.rows)),
        pruned=states.count("pruned"),
        failed=states.count("failed"),
        perfect=any(row.head_only and row.right == row.n for row in facts.rows),
        spent=duration(sum(row.seconds for row in facts.rows)),
        duration=duration,
        compared=_compared(facts),
        searched={title: ", ".join(values) for title, values in facts.searched.items()},
        **folded(sorted(facts.rows, key=_rank)),
    )


def write_tune_page(facts: TuneFacts, path: Path) -> Path:
    """Write the page to a file, all of it or nothing.

    Raises:
        SetupError: the file cannot be written.
    """
    return write_text(path, render_tune(facts))


def write_trials(rows: Sequence[TrialRow], path: Path) -> Path:
    """Write one line per trial.

    Raises:
        SetupError: the file cannot be written.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.settings))
    header = ["trial", "state", "network", *names, "accuracy", "accuracy_low", "accuracy_high", "loss", "megabytes",
              "milliseconds", "seconds", "epochs", "note"]  # fmt: skip
    table = [
        [row.number, row.state, row.network, *(_cell(row.settings.get(name)) for name in names),
         *(f"{value:.4f}" if row.loss is not None else "" for value in (row.accuracy, *row.interval)),
         _cell(row.loss), _cell(row.megabytes), _cell(row.milliseconds), f"{row.seconds:.1f}", row.epochs, row.note]
        for row in rows
    ]  # fmt: skip
    return write_csv(path, header, table)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _rank(row: TrialRow) -> tuple[int, float, int]:
    return ("done", "pruned", "failed").index(row.state), -row.score, row.number


def _compared(facts: TuneFacts) -> list[View]:
    """The finished trials by each value that was tried more than once or beside another."""
    found = []
    for name, (title, value_of) in COMPARED.items():
        groups: dict[str, list[float]] = {}
        for row in facts.rows:
            value = value_of(row)
            if row.state == "done" and value is not None:
                groups.setdefault(value, []).append(row.accuracy)
        if len(groups) > 1:
            values = [(value, len(each), max(each), statistics.median(each)) for value, each in groups.items()]
            share = next((share for key, share in facts.importances.items() if key.split(" ")[0] == name), None)
            found.append({"title": title, "share": share, "values": sorted(values, key=lambda entry: -entry[3])})
    return found


def _said(row: TrialRow, setting: str) -> str | None:
    return describe({setting: row.settings[setting]}) if setting in row.settings else None
