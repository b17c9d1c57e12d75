"""MODEL_CARD.md: what a model is, what it is for, how good it is, how to make it again. May import facts, advice.

Everything on it is a fact of the run; what only people can know (who may be harmed, which licence the images have) it
says it does not know.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imgclf.evaluation.metrics import wilson
from imgclf.markdown import code, plain
from imgclf.report import document
from imgclf.report.advice import advise
from imgclf.report.facts import ReportFacts
from imgclf.report.sure_lines import sure_lines
from imgclf.report.wording import marked
from imgclf.runs import write_text
from imgclf.training.history import stage_title

MAX_PAIRS = 5
MAX_WEAK = 5
PARTS = {"train": "training", "val": "validation", "test": "test", "": "all"}
FEW = 30  # test images of a class, below which its figures are no more than a hint


@dataclass(frozen=True, slots=True)
class ClassRow:
    """How a class fared, as text with intervals."""

    label: str
    support: int
    recall: str
    precision: str
    f1: float | None


def render_card(facts: ReportFacts) -> str:
    """The model card as Markdown, after Mitchell et al., "Model Cards for Model Reporting", 2019 (arXiv 1810.03993).

    Args:
        facts: of the run; its names may hold anything, and show as text.

    Returns:
        Text that can be written as UTF-8.
    """
    m = facts.metrics
    parts = [part for part in PARTS if part in facts.counts]
    rows = [(label, [facts.counts[part].get(label, 0) for part in parts]) for label in facts.classes]
    largest = max(m.per_class, key=lambda entry: entry.support)
    supports = {entry.label: entry.support for entry in m.per_class}
    return document.markdown(
        "card.md.j2", facts=facts, m=m, plain=plain, code=code, percent=percent, spaced=_spaced,
        stage_title=stage_title, grey=facts.settings.get("color") == "grayscale",
        uses=[plain(line) for line in _uses(facts)], titles=[PARTS[part] for part in parts], rows=rows,
        totals=[facts.images_of(part) for part in parts],
        guess=largest.support / m.n, guess_label=largest.label, classes=_classes(facts),
         pairs=[(*pair, supports[pair[0]]) for pair in m.confused_pairs(MAX_PAIRS)], advice=advise(facts),
        weak=[row for row in facts.slices if row.weak][:MAX_WEAK],
        sure=[marked(line) for line in sure_lines(facts)],
    )  # fmt: skip


def write_card(facts: ReportFacts, path: Path) -> Path:
    """Write the model card to a file, all of it or nothing.

    Raises:
        SetupError: the file cannot be written.
    """
    return write_text(path, render_card(facts))


def percent(share: float | None) -> str:
    """A share as `87.6 %`, without the no-break spaces of the page."""
    return document.percent(share).replace("\u202f", " ").replace("\u00a0", " ")


def _spaced(text: str) -> str:
    """A piece of a sentence: plain, with the spaces at its ends."""
    left, right = text[:1].isspace(), text[-1:].isspace()
    return f"{' ' * left}{plain(text)}{' ' * right}" if text.strip() else " "


def _uses(facts: ReportFacts) -> Iterator[str]:
    """Intended use and limits, as far as the facts of a run say them."""
    m = facts.metrics
    yield (f"For telling apart exactly these {len(facts.classes)} classes, on images like its training images. "
           "Whatever else it is shown, it names one of them.")  # fmt: skip
    yield (f"Its figures hold for images that come as the {m.n:,} test images did. Other cameras, other light or other "
           "people's images may give less: measure with imgclf evaluate before use.")  # fmt: skip
    few = [entry.label for entry in m.per_class if 0 < entry.support < FEW]
    none = [entry.label for entry in m.per_class if not entry.support]
    if none:
        yield f"Not measured at all, for want of test images: {_listed(none)}."
    if few:
        yield f"Measured on fewer than {FEW} test images, so roughly: {_listed(few)}."
    measured = [entry for entry in m.per_class if entry.recall is not None]
    weak = min(measured, key=lambda entry: (entry.recall or 0, entry.label))
    if weak.recall is not None and weak.recall < 1:
        yield f"Weakest on {weak.label}: {round(weak.recall * weak.support)} of {weak.support:,} test images found."
    yield ("A probability is the model's, not a promise: it may be sure and wrong. Do not let it decide alone where a "
           "mistake harms somebody.")  # fmt: skip
    yield ("Not known to imgclf: where the images come from, their licence, whom they show, and how the model does for "
           "groups of people or things that are not classes.")  # fmt: skip


def _listed(labels: list[str]) -> str:
    return ", ".join(labels[:12]) + (f" and {len(labels) - 12} more" if len(labels) > 12 else "")


def _classes(facts: ReportFacts) -> list[ClassRow]:
    """Each class with Wilson's intervals, from the confusion matrix."""
    confusion = facts.metrics.confusion
    return [
        ClassRow(entry.label, entry.support, _share(confusion[at][at], entry.support),
                 _share(confusion[at][at], sum(row[at] for row in confusion)), entry.f1)
        for at, entry in enumerate(facts.metrics.per_class)
    ]  # fmt: skip


def _share(hits: int, n: int) -> str:
    if not n:
        return "–"
    low, high = wilson(hits, n)
    return f"{percent(hits / n)} ({100 * low:.0f} to {100 * high:.0f})"
