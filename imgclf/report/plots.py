"""Learning curves for the page, as inline SVG. Imports facts and matplotlib.

The SVG takes its colours and font from the page (CSS variables), so one drawing serves light, dark and print.
"""

import io
import re
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from imgclf.report.facts import HistoryRow
from imgclf.training.history import STAGE_TITLES

# Drawn in a colour that occurs nowhere else, then replaced by the page's own.
INK, MUTED, LINE, ACCENT, PAPER = "#010203", "#020304", "#030405", "#040506", "#050607"
CSS_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    PAPER: "var(--surface)",
}

# "none" writes text as text: it is set in the page's font, can be selected, and stays small.
SVG_STYLE = {"svg.fonttype": "none", "font.size": 12, "axes.linewidth": 0.8}

Curve = Literal["accuracy", "loss"]

LEAST_WIDTH = 0.8  # of the axis that the stages share evenly at least
TICKS = 10  # on the whole axis, about


def curves(history: Sequence[HistoryRow], curve: Curve) -> str:
    """Draw one measure over all epochs of all stages, with the stage change and the kept epoch marked.

    Args:
        history: at least one row, in the order of training.
        curve: "accuracy" or "loss".

    Returns:
        An `<svg>` element without any text but numbers and the names of the stages, safe to put into a page.
    """
    train = [getattr(row, curve) for row in history]
    validation = [getattr(row, f"val_{curve}") for row in history]
    spans = _spans(history)
    places = [span.place(epoch) for span in spans for epoch in range(1, span.epochs + 1)]
    # The salt makes ids that differ from plot to plot of a page, and are the same every time.
    with matplotlib.rc_context({**SVG_STYLE, "svg.hashsalt": curve}):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.add_subplot(facecolor="none")
        figure.patch.set_visible(False)
        _mark_stages(axes, spans)
        dots: dict[str, Any] = {"marker": "o", "markersize": 3} if len(history) <= 20 else {}
        for part in _parts(spans):  # a stage does not begin where the one before ended
            axes.plot(places[part], _floats(train)[part], color=MUTED, linewidth=1.4, linestyle=(0, (4, 2)), **dots)
            axes.plot(places[part], _floats(validation)[part], color=ACCENT, linewidth=2.2, **dots)
        _mark_kept(axes, history, places, _floats(validation), _floats(train))
        _mark_epochs(axes, spans)
        _dress(axes, curve)
        return _svg(figure, f"{curve} over the epochs")


def range_test(rates: Sequence[float], losses: Sequence[float], chosen: float) -> str:
    """Draw the loss of a learning-rate range test, with the rate that was chosen, as a file of its own.

    Args:
        rates: learning rate of each step, rising.
        losses: moving average of the loss after each step.
        chosen: the rate taken.

    Returns:
        An SVG document.
    """
    with matplotlib.rc_context({**SVG_STYLE, "svg.hashsalt": "rates"}):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(rates, losses, color="#1f6feb", linewidth=2)
        axes.axvline(chosen, color="#666666", linewidth=1, linestyle=(0, (4, 2)))
        axes.annotate(f" {chosen:.2g}", (chosen, max(losses)), va="top")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0, top=1.1 * max(losses))
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss while it rises")
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return buffer.getvalue()


class _Span(NamedTuple):
    """A stage on the axis: so many epochs between two places."""

    stage: str
    epochs: int
    left: float
    right: float

    def place(self, epoch: float) -> float:
        """Where an epoch of the stage is, counted from 1."""
        return self.left + (epoch - 0.5) / self.epochs * (self.right - self.left)


def _spans(history: Sequence[HistoryRow]) -> list[_Span]:
    """The stages side by side from 0 to 1. Each has its share of the epochs, but none so little that nothing is seen.

    A head trains for a hundred epochs of milliseconds, what is fine-tuned for five of half a minute.
    """
    counts = [(stage, len(list(rows))) for stage, rows in groupby(history, key=lambda row: row.stage)]
    widths = [max(count / len(history), LEAST_WIDTH / len(counts)) for _, count in counts]
    spans, left = [], 0.0
    for (stage, count), width in zip(counts, widths, strict=True):
        right = left + width / sum(widths)
        spans.append(_Span(stage, count, left, right))
        left = right
    return spans


def _parts(spans: Sequence[_Span]) -> list[slice]:
    """Where in the history each stage is."""
    ends = list(accumulate(span.epochs for span in spans))
    return [slice(end - span.epochs, end) for span, end in zip(spans, ends, strict=True)]


def _mark_stages(axes: Axes, spans: Sequence[_Span]) -> None:
    across = axes.get_xaxis_transform()
    for index, span in enumerate(spans):
        if index:
            axes.axvline(span.left, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        # A label hugs the outer edge of the last span, so that it never leaves the drawing.
        at_end = index == len(spans) - 1 and index > 0
        x, align = (span.right, "right") if at_end else (span.left, "left")
        name = span.stage.split(" ")[0]
        if index and name == spans[index - 1].stage.split(" ")[0]:
            continue  # a further member of an ensemble, or a further size: there is no room for its name
        axes.text(x, 1.03, STAGE_TITLES[name], transform=across, ha=align, va="bottom", color=MUTED)


def _mark_kept(
    axes: Axes, history: Sequence[HistoryRow], places: Sequence[float], validation: Sequence[float],
    train: Sequence[float],
) -> None:  # fmt: skip
    for at, row in enumerate(history):
        if row.kept:
            value = validation[at] if row.val_loss is not None else train[at]
            axes.axvline(places[at], color=ACCENT, linewidth=1, alpha=0.35)
            axes.plot(
                [places[at]],
                [value],
                "o",
                markersize=10,
                markerfacecolor=PAPER,
                markeredgecolor=ACCENT,
                mew=2.4,
                clip_on=False,
            )


def _mark_epochs(axes: Axes, spans: Sequence[_Span]) -> None:
    """Number the epochs of every stage from 1, as the table does."""
    ticks: list[tuple[float, str]] = []
    for span in spans:
        wanted = max(1, round(TICKS * (span.right - span.left)))
        numbers = MaxNLocator(nbins=wanted, integer=True, min_n_ticks=1).tick_values(1, span.epochs)
        ticks += [(span.place(number), f"{number:g}") for number in numbers if 1 <= number <= span.epochs]
    axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks])


def _dress(axes: Axes, curve: Curve) -> None:
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if curve == "accuracy":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}\u00a0%"))
    axes.set_xlabel("epoch", color=MUTED)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)


def _floats(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]


def _svg(figure: Figure, label: str) -> str:
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(buffer, metadata=no_metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    # What a page needs not or must not have: fixed size, XML names, ids that repeat from plot to plot, global styles.
    text = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 role="img" aria-label="{label}">', text, count=1)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"; ?font-family: [^;\"]*|font-family: [^;\"]*;? ?", "", text)
    text = text.replace("xlink:href", "href")
    return re.sub("|".join(CSS_COLOURS), lambda match: CSS_COLOURS[match.group()], text)
