"""A predictor on labelled images: metrics, and one row per image. May import predict, data/ and the ground modules."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf import runs
from imgclf.data.imageset import ImageFile, ImageSet, shown_path
from imgclf.data.inspect import inspect
from imgclf.data.scan import class_name
from imgclf.errors import InputError
from imgclf.evaluation.metrics import Metrics, compute, wilson
from imgclf.evaluation.slices import Properties, Slice, find_slices
from imgclf.evaluation.temperature import compared
from imgclf.evaluation.unknown import known_only
from imgclf.predict import Prediction, Predictor, Skipped
from imgclf.progress import track
from imgclf.storage.places import place


@dataclass(frozen=True)
class Evaluation:
    """What a predictor made of labelled images.

    Attributes:
        metrics: over all images that could be read.
        images: those images, in their order.
        labels: their true class indices, int64 `(n,)`.
        probabilities: float32 `(n, C)`; with a gate `(n, C + 1)`, the last for "unknown", as the model gives them.
        skipped: images that could not be read.
    """

    metrics: Metrics
    images: tuple[ImageFile, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    skipped: tuple[Skipped, ...]

    @property
    def gated(self) -> bool:
        """Whether the model may say "unknown"."""
        return bool(self.probabilities.shape[1] > len(self.metrics.per_class))

    @property
    def of_classes(self) -> NDArray[np.float32]:
        """Probabilities of the classes alone, `(n, C)`, which sum to 1."""
        return known_only(self.probabilities) if self.gated else self.probabilities

    @property
    def known(self) -> int:
        """How many images were not called unknown."""
        if not self.gated:
            return len(self.images)
        return int((self.probabilities.argmax(axis=1) < self.probabilities.shape[1] - 1).sum())

    def write(self, path: Path, classes: tuple[str, ...], root: Path) -> Path:
        """Write one row per image: path, true and predicted label, every probability, loss.

        With a gate, label and loss are of the classes alone; the probabilities are as the model gives them.
        """
        rows = []
        for image, label, scores, own in zip(
            self.images, self.labels, self.probabilities, self.of_classes, strict=True
        ):
            best = int(own.argmax())
            loss = -float(np.log(max(float(own[label]), 1e-7)))
            shown = shown_path(image.path, root)
            rows.append([shown, classes[label], classes[best], f"{scores[best]:.6f}", f"{loss:.6f}",
                         *(f"{score:.6f}" for score in scores)])  # fmt: skip
        header = ["path", "label", "prediction", "probability", "loss", *(f"p:{name}" for name in classes)]
        return runs.write_csv(path, header, rows)

    def slices(self) -> tuple[Slice, ...]:
        """How the model fares on groups of the images: by size, brightness, shape, colour and sub-folder."""
        return find_slices(self.of_classes.argmax(axis=1) == self.labels, properties_of(self.images))


def properties_of(images: Sequence[ImageFile]) -> Properties:
    """What is known of images beside their class; only those that no check or training has seen yet are decoded.

    Args:
        images: inspected or not.
    """
    if any(image.looks is None for image in images):
        images = inspect(ImageSet(Path(), (), tuple(images))).images
    measured = [
        (image.width * image.height, image.width / image.height, image.looks.brightness)
        if image.looks is not None
        else (np.nan, np.nan, np.nan)
        for image in images
    ]
    pixels, aspect, brightness = np.array(measured, np.float64).reshape(-1, 3).T
    grey = [image.grey if image.looks is not None else None for image in images]
    return Properties(pixels, aspect, brightness, grey, tuple(_folders(images)))


def _folders(images: Sequence[ImageFile]) -> Iterator[str]:
    """The folder of each image below that of its class; below that of all images where no folder has its name."""
    if not images:
        return
    root = place(os.path.commonpath([image.path.parent for image in images]))
    for image in images:
        inner = image.path.parent.relative_to(root).parts
        names = [class_name(name) for name in inner]
        if image.label in names:
            yield "/".join(inner[names.index(image.label) + 1 :])
            continue
        # The images of one class only may all lie in one folder below that of the class.
        outer = [class_name(name) for name in root.parts]
        above = outer[len(outer) - outer[::-1].index(image.label) :] if image.label in outer else []
        yield "/".join([*above, *inner])


def evaluate(predictor: Predictor, images: tuple[ImageFile, ...]) -> Evaluation:
    """Predict labelled images and measure.

    Args:
        predictor: of a run or a model file.
        images: with labels among the predictor's classes; classes are matched by name.

    Raises:
        InputError: a label that the predictor does not know, or no image that can be read.
    """
    index = {name: number for number, name in enumerate(predictor.classes)}
    strange = sorted({image.label for image in images} - set(index))
    if strange:
        raise InputError(f"the model does not know the class {strange[0]!r}",
                         f"expected folders named {', '.join(predictor.classes[:12])}")  # fmt: skip
    kept: list[ImageFile] = []
    scores: list[tuple[float, ...]] = []
    skipped: list[Skipped] = []
    results = predictor.each(image.path for image in images)
    for image, result in zip(images, track(results, "evaluating", len(images)), strict=True):
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            kept.append(image)
            scores.append(result.scores)
    if not kept:
        raise InputError("none of the images could be read", "expected at least one image with a known class")
    labels = np.array([index[image.label] for image in kept], np.int64)
    probabilities = np.array(scores, np.float32)
    classes = predictor.classes
    if classes[-1] == runs.UNKNOWN and len(classes) - 1 not in labels:  # a gate, not a class of that name
        known = int((probabilities.argmax(axis=1) < len(classes) - 1).sum())
        metrics = compute(labels, known_only(probabilities), classes[:-1]).with_coverage(known)
    else:
        metrics = compute(labels, probabilities, classes)
    return Evaluation(metrics, tuple(kept), labels, probabilities, tuple(skipped))


def trusted(calibration: dict[str, Any], found: Evaluation, strange: Sequence[Prediction] = ()) -> dict[str, Any]:
    """What calibration.json says of images that were measured on: the calibration error, and who stays known.

    Args:
        calibration: what the training found.
        found: of the model that came out of it.
        strange: what it says of images of no class.
    """
    told: dict[str, Any] = {}
    if "temperature" in calibration:
        told["test"] = asdict(compared(found.of_classes, found.labels, calibration["temperature"]))
    if "unknown" in calibration:
        low, high = wilson(found.known, len(found.images))
        tested = {"n": len(found.images), "known": found.known, "low": low, "high": high}
        told["unknown"] = {**calibration["unknown"], "test": tested}
        if strange:
            rejected = sum(row.label == runs.UNKNOWN for row in strange)
            low, high = wilson(rejected, len(strange))
            told["unknown"]["strange"] = {"n": len(strange), "rejected": rejected, "low": low, "high": high}
    return told
