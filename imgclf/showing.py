"""Figures for notebooks: photos with their predictions, confusions, reliability, curves. May import matplotlib.

Plain values in, a figure out, so that every layer above can draw what it holds; whoever needs it imports it when
something is drawn. Texts are shown as they are: never as TeX, whatever dollar signs a name holds.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from imgclf.progress import printable

INK, MUTED, LINE, ACCENT = "#1c2127", "#646c78", "#d9dce1", "#1f6feb"
NUMBERED = 30  # classes up to which a confusion matrix has room for its numbers
NAMED = 60  # class names along an axis, at most
LONGEST = 24  # characters of a name that are shown
LEAST_WIDTH = 0.6  # of the axis that the stages of a training share evenly at least
# For what the font of matplotlib has no letters for; those that are installed are asked in this order.
FONTS = (
    "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Microsoft YaHei", "Malgun Gothic",
    "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Emoji", "Segoe UI Emoji", "Segoe UI Symbol",
    "Arial Unicode MS", "Symbola",
)  # fmt: skip


class Point(NamedTuple):
    """Images of about the same probability.

    Attributes:
        confidence: mean probability of their predicted class, 0..1.
        accuracy: share of them that is right, 0..1.
        low: lower end of its 95 % interval.
        high: upper end of it.
        n: number of images.
    """

    confidence: float
    accuracy: float
    low: float
    high: float
    n: int


class Curves(NamedTuple):
    """One stage of a training.

    Attributes:
        title: of the stage, for people.
        train: measure by name ("accuracy", "loss") to its value in each epoch, on the training images.
        val: the same on the validation images.
        kept: index of the epoch whose weights are the model's; None where it is in another stage.
    """

    title: str
    train: dict[str, list[float]]
    val: dict[str, list[float]]
    kept: int | None = None


class Drawing(Figure):
    """A figure that a notebook shows by itself, also where nothing has imported pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def draw(self, renderer: Any) -> None:
        """Draw; a letter that no font has is a box, and nobody is told so once a name."""
        with _no_word_of_missing_letters():
            super().draw(renderer)

    def get_tightbbox(self, *arguments: Any, **options: Any) -> Any:
        """Where there is anything, as matplotlib has it."""
        with _no_word_of_missing_letters():
            return super().get_tightbbox(*arguments, **options)


def draw_confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Drawing:
    """A confusion matrix: colour is the share of a true class, the numbers are images.

    Args:
        counts: C rows (true class) of C numbers of images (predicted class).
        names: the C class names. Above NUMBERED the numbers, above NAMED some of the names are left out.
    """
    table = np.asarray(counts, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = len(names)
    side = min(12.0, 2.4 + (0.42 if size <= NUMBERED else 0.16) * size)
    with _style():
        figure = Drawing(figsize=(side + 1.0, side), layout="compressed")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        step = ceil(size / NAMED)
        places, shown = range(0, size, step), [_short(name) for name in names[::step]]
        letters = 9 if size <= NUMBERED else 7
        axes.set_xticks(places, shown, rotation=90 if size > 6 else 0, fontsize=letters, parse_math=False)
        axes.set_yticks(places, shown, fontsize=letters, parse_math=False)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if size <= NUMBERED:
            for row, column in zip(*np.nonzero(table), strict=True):
                colour = "white" if shares[row, column] > 0.5 else INK
                axes.text(column, row, f"{table[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
        axes.spines[:].set_color(LINE)
        bar = figure.colorbar(image, shrink=0.7, format=PercentFormatter(1))
        bar.set_label("share of the true class")
        bar.outline.set_visible(False)
    return figure


def draw_reliability(points: Sequence[Point], error: float) -> Drawing:
    """A reliability diagram: how often the model is right, by how sure it is, and how many images that is measured on.

    Args:
        points: at least one.
        error: expected calibration error, 0..1.
    """
    with _style():
        figure = Drawing(figsize=(5.2, 5.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 2)), label="as promised")
        x, y = [point.confidence for point in points], [point.accuracy for point in points]
        # an interval need not hold the share itself to the last digit
        reach = [[max(0.0, point.accuracy - point.low) for point in points],
                 [max(0.0, point.high - point.accuracy) for point in points]]  # fmt: skip
        above.errorbar(x, y, reach, color=ACCENT, marker="o", markersize=5, elinewidth=1, capsize=2, linewidth=1.6,
                       label="measured, 95 % interval")  # fmt: skip
        above.set_ylim(-0.03, 1.03)
        above.set_ylabel("share that is right")
        figure.legend(loc="outside upper center", ncols=2, frameon=False)  # there is no corner that is always free
        above.set_title(f"calibration error {error:.3f}")
        below.bar(x, [point.n for point in points], width=0.03, color=ACCENT)
        below.set_xlim(0, 1)
        below.set_xlabel("probability of the predicted class")
        below.set_ylabel("images")
        below.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
        below.xaxis.set_major_formatter(PercentFormatter(1))
        above.yaxis.set_major_formatter(PercentFormatter(1))
        for axes in (above, below):
            _dress(axes)
    return figure


def draw_curves(stages: Sequence[Curves], measures: Sequence[str] = ("accuracy", "loss")) -> Drawing:
    """Learning curves of all stages side by side, with the epoch that was kept.

    Args:
        stages: in the order of training, each of at least one epoch.
        measures: what to draw, one plot each.
    """
    spans = _spans([len(stage.train[measures[0]]) for stage in stages])
    with _style():
        figure = Drawing(figsize=(5.2 * len(measures), 3.6), layout="constrained")
        for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
            for number, (stage, places) in enumerate(zip(stages, spans, strict=True)):
                first = not number
                dots: dict[str, Any] = {"marker": "o", "markersize": 3} if len(places) <= 20 else {}
                axes.plot(places, stage.train[measure], color=MUTED, linewidth=1.4, linestyle=(0, (4, 2)),
                          label="training" if first else None, **dots)  # fmt: skip
                axes.plot(places, stage.val[measure], color=ACCENT, linewidth=2, label="validation" if first else None,
                          **dots)  # fmt: skip
                if stage.kept is not None:
                    axes.plot(places[stage.kept], stage.val[measure][stage.kept], "o", markersize=10, zorder=3, mew=2,
                              markerfacecolor="white", markeredgecolor=ACCENT, label="kept")  # fmt: skip
            _mark_stages(axes, stages, spans)
            if measure == "accuracy":
                axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set_xlabel("epoch")
            axes.set_ylabel(measure)
            axes.legend(frameon=False, fontsize=9)
            _dress(axes)
    return figure


def draw_photos(photos: Sequence[tuple[NDArray[np.uint8], str, str]], columns: int) -> Drawing:
    """Photos in rows, each with what is said of it.

    Args:
        photos: pixels uint8 `(H, W, 3)` with a line above (class and probability) and a small one below (the file).
        columns: photos in a row, at least 1.
    """
    columns = min(columns, len(photos))
    rows = ceil(len(photos) / columns)
    with _style():
        figure = Drawing(figsize=(2.4 * columns, 2.75 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, (pixels, above, below) in zip(grid, photos, strict=False):
            axes.imshow(pixels, interpolation="nearest" if max(pixels.shape) < 120 else None)
            axes.set_title(printable(above), fontsize=10, parse_math=False)
            small = {"fontsize": 7, "color": MUTED, "ha": "center", "va": "top", "parse_math": False}
            axes.text(0.5, -0.03, _short(below), transform=axes.transAxes, **small)
    return figure


def _spans(counts: Sequence[int]) -> list[NDArray[np.float64]]:
    """Where the epochs of each stage are, from 0 to 1; no stage has so little room that nothing is seen of it.

    A head trains for a hundred epochs of milliseconds, what is fine-tuned for five of half a minute.
    """
    widths = np.array([max(count / sum(counts), LEAST_WIDTH / len(counts)) for count in counts])
    ends = np.cumsum(widths) / widths.sum()
    begins = np.concatenate([[0.0], ends[:-1]])
    return [begin + (np.arange(count) + 0.5) / count * (end - begin)
            for begin, end, count in zip(begins, ends, counts, strict=True)]  # fmt: skip


def _mark_stages(axes: Any, stages: Sequence[Curves], spans: Sequence[NDArray[np.float64]]) -> None:
    """Number the epochs of every stage from 1, and say where a stage begins."""
    ticks: list[tuple[float, str]] = []
    for number, (stage, places) in enumerate(zip(stages, spans, strict=True)):
        begin = 0.0 if not number else (spans[number - 1][-1] + places[0]) / 2
        if number:
            axes.axvline(begin, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        if len(stages) <= 4:  # the names of an ensemble's stages would lie over each other
            axes.text(begin + 0.01, 1.02, stage.title, transform=axes.get_xaxis_transform(), color=MUTED, fontsize=9)
        room = 2 * (places[0] - begin) * len(places)  # share of the axis
        every = ceil(len(places) / max(2, round(12 * room)))
        ticks += [(float(place), str(at + 1)) for at, place in enumerate(places) if not at % every]
    axes.set_xlim(0, 1)
    axes.set_xticks([place for place, _ in ticks], [label for _, label in ticks])


def _dress(axes: Any) -> None:
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=MUTED)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


@contextmanager
def _style() -> Iterator[None]:
    """White paper and our fonts, whatever style a notebook has chosen: the colours are meant for it."""
    installed = {font.name for font in fontManager.ttflist}
    family = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["font.family"] = family
        yield


@contextmanager
def _no_word_of_missing_letters() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        yield
