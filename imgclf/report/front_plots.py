"""The plots of a search, as inline SVG: accuracy against size and time, the best so far. Imports plots, matplotlib."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from imgclf.report.plots import ACCENT, LINE, MUTED, PAPER, SVG_STYLE, _svg
from imgclf.search.front import TrialRow

LOG_FROM = 5.0  # where the largest is so many times the smallest, the scale is logarithmic
LABELLED = 12  # trials of the front that are named

FIGURES: dict[str, tuple[str, Callable[[TrialRow], float | None]]] = {
    "megabytes": ("float16 .tflite file, MB", lambda row: row.megabytes),
    "milliseconds": ("one image on this computer, ms", lambda row: row.milliseconds),
}


def front_plot(rows: Sequence[TrialRow], front: Sequence[TrialRow], winner: TrialRow, figure_of: str) -> str:
    """Draw the accuracy of finished trials against what they cost.

    Args:
        rows: all trials.
        front: those to mark, with their 95 % intervals.
        winner: the one to mark above all.
        figure_of: "megabytes" or "milliseconds".

    Returns:
        An `<svg>` element without any text but numbers and fixed words, safe to put into a page.
    """
    title, cost = FIGURES[figure_of]
    done = [(row, value) for row in rows if row.state == "done" and (value := cost(row)) is not None]
    with matplotlib.rc_context({**SVG_STYLE, "svg.hashsalt": figure_of}):
        figure, axes = _canvas()
        others = [(value, row.accuracy) for row, value in done if row not in front]
        if others:
            axes.plot(*zip(*others, strict=True), "o", color=MUTED, markersize=5, alpha=0.55, mew=0)
        for row, value in done:
            if row in front:
                axes.plot([value, value], row.interval, color=ACCENT, linewidth=1.4, alpha=0.35)
                axes.plot([value], [row.accuracy], "o", color=ACCENT, markersize=7, mew=0)
        ring: dict[str, Any] = {"markersize": 12, "markerfacecolor": PAPER, "markeredgecolor": ACCENT, "mew": 2.6}
        axes.plot([cost(winner) or 0.0], [winner.accuracy], "o", **ring)
        _label(axes, [(row, value) for row, value in done if row in (*front[:LABELLED], winner)])
        _scale(axes, [value for _, value in done])
        axes.set_xlabel(title, color=MUTED)
        _dress(axes)
        return _svg(figure, f"validation accuracy against {title}")


def progress_plot(rows: Sequence[TrialRow]) -> str:
    """Draw what each trial reached, in their order, and the best so far."""
    with matplotlib.rc_context({**SVG_STYLE, "svg.hashsalt": "progress"}):
        figure, axes = _canvas()
        for state, filled in (("done", ACCENT), ("pruned", PAPER)):
            points = [(row.number, row.accuracy) for row in rows if row.state == state and row.loss is not None]
            if points:
                axes.plot(*zip(*points, strict=True), "o", markersize=6, markerfacecolor=filled,
                          markeredgecolor=ACCENT if state == "done" else MUTED, mew=1.4)  # fmt: skip
        best, steps = 0.0, []
        for row in rows:
            best = max(best, row.accuracy if row.state == "done" else 0.0)
            steps.append(best)
        numbers = [row.number for row, value in zip(rows, steps, strict=True) if value]
        axes.step(numbers, [value for value in steps if value], where="post", color=ACCENT, linewidth=1.6, alpha=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, len(rows) + 0.5)
        axes.set_xlabel("trial", color=MUTED)
        _dress(axes)
        return _svg(figure, "validation accuracy of each trial")


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    figure.patch.set_visible(False)
    return figure, figure.add_subplot(facecolor="none")


def _label(axes: Axes, points: Sequence[tuple[TrialRow, float]]) -> None:
    """The trial's number beside its point; several at one place share a label."""
    places: dict[tuple[float, float], list[int]] = {}
    for row, value in points:
        places.setdefault((value, row.accuracy), []).append(row.number)
    for place, numbers in places.items():
        axes.annotate(", ".join(map(str, numbers)), place, xytext=(9, -4), textcoords="offset points", va="top",
                      color=MUTED)  # fmt: skip


def _scale(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high / low >= LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(low / 1.3, high * 1.5)
        ticks = [step * 10.0**power for power in range(-3, 5) for step in (1, 2, 5)]
        axes.set_xticks([tick for tick in ticks if low / 1.3 <= tick <= high * 1.5])
    else:
        room = (high - low) * 0.12 or high * 0.5 or 1.0
        axes.set_xlim(max(0.0, low - room), high + 1.5 * room)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))


def _dress(axes: Axes) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(max(-0.02, low), min(1.02, high))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %" if share <= 1 else ""))
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, which="both", labelcolor=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)
