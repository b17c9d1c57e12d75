"""What labels and probabilities say about a classifier: accuracy with its interval, per class, mix-ups. Imports NumPy.

Conventions for what is undefined: a class without test images has no recall and no F1 and is left out of every macro
average; a class that was never predicted has no precision, and counts as precision 0 in the macro average, as in
scikit-learn. Undefined is None, never NaN, so that every figure survives JSON. scikit-learn itself is what the tests
compare with: importing it costs 1.5 s, and its AUC of 1,000 classes takes 6 s where sorting and searching takes 0.3 s.
"""

import math
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.errors import InputError

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution: two-sided 95 %

SHOWN_CLASSES = 30  # a longer table is no longer read; `str(metrics)` then shows the weakest classes only


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """How one class fared on the test images.

    Attributes:
        label: the class name.
        support: number of test images of this class.
        precision: share of the images predicted as this class that are of it, 0..1; None if none was.
        recall: share of this class's images that were predicted as it, 0..1; None without images.
        f1: harmonic mean of precision and recall, 0..1; None without images.
    """

    label: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Metrics:
    """What a classifier is worth on images that it was not trained on.

    Attributes:
        n: number of test images, at least 1.
        accuracy: share of images whose most probable class is the true one, 0..1.
        accuracy_low: lower end of the 95 % Wilson interval of the accuracy.
        accuracy_high: upper end of it.
        balanced_accuracy: accuracy as it would be if every class had as many images (mean recall).
        macro_precision: mean precision over the classes with test images.
        macro_recall: mean recall over them; the same figure as the balanced accuracy, under its other name.
        macro_f1: mean F1 over them.
        weighted_f1: mean F1 weighted by the number of images.
        log_loss: mean negative natural logarithm of the true class's probability; 0 is perfect.
        auc: area under the ROC curve, one class against the rest, mean over the classes where it is defined
            (some images of the class, and some that are not); None where it is defined for none.
        per_class: one entry per class, in the classes' order.
        confusion: C rows (true class) of C numbers of images (predicted class).
    """

    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    balanced_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_f1: float
    log_loss: float
    auc: float | None
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def correct(self) -> int:
        """Number of images whose most probable class is the true one."""
        return sum(row[index] for index, row in enumerate(self.confusion))

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

    def to_json(self) -> dict[str, Any]:
        """All figures as plain JSON types; `from_json` reads them back."""
        return {
            **{name: value for name, value in vars(self).items() if name not in ("per_class", "confusion")},
            "per_class": [asdict(entry) for entry in self.per_class],
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
            return cls(**{**data, "per_class": per_class, "confusion": rows})
        except (KeyError, TypeError) as error:
            fix = "expected what this version of imgclf writes; run `imgclf evaluate` again"
            raise InputError(f"these are not imgclf's metrics ({error})", fix) from error

    def __str__(self) -> str:
        shown, title = self._shown_classes()
        width = max([len(title), *(len(entry.label) for entry in shown)])
        lines = [self._headline(), self._summary(), ""]
        lines.append(f"{title:{width}}  images  precision  recall     F1")
        lines += [
            f"{entry.label:{width}}  {entry.support:6}  {_three(entry.precision):>9}  {_three(entry.recall):>6}  "
            f"{_three(entry.f1):>5}"
            for entry in shown
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        shown, title = self._shown_classes()
        head = "".join(f"<th>{text}</th>" for text in (title, "images", "precision", "recall", "F1"))
        rows = "".join(
            f"<tr><th>{escape(entry.label)}</th><td>{entry.support}</td><td>{_three(entry.precision)}</td>"
            f"<td>{_three(entry.recall)}</td><td>{_three(entry.f1)}</td></tr>"
            for entry in shown
        )
        return (
            f"<p><b>{self._headline()}</b><br>{self._summary()}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )

    def _headline(self) -> str:
        low, high = 100 * self.accuracy_low, 100 * self.accuracy_high
        right = f"{self.correct} of {self.n} test images"
        return f"accuracy {100 * self.accuracy:.1f} % ({right}; 95 % interval {low:.1f} to {high:.1f} %)"

    def _summary(self) -> str:
        return (
            f"balanced accuracy {self.balanced_accuracy:.3f}, macro F1 {self.macro_f1:.3f}, "
            f"weighted F1 {self.weighted_f1:.3f}, AUC {_three(self.auc)}, log loss {self.log_loss:.3f}"
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
    low, high = wilson(int(hits.sum()), n)
    return Metrics(
        n=n,
        accuracy=float(hits.sum() / n),
        accuracy_low=low,
        accuracy_high=high,
        balanced_accuracy=float(recall[present].mean()),
        macro_precision=float(precision[present].mean()),
        macro_recall=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        weighted_f1=float((f1 * support).sum() / n),
        log_loss=_log_loss(labels, probabilities),
        auc=_auc(labels, probabilities, support),
        per_class=tuple(
            ClassMetrics(
                label=label,
                support=int(support[index]),
                precision=float(precision[index]) if predicted[index] else None,
                recall=float(recall[index]) if present[index] else None,
                f1=float(f1[index]) if present[index] else None,
            )
            for index, label in enumerate(classes)
        ),
        confusion=tuple(map(tuple, counts.tolist())),
    )


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion, by Wilson's score method.

    It keeps its promise for small n and for proportions near 0 and 1, where the textbook interval (p plus or minus
    1.96 standard errors) does not.

    Args:
        successes: 0..n.
        n: number of trials, at least 1.

    Returns:
        The lower and the upper end, 0..1.

    References:
        E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference. JASA 22, 209-212.
        R. G. Newcombe (1998), Two-sided confidence intervals for the single proportion. Statist. Med. 17, 857-872.
    """
    centre = successes + Z95**2 / 2
    half = Z95 * math.sqrt(successes * (n - successes) / n + Z95**2 / 4)
    total = n + Z95**2
    return max(0.0, (centre - half) / total), min(1.0, (centre + half) / total)


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


def _log_loss(labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    # The floor is the probabilities' own rounding error, as in scikit-learn: one confident error is not infinite.
    floor = np.finfo(probabilities.dtype).eps
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(true, floor, 1 - floor)).mean())


def _auc(labels: NDArray[Any], probabilities: NDArray[Any], support: NDArray[Any]) -> float | None:
    defined = np.flatnonzero((support > 0) & (support < len(labels)))
    if not len(defined):
        return None
    return float(np.mean([_rank_auc(probabilities[:, index], labels == index) for index in defined]))


def _rank_auc(scores: NDArray[Any], positive: NDArray[Any]) -> float:
    # The area under the ROC curve is the chance that a random positive scores above a random negative, ties half.
    negatives, positives = np.sort(scores[~positive]), np.sort(scores[positive])
    below, not_above = (np.searchsorted(negatives, positives, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(negatives)))


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
