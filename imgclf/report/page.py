"""The report: facts in, one self-contained HTML file out. May import the facts, the plots and the ground.

A section is one row of `SECTIONS`: an anchor, a title, a template, and a function that turns the facts into what the
template shows.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from imgclf.evaluation.calibration_curve import BINS
from imgclf.evaluation.metrics import wilson
from imgclf.progress import duration
from imgclf.report import document, pictures, plots
from imgclf.report.advice import advise
from imgclf.report.cells import Cells, cells
from imgclf.report.document import View, folded
from imgclf.report.facts import ExportRow, ReportFacts
from imgclf.report.reading import partings
from imgclf.report.sure_lines import sure_lines
from imgclf.report.sureness_plot import learning_plot, reliability_plot
from imgclf.report.wording import marked
from imgclf.runs import write_text
from imgclf.training.history import stage_title

MAX_MATRIX = 30  # classes; a larger confusion matrix is no longer read, the most confused pairs are
MAX_PAIRS = 20  # where they stand in for the matrix
PAIRS_BESIDE = 6  # where they stand beside it
MAX_THUMBNAILS = 24  # at most 0.7 MB even if every thumbnail is noise, 0.2 MB with ordinary photos
MAX_UNSURE = 12  # likewise
MAX_SLICES = 60  # groups; a set with a sub-folder for every object has thousands
FEW_IMAGES = 100  # test images; below it the interval is wider than about 14 points and worth a warning

PART_TITLES = {"train": "training", "val": "validation", "test": "test", "": "all"}


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page: its anchor, its title, its template, and what the template shows besides the facts.

    Where there is nothing to show (None), the section is left out.
    """

    anchor: str
    title: str
    template: str
    view: Callable[[ReportFacts], View | None]


def render(facts: ReportFacts) -> str:
    """The whole report as one HTML document that needs no network and no other file.

    Args:
        facts: what the page shows.

    Returns:
        HTML text that can be written as UTF-8 whatever the file names in it are.
    """
    found = cells(facts.tested, facts.classes)
    bodies = [
        (section, document.part(section.template, facts=facts, cells=found, stage_title=stage_title, **view))
        for section in SECTIONS
        if (view := section.view(facts)) is not None
    ]
    return document.page("page.html.j2", script="page.js", facts=facts, bodies=bodies, cells=_openable(found))


def write_report(facts: ReportFacts, path: Path) -> Path:
    """Write the report to a file, all of it or nothing.

    Args:
        facts: what the page shows.
        path: the file to write; an old one is replaced.

    Returns:
        The path.

    Raises:
        SetupError: the file cannot be written.
    """
    return write_text(path, render(facts))


def _openable(found: Cells) -> View | None:
    """What the script shows of the cells; None where there are none to be opened."""
    return found.to_json() if found.cells else None


def _next(facts: ReportFacts) -> View:
    return {"advice": advise(facts), "run": shlex.quote(facts.run_path)}


def _result(facts: ReportFacts) -> View:
    metrics = facts.metrics
    largest = max(metrics.per_class, key=lambda entry: entry.support)
    return {
        "guess": largest.support / metrics.n,
        "guess_label": largest.label,
        "few": metrics.n < FEW_IMAGES,
        "weakest": metrics.weakest(1)[0],
        "top_pair": next(iter(metrics.confused_pairs(1)), None),
    }


def _exports(facts: ReportFacts) -> View:
    suggested: ExportRow | None = next((row for row in facts.exports if row.suggested), None)
    largest = max((row.bytes for row in facts.exports), default=1)
    asked = any(row.mediapipe is not None for row in facts.exports)
    return {
        "suggested": suggested,
        "largest": largest,
        "mediapipe": asked,
        "compared": max((row.n for row in facts.exports), default=0),
    }


def _training(facts: ReportFacts) -> View:
    seconds = [row.seconds for row in facts.history if row.seconds is not None]
    return {
        "curves": [(curve.capitalize(), Markup(plots.curves(facts.history, curve))) for curve in ("accuracy", "loss")]
        if facts.history
        else [],
        "kept": facts.kept,
        "spent": duration(sum(seconds)) if seconds else None,
        "validated": any(row.val_loss is not None for row in facts.history),
        "partings": partings(facts.history),
        "validations": facts.images_of("val"),
    }


def _confusion(facts: ReportFacts) -> View:
    metrics = facts.metrics
    supports = {entry.label: entry.support for entry in metrics.per_class}
    return {
        "matrix": metrics.confusion if len(facts.classes) <= MAX_MATRIX else None,
        "pairs": [(*pair, pair[2] / supports[pair[0]]) for pair in metrics.confused_pairs(MAX_PAIRS)],
        "shown_pairs": PAIRS_BESIDE,
        "supports": [entry.support for entry in metrics.per_class],
        "at": {entry.label: index for index, entry in enumerate(metrics.per_class)},
        "clickable": bool(facts.tested),
    }


def _classes(facts: ReportFacts) -> View:
    rows = facts.metrics.weakest(len(facts.classes))
    return folded(rows)


def _sureness(facts: ReportFacts) -> View:
    rows = [(row, *wilson(round(row.accuracy * row.n), row.n)) for row in facts.metrics.reliability]
    return {
        "lines": [list(marked(line)) for line in sure_lines(facts)],
        "svg": Markup(reliability_plot(facts.metrics.reliability)),
        "rows": rows,
        "width": 100 / BINS,
    }


def _slices(facts: ReportFacts) -> View | None:
    if not facts.slices:
        return None
    weak = sum(row.weak for row in facts.slices)
    shown = facts.slices[: max(MAX_SLICES, weak)]
    return {
        "weak": weak,
        "total": len(facts.slices),
        "left_out": len(facts.slices) - len(shown),
        **folded(shown),
    }


def _mistakes(facts: ReportFacts) -> View:
    worst = facts.mistakes[:MAX_THUMBNAILS]
    explained, others = [], []
    for image in worst:
        heat = facts.heat.get((image.shown_path, image.predicted_label))
        drawn = None if heat is None else pictures.jpeg(heat)
        if drawn is None:
            others.append((image, pictures.thumbnail(image.path)))
        else:
            explained.append((image, pictures.thumbnail(image.path), drawn))
    return {"shown": others, "explained": explained, "number": len(worst), "total": len(facts.mistakes)}


def _samples(facts: ReportFacts) -> View | None:
    samples = facts.samples
    picture = None if samples is None else pictures.jpeg(samples.path)
    if samples is None or picture is None:
        return None
    return {"samples": samples, "picture": picture, "flips": facts.settings.get("flip") != "False"}


def _learning(facts: ReportFacts) -> View | None:
    curve = facts.learning
    if curve is None:
        return None
    gain = f"{100 * curve.gain:+.1f} points"
    return {"curve": curve, "gain": gain, "tuned": facts.tuned, "svg": Markup(learning_plot(curve))}


def _uncertain(facts: ReportFacts) -> View | None:
    unsure = sorted(
        (image for image in facts.tested if image.second_label), key=lambda image: (image.margin, image.shown_path)
    )
    shown = [(image, pictures.thumbnail(image.path)) for image in unsure[:MAX_UNSURE]]
    right = sum(image.right for image, _ in shown)
    return {"shown": shown, "total": len(unsure), "right": right} if shown else None


def _layers(facts: ReportFacts) -> View | None:
    shown = [(picture, pictures.embedded(picture.path)) for picture in facts.layers]
    return {"shown": shown} if shown else None


def _data(facts: ReportFacts) -> View:
    parts = [part for part in PART_TITLES if part in facts.counts]
    rows = [(label, [facts.counts[part].get(label, 0) for part in parts]) for label in facts.classes]
    totals = [sum(column) for column in zip(*(numbers for _, numbers in rows), strict=True)] if rows else []
    largest = max((sum(numbers) for _, numbers in rows), default=1)
    return {
        "parts": [PART_TITLES[part] for part in parts],
        "totals": totals,
        "most": max(largest, 1),
        **folded(rows),
    }


def _details(facts: ReportFacts) -> View:
    return {"height": facts.image_size[0], "width": facts.image_size[1]}


SECTIONS = (
    Section("result", "Result", "result.html.j2", _result),
    Section("next", "What to do next", "next.html.j2", _next),
    Section("files", "What to ship", "exports.html.j2", _exports),
    Section("training", "How it learned", "training.html.j2", _training),
    Section("samples", "What it trained on", "samples.html.j2", _samples),
    Section("more", "What more images would bring", "learning.html.j2", _learning),
    Section("confusion", "What is taken for what", "confusion.html.j2", _confusion),
    Section("classes", "Class by class", "classes.html.j2", _classes),
    Section("sure", "How sure it is", "sureness.html.j2", _sureness),
    Section("groups", "Groups of images", "slices.html.j2", _slices),
    Section("mistakes", "Worst mistakes", "mistakes.html.j2", _mistakes),
    Section("uncertain", "Least sure", "uncertain.html.j2", _uncertain),
    Section("layers", "What it sees", "layers.html.j2", _layers),
    Section("data", "The images", "data.html.j2", _data),
    Section("details", "Every setting", "details.html.j2", _details),
)
