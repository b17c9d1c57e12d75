"""The reliability diagram and the learning curve of a model, as inline SVG. Imports plots and matplotlib."""

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullLocator

from imgclf.evaluation.calibration_curve import BINS, ReliabilityBin
from imgclf.evaluation.metrics import wilson
from imgclf.report.learning_curve import LearningCurve, fitted_end
from imgclf.report.plots import ACCENT, LINE, MUTED, PAPER, SVG_STYLE, _svg


def reliability_plot(bins: Sequence[ReliabilityBin]) -> str:
    """Draw how often answers are right against how sure the model was, and below it how many answers there are.

    Args:
        bins: as `reliability` gives them, at least one.

    Returns:
        An `<svg>` element without any text but numbers and fixed words, safe to put into a page.
    """
    with matplotlib.rc_context({**SVG_STYLE, "svg.hashsalt": "reliability"}):
        figure = Figure(figsize=(4.9, 4.6), layout="constrained")
        figure.patch.set_visible(False)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (4, 2)))
        for each in bins:
            upper.plot([each.confidence] * 2, wilson(round(each.accuracy * each.n), each.n), color=ACCENT,
                       linewidth=5, alpha=0.28, solid_capstyle="round")  # fmt: skip
        upper.plot([each.confidence for each in bins], [each.accuracy for each in bins], "o", color=ACCENT,
                   markersize=7, mew=0, clip_on=False)  # fmt: skip
        upper.set_ylim(0, 1.02)
        upper.yaxis.set_major_locator(MultipleLocator(0.25))
        upper.yaxis.set_major_formatter(FuncFormatter(_percent))
        upper.set_ylabel("right", color=MUTED)
        upper.grid(axis="y", color=LINE, linewidth=0.8)
        lower.bar([each.low + 0.5 / BINS for each in bins], [each.n for each in bins], width=0.8 / BINS, color=ACCENT,
                  alpha=0.55, linewidth=0)  # fmt: skip
        most = max(each.n for each in bins)
        for each in bins:
            lower.text(each.low + 0.5 / BINS, each.n + 0.05 * most, _short(each.n), ha="center", va="bottom",
                       color=MUTED, fontsize=9)  # fmt: skip
        lower.set_ylim(0, 1.35 * most)
        lower.set_yticks([])
        lower.set_ylabel("images", color=MUTED)
        lower.set_xlim(0, 1)
        lower.xaxis.set_major_formatter(FuncFormatter(_percent))
        lower.set_xlabel("probability of the answer", color=MUTED)
        for axes in (upper, lower):
            _dress(axes)
        return _svg(figure, "how often answers are right against how sure the model was")


def learning_plot(curve: LearningCurve) -> str:
    """Draw the accuracy against the number of training images, carried on to twice as many.

    Args:
        curve: with at least two points.

    Returns:
        An `<svg>` element without any text but numbers and fixed words, safe to put into a page.
    """
    sizes, shares = (list(values) for values in zip(*curve.points, strict=True))
    twice, now = 2 * sizes[-1], fitted_end(curve)
    ends = [min(1.0, now + gain) for gain in (curve.gain_low, curve.gain_high)]
    with matplotlib.rc_context({**SVG_STYLE, "svg.hashsalt": "learning"}):
        figure = Figure(figsize=(4.9, 3.2), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        for size, share in curve.points:
            axes.plot([size] * 2, wilson(share * curve.n, curve.n), color=ACCENT, linewidth=5, alpha=0.22,
                      solid_capstyle="round")  # fmt: skip
        axes.plot(sizes, shares, "o-", color=ACCENT, linewidth=2, markersize=7, mew=0)
        axes.plot([sizes[-1], twice], [now, now + curve.gain], color=MUTED, linewidth=1.6, linestyle=(0, (4, 2)))
        axes.plot([twice] * 2, ends, color=MUTED, linewidth=5, alpha=0.4, solid_capstyle="round")
        axes.plot([twice], [now + curve.gain], "o", markersize=8, markerfacecolor=PAPER, markeredgecolor=MUTED, mew=2)
        axes.set_xscale("log")
        axes.set_xticks([*sizes, twice], [f"{size:,}" for size in (*sizes, twice)])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.set_xlabel("training images", color=MUTED)
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        _dress(axes)
        return _svg(figure, "accuracy against the number of training images")


def _percent(share: float, _: int = 0) -> str:
    return f"{100 * share:g}\u00a0%"


def _short(number: int) -> str:
    """A count that fits above its column: 950, 1.2k, 14k."""
    return str(number) if number < 1000 else f"{number / 1000:.1f}k" if number < 9950 else f"{number / 1000:.0f}k"


def _dress(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)
