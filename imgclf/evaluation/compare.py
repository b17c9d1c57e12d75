"""Models on the same images: accuracy, what was won and lost, per class, and which images flipped. May import data/,
paired, metrics, runs.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imgclf import runs
from imgclf.data.imageset import shown_path
from imgclf.data.sheet import read_sheet
from imgclf.data.split_file import read_rows
from imgclf.errors import InputError
from imgclf.evaluation.evaluate import Evaluation
from imgclf.evaluation.metrics import wilson
from imgclf.evaluation.paired import Paired, paired
from imgclf.storage.places import below, place

Kind = Literal["lost", "won", "changed"]
KINDS: tuple[Kind, ...] = ("lost", "won", "changed")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said of one image.

    Attributes:
        key: by which the image is found in the other model's answers: the hash of its bytes.
        path: the file.
        shown: its path for people.
        label: the true class.
        prediction: the class that the model gave.
    """

    key: str
    path: Path
    shown: str
    label: str
    prediction: str


@dataclass(frozen=True)
class Answers:
    """A model's answers to its test images.

    Attributes:
        name: what the model is called.
        classes: that it knows.
        answers: one per image.
    """

    name: str
    classes: tuple[str, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Flip:
    """An image that two models answer differently.

    Attributes:
        path: the file.
        shown: its path for people.
        label: the true class.
        before: what the baseline said.
        after: what the other model said.
    """

    path: Path
    shown: str
    label: str
    before: str
    after: str

    @property
    def kind(self) -> Kind:
        """Whether the other model "lost" it, "won" it, or is wrong in another way ("changed")."""
        return "lost" if self.before == self.label else "won" if self.after == self.label else "changed"


@dataclass(frozen=True)
class Scored:
    """One model on the images that all models answered.

    Attributes:
        name: of the model.
        n: number of images.
        correct: how many it has right.
        low: lower end of the 95 % Wilson interval of its accuracy, 0..1.
        high: upper end of it.
        found: class to how many of its images were found.
        change: from the baseline to this model; None for the baseline itself.
        flips: the images that the baseline answers differently: lost, won, then wrong in another way.
    """

    name: str
    n: int
    correct: int
    low: float
    high: float
    found: dict[str, int]
    change: Paired | None = None
    flips: tuple[Flip, ...] = ()

    @property
    def accuracy(self) -> float:
        """Share of the images that it has right, 0..1."""
        return self.correct / self.n


@dataclass(frozen=True)
class Comparison:
    """Models on the same images; the first is the baseline.

    Attributes:
        n: number of images.
        totals: how many test images each model had before they were reduced to the same ones.
        relabelled: images left out because not all models were told the same class.
        supports: true class to number of images, in the order of the baseline's classes.
        models: at least two.
    """

    n: int
    totals: tuple[int, ...]
    relabelled: int
    supports: dict[str, int]
    models: tuple[Scored, ...]

    @property
    def same(self) -> bool:
        """Whether every model had exactly these images."""
        return all(total == self.n for total in self.totals)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON types, recall as a share 0..1."""
        return {
            "n": self.n,
            "relabelled": self.relabelled,
            "models": [
                {
                    "name": model.name, "test_images": total, "correct": model.correct, "accuracy": model.accuracy,
                    "accuracy_low": model.low, "accuracy_high": model.high,
                    "recall": {label: model.found[label] / n for label, n in self.supports.items()},
                    **_change_json(model),
                }
                for model, total in zip(self.models, self.totals, strict=True)
            ],
            "support": self.supports,
        }  # fmt: skip


def _change_json(model: Scored) -> dict[str, Any]:
    if model.change is None:
        return {}
    flips = [{"path": flip.shown, "label": flip.label, "before": flip.before, "after": flip.after, "kind": flip.kind}
             for flip in model.flips]  # fmt: skip
    return {"won": model.change.won, "lost": model.change.lost, "p": model.change.p, "flips": flips}


def answers_of_run(run: runs.Run, name: str) -> Answers:
    """A finished run's answers to its test images, as it wrote them; nothing is computed.

    Raises:
        InputError: it is not finished, or its files do not fit together.
    """
    if not (run / runs.PREDICTIONS).is_file():
        raise InputError(f"{run.root} has no {runs.PREDICTIONS} ({run.state['state']})",
                         "expected a finished run; `imgclf train --resume` finishes one")  # fmt: skip
    folder = place(runs.read_json(run / runs.CONFIG)["data"]["folder"])
    keys = {row.path: row.key for row in read_rows(run / runs.SPLIT)}
    columns = {name: (name,) for name in ("path", "label", "prediction")}
    found = read_sheet(run / runs.PREDICTIONS, columns, tuple(columns), "expected what imgclf wrote", own=True)
    answers = []
    for number, cells in found:
        key = keys.get(cells["path"])
        if not key:
            raise InputError(f"row {number} of {run / runs.PREDICTIONS} is an image that {runs.SPLIT} does not hold",
                             "expected the files of one training, as imgclf wrote them")  # fmt: skip
        path = cells["path"]
        answers.append(Answer(key, below(folder, path), path, _line(cells["label"]), _line(cells["prediction"])))
    return Answers(name, run.classes, tuple(answers))


def answers_of_evaluation(found: Evaluation, classes: Sequence[str], name: str, root: Path) -> Answers:
    """A model's answers to labelled images, which are known by their paths.

    Args:
        found: of the model.
        classes: in the order of its outputs.
        name: what it is called.
        root: paths are shown below it.
    """
    best = found.of_classes.argmax(axis=1)
    answers = tuple(
        Answer(str(image.path), image.path, shown_path(image.path, root), _line(image.label), _line(classes[index]))
        for image, index in zip(found.images, best, strict=True)
    )
    return Answers(name, tuple(map(_line, classes)), answers)


def compare(models: Sequence[Answers]) -> Comparison:
    """Compare models on the images that all of them answered.

    Images are the same if their bytes are; classes are the same if their names are.

    Args:
        models: at least two; the first is the baseline.

    Raises:
        InputError: there is no image that all of them have, or whose class all of them know.
    """
    tables = [_by_key(model.answers) for model in models]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    rows = [[table[key] for table in tables] for key in shared]
    alike = [row for row in rows if len({answer.label for answer in row}) == 1]
    if not alike:
        sizes = " and ".join(f"{len(model.answers)} of {model.name}" for model in models)
        raise InputError(f"the models have no test image in common ({sizes})",
                         "measure them on the same folder of labelled images: --data FOLDER")  # fmt: skip
    counts: dict[str, int] = defaultdict(int)
    for row in alike:
        counts[row[0].label] += 1
    order = [*(label for label in models[0].classes if label in counts), *sorted(set(counts) - set(models[0].classes))]
    scored = [_scored(model.name, alike, at, order) for at, model in enumerate(models)]
    totals = tuple(len(model.answers) for model in models)
    return Comparison(len(alike), totals, len(rows) - len(alike), {label: counts[label] for label in order},
                      tuple(scored))  # fmt: skip


def _scored(name: str, rows: Sequence[Sequence[Answer]], at: int, labels: Sequence[str]) -> Scored:
    right = np.array([row[at].prediction == row[at].label for row in rows])
    found = {label: sum(row[at].label == label == row[at].prediction for row in rows) for label in labels}
    correct = int(right.sum())
    low, high = wilson(correct, len(rows))
    if at == 0:
        return Scored(name, len(rows), correct, low, high, found)
    before = np.array([row[0].prediction == row[0].label for row in rows])
    flips = [
        Flip(row[0].path, row[0].shown, row[0].label, row[0].prediction, row[at].prediction)
        for row in rows
        if row[0].prediction != row[at].prediction
    ]
    flips.sort(key=lambda flip: (KINDS.index(flip.kind), labels.index(flip.label), flip.shown))
    return Scored(name, len(rows), correct, low, high, found, paired(before, right), tuple(flips))


def _by_key(answers: Sequence[Answer]) -> dict[tuple[str, int], Answer]:
    """Answers by content; files with the same bytes are told apart by the order of their paths."""
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.key].append(answer)
    return {
        (key, number): answer
        for key, group in groups.items()
        for number, answer in enumerate(sorted(group, key=lambda answer: answer.shown))
    }


def _line(label: str) -> str:
    """A class name as classes.txt has it: on one line."""
    return " ".join(label.splitlines())
