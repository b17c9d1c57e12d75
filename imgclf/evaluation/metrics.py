"""What labels and probabilities say about a classifier: figures with intervals, per class, mix-ups. Imports NumPy.

Single figures are worked out in intervals.py, ranking.py and calibration_curve.py.

Conventions for what is undefined: a class without test images has no recall and no F1 and is left out of every macro
average; a class that was never predicted has no precision, and counts as precision 0 in the macro average, as in
scikit-learn. Undefined is None, never NaN, so that every figure survives JSON. scikit-learn itself is what the tests
compare with: importing it costs 1.5 s, and its AUC of 1,000 classes takes 6 s where sorting and searching takes 0.3 s.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf import notebook
from imgclf.errors import InputError
from imgclf.evaluation.calibration_curve import (
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    log_loss,
    reliability,
)
from imgclf.evaluation.intervals import Z95 as Z95
from imgclf.evaluation.intervals import balanced_accuracy_interval, f1_each, macro_f1_interval, wilson_each
from imgclf.evaluation.intervals import wilson as wilson
from imgclf.evaluation.ranking import one_against_rest, top_k_accuracy
from imgclf.notebook import Cell
from imgclf.progress import printable

if TYPE_CHECKING:
    from imgclf.showing import Drawing

TOP = 5  # with no more classes than this, the top-k accuracy would always be 1
TABLES = ("per_class", "reliability", "confusion")  # the fields of `Metrics` that are no single figure
SHOWN_CLASSES = 30  # a longer table is no longer read; `str(metrics)` then shows the weakest classes only


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """How one class fared on the test images.

    Attributes:
        label: the class name.
        support: number of test images of this class.
        precision: share of the images predicted as this class that are of it, 0..1; None if none was.
        precision_low: lower end of its 95 % interval (Wilson); None where it is.
        precision_high: upper end of it.
        recall: share of this class's images that were predicted as it, 0..1; None without images.
        recall_low: lower end of its 95 % interval (Wilson); None where it is.
        recall_high: upper end of it.
        f1: harmonic mean of precision and recall, 0..1; None without images.
        f1_low: lower end of its 95 % interval (`intervals.f1_each`); None where it is.
        f1_high: upper end of it.
    """

    label: str
    support: int
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    f1: float | None
    f1_low: float | None
    f1_high: float | None


@dataclass(frozen=True)
class Metrics:
    """What a classifier is worth on images that it was not trained on.

    Attributes:
        n: number of test images, at least 1.
        accuracy: share of images whose most probable class is the true one, 0..1.
        accuracy_low: lower end of the 95 % Wilson interval of the accuracy.
        accuracy_high: upper end of it.
        top5_accuracy: share of images whose true class is among the five most probable; None for up to 5 classes.
        balanced_accuracy: accuracy as it would be if every class had as many images (mean recall).
        balanced_accuracy_low: lower end of its 95 % interval (`intervals.balanced_accuracy_interval`).
        balanced_accuracy_high: upper end of it.
        macro_precision: mean precision over the classes with test images.
        macro_recall: mean recall over them; the same figure as the balanced accuracy, under its other name.
        macro_f1: mean F1 over them.
        macro_f1_low: lower end of its 95 % interval (`intervals.macro_f1_interval`).
        macro_f1_high: upper end of it.
        weighted_precision: mean precision weighted by the number of images.
        weighted_recall: mean recall weighted by it; the same figure as the accuracy, under its other name.
        weighted_f1: mean F1 weighted by it.
        log_loss: mean negative natural logarithm of the true class's probability; 0 is perfect.
        brier: squared error of the probabilities, summed over classes, mean over images; 0 perfect, 2 worst.
        ece: expected calibration error, 0..1: by how much the largest probability is off as a promise of accuracy.
        auc: area under the ROC curve, one class against the rest, mean over the classes where it is defined
            (some images of the class, and some that are not); None where it is defined for none.
        average_precision: area under the precision-recall curve, one class against the rest, mean over the classes
            with test images.
        per_class: one entry per class, in the classes' order.
        reliability: the bins that `ece` is made of, without the empty ones.
        confusion: C rows (true class) of C numbers of images (predicted class).
        coverage: share of the images that a model with a gate did not call unknown, 0..1; None without a gate. Every
            other figure is of the classes alone, whether an image was called unknown or not.
        coverage_low: lower end of its 95 % Wilson interval.
        coverage_high: upper end of it.
    """

    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    top5_accuracy: float | None
    balanced_accuracy: float
    balanced_accuracy_low: float
    balanced_accuracy_high: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    log_loss: float
    brier: float
    ece: float
    auc: float | None
    average_precision: float
    per_class: tuple[ClassMetrics, ...]
    reliability: tuple[ReliabilityBin, ...]
    confusion: tuple[tuple[int, ...], ...]
    coverage: float | None = None
    coverage_low: float | None = None
    coverage_high: float | None = None

    @property
    def correct(self) -> int:
        """Number of images whose most probable class is the true one."""
        return sum(row[index] for index, row in enumerate(self.confusion))

    def with_coverage(self, known: int) -> "Metrics":
        """The same figures with the share of images that were not called unknown."""
        low, high = wilson(known, self.n)
        return replace(self, coverage=known / self.n, coverage_low=low, coverage_high=high)

    def confused_pairs(self, limit: int) -> tuple[tuple[str, str, int], ...]:
        """The most frequent confusions: (true class, predicted class, number of images), most frequent first."""
        errors = np.asarray(self.confusion)
        np.fill_diagonal(errors, 0)
        width = errors.shape[1]
        flat = errors.ravel()
        order = np.argsort(-flat, kind="stable")[:limit]
        names = [entry.label for entry in self.per_class]
        return tuple((names[at // width], names[at % width], int(flat[at])) for at in order if flat[at])

    def weakest(self, limit: int) -> tuple[ClassMetrics, ...]:
        """The classes with the lowest F1, lowest first; classes without test images come last."""
        return tuple(sorted(self.per_class, key=lambda entry: (entry.f1 is None, entry.f1 or 0.0))[:limit])

    def plot_confusion(self) -> "Drawing":
        """The confusion matrix as a matplotlib figure: shares of the true class as colours, images as numbers.

        With many classes the numbers, and with very many some of the names, are left out.
        """
        from imgclf.showing import draw_confusion

        return draw_confusion(self.confusion, [entry.label for entry in self.per_class])

    def plot_reliability(self) -> "Drawing":
        """Whether probabilities mean what they say, as a matplotlib figure: a point per range of probability.

        On the diagonal a probability of 80 % is right in 80 % of the images; below it the model is too sure of itself.
        """
        from imgclf.showing import Point, draw_reliability

        points = [Point(entry.confidence, entry.accuracy, *wilson(entry.accuracy * entry.n, entry.n), entry.n)
                  for entry in self.reliability]  # fmt: skip
        return draw_reliability(points, self.ece)

    def to_json(self) -> dict[str, Any]:
        """All figures as plain JSON types; `from_json` reads them back."""
        return {
            **{name: value for name, value in vars(self).items() if name not in TABLES},
            "per_class": [asdict(entry) for entry in self.per_class],
            "reliability": [asdict(entry) for entry in self.reliability],
            "confusion": [list(row) for row in self.confusion],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Metrics":
        """Metrics from what `to_json` gave.

        Raises:
            InputError: figures are missing, or there are unknown ones.
        """
        try:
            rows = tuple(tuple(row) for row in data["confusion"])
            per_class = tuple(ClassMetrics(**entry) for entry in data["per_class"])
            bins = tuple(ReliabilityBin(**entry) for entry in data["reliability"])
            return cls(**{**data, "per_class": per_class, "reliability": bins, "confusion": rows})
        except (KeyError, TypeError) as error:
            fix = "expected what this version of imgclf writes; train again, or use the version that wrote them"
            raise InputError(f"these are not imgclf's metrics ({error})", fix) from error

    def __str__(self) -> str:
        shown, title = self._shown_classes()
        names = [printable(entry.label) for entry in shown]
        width = max(map(len, (title, *names)))
        lines = [self._headline(), *self._summary(), ""]
        lines.append(f"{title:{width}}  images  precision  recall     F1  95 % interval")
        lines += [
            f"{name:{width}}  {entry.support:6}  {_three(entry.precision):>9}  {_three(entry.recall):>6}  "
            f"{_three(entry.f1):>5}  {_interval(entry.f1_low, entry.f1_high):>13}"
            for name, entry in zip(names, shown, strict=True)
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        shown, title = self._shown_classes()
        rows: list[list[str | Cell]] = [
            [
                entry.label,
                str(entry.support),
                Cell(_three(entry.precision), _interval(entry.precision_low, entry.precision_high)),
                Cell(_three(entry.recall), _interval(entry.recall_low, entry.recall_high)),
                Cell(_three(entry.f1), _interval(entry.f1_low, entry.f1_high)),
            ]
            for entry in shown
        ]
        table = notebook.table((title, "images", "precision", "recall", "F1"), rows, "small: 95 % intervals")
        return notebook.paragraph(self._headline(), *self._summary()) + table

    def _headline(self) -> str:
        low, high = 100 * self.accuracy_low, 100 * self.accuracy_high
        right = f"{self.correct} of {self.n} test images"
        return f"accuracy {100 * self.accuracy:.1f} % ({right}; 95 % interval {low:.1f} to {high:.1f} %)"

    def _summary(self) -> tuple[str, ...]:
        balanced = _interval(self.balanced_accuracy_low, self.balanced_accuracy_high, " to ")
        macro = _interval(self.macro_f1_low, self.macro_f1_high, " to ")
        top = "" if self.top5_accuracy is None else f", top-5 accuracy {self.top5_accuracy:.3f}"
        gate: tuple[str, ...] = ()
        if self.coverage is not None and self.coverage_low is not None and self.coverage_high is not None:
            around = _interval(self.coverage_low, self.coverage_high, " to ")
            gate = (f"coverage {self.coverage:.3f} ({around}): the others were called unknown",)
        return (
            f"balanced accuracy {self.balanced_accuracy:.3f} ({balanced}), macro F1 {self.macro_f1:.3f} ({macro})",
            f"weighted F1 {self.weighted_f1:.3f}, AUC {_three(self.auc)}, "
            f"average precision {self.average_precision:.3f}{top}",
            f"log loss {self.log_loss:.3f}, Brier score {self.brier:.3f}, calibration error {self.ece:.3f}",
            *gate,
        )

    def _shown_classes(self) -> tuple[tuple[ClassMetrics, ...], str]:
        if len(self.per_class) <= SHOWN_CLASSES:
            return self.per_class, "class"
        return self.weakest(SHOWN_CLASSES), f"class (weakest {SHOWN_CLASSES} of {len(self.per_class)})"


def compute(labels: NDArray[Any], probabilities: NDArray[Any], classes: tuple[str, ...]) -> Metrics:
    """Measure predictions against the truth.

    Args:
        labels: (N,) integers, the true class indices, 0..C-1.
        probabilities: (N, C) floats 0..1, one row per image, in the order of `classes`.
        classes: the C class names.

    Returns:
        Every figure of `Metrics`. Among equally probable classes the first one counts as predicted.

    Raises:
        InputError: there are no images, or the model gave values that are not numbers.
        ValueError: the shapes do not fit together, or a label is out of range.
    """
    labels, probabilities = np.asarray(labels, dtype=np.int64), np.asarray(probabilities)
    _check(labels, probabilities, len(classes))
    n, size = len(labels), len(classes)
    counts = np.bincount(labels * size + probabilities.argmax(axis=1), minlength=size**2).reshape(size, size)
    hits, support, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    recall = hits / np.maximum(support, 1)
    precision = hits / np.maximum(predicted, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    present = support > 0
    accuracy_low, accuracy_high = wilson(int(hits.sum()), n)
    balanced_low, balanced_high = balanced_accuracy_interval(counts)
    macro_low, macro_high = macro_f1_interval(counts)
    auc, average_precision = one_against_rest(labels, probabilities)
    bins = reliability(labels, probabilities)
    return Metrics(
        n=n,
        accuracy=float(hits.sum() / n),
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        top5_accuracy=top_k_accuracy(labels, probabilities, TOP) if size > TOP else None,
        balanced_accuracy=float(recall[present].mean()),
        balanced_accuracy_low=balanced_low,
        balanced_accuracy_high=balanced_high,
        macro_precision=float(precision[present].mean()),
        macro_recall=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        macro_f1_low=macro_low,
        macro_f1_high=macro_high,
        weighted_precision=float((precision * support).sum() / n),
        weighted_recall=float(hits.sum() / n),
        weighted_f1=float((f1 * support).sum() / n),
        log_loss=log_loss(labels, probabilities),
        brier=brier_score(labels, probabilities),
        ece=expected_calibration_error(bins),
        auc=auc,
        average_precision=average_precision,
        per_class=_per_class(counts, classes),
        reliability=bins,
        confusion=tuple(map(tuple, counts.tolist())),
    )


def _per_class(counts: NDArray[Any], classes: tuple[str, ...]) -> tuple[ClassMetrics, ...]:
    hits, support, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    figures = {  # name -> (value, its interval, the images that it is a share of)
        "precision": (hits / np.maximum(predicted, 1), wilson_each(hits, predicted), predicted),
        "recall": (hits / np.maximum(support, 1), wilson_each(hits, support), support),
        "f1": (2 * hits / np.maximum(support + predicted, 1), f1_each(hits, support, predicted), support),
    }
    columns = {"label": list(classes), "support": support.tolist()}
    for name, (value, (low, high), among) in figures.items():
        for end, numbers in (("", value), ("_low", low), ("_high", high)):
            columns[name + end] = [
                number if some else None for number, some in zip(numbers.tolist(), among.tolist(), strict=True)
            ]
    return tuple(
        ClassMetrics(**dict(zip(columns, entry, strict=True))) for entry in zip(*columns.values(), strict=True)
    )


def _check(labels: NDArray[Any], probabilities: NDArray[Any], classes: int) -> None:
    if labels.ndim != 1 or probabilities.shape != (len(labels), classes):
        expected = f"(N,) and (N, {classes}) with the same N"
        raise ValueError(f"labels {labels.shape} and probabilities {probabilities.shape}: expected {expected}")
    if not len(labels):
        raise InputError("there are no images to measure on", "expected at least one labelled image in the test part")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels {labels.min()}..{labels.max()}: expected 0..{classes - 1}")
    if not np.isfinite(probabilities).all():
        bad = int((~np.isfinite(probabilities).all(axis=1)).sum())
        fix = (
            "expected probabilities; training has diverged or the file is damaged: train again at a lower learning rate"
        )
        raise InputError(f"the model gives no number (NaN or infinity) for {bad} of {len(labels)} images", fix)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(low: float | None, high: float | None, between: str = "–") -> str:
    return "–" if low is None or high is None else f"{low:.3f}{between}{high:.3f}"
