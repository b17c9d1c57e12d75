"""Learning curves for the page, as inline SVG. Imports facts and matplotlib.

The SVG takes its colours and font from the page (CSS variables), so one drawing serves light, dark and print.
"""

import io
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from imgclf.report.facts import HistoryRow, Stage

STAGE_TITLES: dict[Stage, str] = {"head": "head", "fine-tune": "fine-tuning", "training": "training"}

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
    epochs = list(range(1, len(history) + 1))
    # The salt makes ids that differ from plot to plot of a page, and are the same every time.
    with matplotlib.rc_context({**SVG_STYLE, "svg.hashsalt": curve}):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.add_subplot(facecolor="none")
        figure.patch.set_visible(False)
        _mark_stages(axes, history)
        dots: dict[str, Any] = {"marker": "o", "markersize": 3} if len(history) <= 20 else {}
        axes.plot(epochs, _floats(train), color=MUTED, linewidth=1.4, linestyle=(0, (4, 2)), **dots)
        axes.plot(epochs, _floats(validation), color=ACCENT, linewidth=2.2, **dots)
        _mark_kept(axes, history, _floats(validation), _floats(train))
        _dress(axes, len(history), curve)
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


def _mark_stages(axes: Axes, history: Sequence[HistoryRow]) -> None:
    spans = []
    start = 1
    for stage, rows in groupby(history, key=lambda row: row.stage):
        end = start + len(list(rows)) - 1
        spans.append((stage, start, end))
        start = end + 1
    across = axes.get_xaxis_transform()
    for index, (stage, first, last) in enumerate(spans):
        if index:
            axes.axvline(first - 0.5, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        # A label hugs the outer edge of a short span, so that it never leaves the drawing nor meets its neighbour.
        at_end = index == len(spans) - 1 and index > 0
        x, align = (last + 0.5, "right") if at_end else (first - 0.5, "left")
        axes.text(x, 1.03, STAGE_TITLES[stage], transform=across, ha=align, va="bottom", color=MUTED)


def _mark_kept(axes: Axes, history: Sequence[HistoryRow], validation: Sequence[float], train: Sequence[float]) -> None:
    for epoch, row in enumerate(history, start=1):
        if row.kept:
            value = validation[epoch - 1] if row.val_loss is not None else train[epoch - 1]
            axes.axvline(epoch, color=ACCENT, linewidth=1, alpha=0.35)
            axes.plot(
                [epoch],
                [value],
                "o",
                markersize=10,
                markerfacecolor=PAPER,
                markeredgecolor=ACCENT,
                mew=2.4,
                clip_on=False,
            )


def _dress(axes: Axes, epochs: int, curve: Curve) -> None:
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
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
