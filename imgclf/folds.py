"""Cross-validated training: every image is tested once, by a network that has not seen it. May import one_run and what
is below it.

The accuracy is that of all images together. Its interval takes in what the binomial one does not know, that the folds'
networks differ and share training images (Nadeau and Bengio 2003, Inference for the generalization error). The final
model is trained on all images but one fold, which says when to stop; nothing of it is tested twice.
"""

import csv
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgclf import predict, runs
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.split_file import read_rows, write_split
from imgclf.errors import InputError
from imgclf.evaluation.evaluate import Evaluation
from imgclf.evaluation.metrics import Metrics, compute
from imgclf.one_run import Outcome, measure, train_parts, train_run
from imgclf.progress import say
from imgclf.records import Settings, write_history

FOLDS = "folds"


@dataclass(frozen=True)
class FoldRow:
    """How the network of one fold did on its test images."""

    n: int
    accuracy: float


def write_folds(run: runs.Run, folds: Sequence[ImageSet]) -> None:
    """Write folds/1/split.csv and so on: with them an interrupted cross-validation goes on."""
    for number, images in enumerate(folds, 1):
        folder = run / FOLDS / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        write_split(images, folder / runs.SPLIT)


def train_folds(run: runs.Run, images: ImageSet, settings: Settings) -> Outcome:
    """Train and measure each fold, then train the final model; folds that have been measured are not trained again.

    Args:
        run: locked, with the folds' parts written.
        images: with the final model's parts: training and validation.
        settings: of the run.

    Raises:
        CheckFailed, Interrupted: as for `train_run`.
    """
    count = settings.chosen.folds
    assert count is not None
    rows = []
    for number in range(1, count + 1):
        folder = run / FOLDS / str(number)
        if not (folder / runs.PREDICTIONS).is_file():
            run.set_state("running", stage=f"fold {number} of {count}")
            say(f"fold {number} of {count}")
            _train_fold(run, folder, _with_parts_of(folder, images), settings, 1 / (count + 2 - number))
        rows.append(Metrics.from_json(runs.read_json(folder / runs.METRICS)))
    say("the final model, trained on all folds but one")
    validated = _pooled(run, images, count)
    found = [FoldRow(row.n, row.accuracy) for row in rows]
    low, high = interval(found, validated.metrics)
    validated = replace(validated, metrics=replace(validated.metrics, accuracy_low=low, accuracy_high=high))
    runs.write_json(run / runs.CROSS_VALIDATION, {
        "folds": [{"n": row.n, "accuracy": row.accuracy} for row in found],
        "accuracy": validated.metrics.accuracy, "accuracy_low": low, "accuracy_high": high,
        "deviation": float(np.std([row.accuracy for row in found], ddof=1)),
    })  # fmt: skip
    return train_run(run, images, settings, validated)


def interval(folds: Sequence[FoldRow], pooled: Metrics) -> tuple[float, float]:
    """The 95 % interval of a cross-validated accuracy: the wider of two, on each side.

    One is Wilson's for all images together, which takes them for independent. The other is Nadeau and Bengio's for the
    mean over the folds: their variance times 1/K + n_test/n_train, Student's t with K - 1 degrees of freedom. Neither
    is exact (there is no unbiased estimate of that variance: Bengio and Grandvalet 2004).
    """
    from scipy.special import stdtrit

    count = len(folds)
    accuracies = np.array([row.accuracy for row in folds])
    # a fold's network trains on all folds but the one it is tested on and the one that says when to stop
    deviation = float(np.sqrt(accuracies.var(ddof=1) * (1 / count + 1 / (count - 2))))
    half = float(stdtrit(count - 1, 0.975)) * deviation
    mean = float(accuracies.mean())
    return max(0.0, min(pooled.accuracy_low, mean - half)), min(1.0, max(pooled.accuracy_high, mean + half))


def _with_parts_of(folder: Path, images: ImageSet) -> ImageSet:
    """The images with the parts of a fold."""
    rows = {row.path: row for row in read_rows(folder / runs.SPLIT)}

    def parted() -> Iterator[ImageFile]:
        for image in images.usable:
            row = rows.get(images.name_of(image))
            if row is not None:
                yield replace(image, part=row.part)

    found = tuple(parted())
    if len(found) < len(rows):
        raise InputError(f"{folder / runs.SPLIT} names images that are gone", "train again with --overwrite")
    return replace(images, images=tuple(sorted(found, key=lambda image: image.place)), listed=True)


def _train_fold(run: runs.Run, folder: Path, images: ImageSet, settings: Settings, share: float) -> None:
    """Train on one fold's training images and leave what its test images gave.

    Args:
        run: of all folds.
        folder: of this one.
        images: with this fold's parts.
        settings: of the run.
        share: of the time that is left, where there is a deadline.
    """
    from imgclf.models.files import save_keras_model

    deadline = settings.deadline
    if deadline is not None:
        now = time.monotonic()
        deadline = now + (deadline - now) * share
    checkpoints = folder / runs.CHECKPOINTS
    config = settings.chosen.replace(unknown=False)  # a gate is of the final model; folds measure the classes
    trained = train_parts(run, images, config, checkpoints, deadline)
    if trained.interrupted:
        raise KeyboardInterrupt
    write_history(runs.Run(folder), trained.history)
    model = save_keras_model(trained.model, folder / runs.MODEL)  # what is measured is what could be shipped
    (folder / runs.MODEL).unlink()
    predictor = predict.of_model(folder / runs.MODEL, model, images.classes)
    tested = measure(trained, predictor, model, images.part("test"))
    runs.write_json(folder / runs.METRICS, tested.metrics.to_json())
    tested.write(folder / runs.PREDICTIONS, images.classes, images.root)  # last: it says that the fold is done
    shutil.rmtree(checkpoints, ignore_errors=True)
    low, high = tested.metrics.accuracy_low, tested.metrics.accuracy_high
    say(f"accuracy {tested.metrics.accuracy:.3f} on {tested.metrics.n} images ({low:.3f} to {high:.3f})")


def _pooled(run: runs.Run, images: ImageSet, count: int) -> Evaluation:
    """What the folds' networks made of all images together, in the order of the images."""
    scores: dict[str, list[float]] = {}
    for number in range(1, count + 1):
        path = run / FOLDS / str(number) / runs.PREDICTIONS
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
            for row in csv.DictReader(handle):
                scores[row["path"]] = [float(row[f"p:{name}"]) for name in images.classes]
    tested = [image for image in images.usable if images.name_of(image) in scores]
    index = {name: number for number, name in enumerate(images.classes)}
    labels = np.array([index[image.label] for image in tested], np.int64)
    found = np.array([scores[images.name_of(image)] for image in tested], np.float32)
    return Evaluation(compute(labels, found, images.classes), tuple(tested), labels, found, ())
