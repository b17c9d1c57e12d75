"""One predictor for a run, a .keras file and a .tflite file; the last without TensorFlow. May import models/litert."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf import runs
from imgclf.errors import InputError
from imgclf.pixels import UnreadableImage, load_for_model
from imgclf.storage.patience import AT_ONCE
from imgclf.storage.places import Address, place

Array = NDArray[np.float32]

BATCH = 16
LABELS = "labels.txt"  # what other people call classes.txt


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        path: the image.
        label: the most probable class.
        probability: of that class, 0..1.
        scores: probability of every class, in the order of the predictor's `classes`; they sum to 1.
    """

    path: Path
    label: str
    probability: float
    scores: tuple[float, ...]

    def top(self, count: int, classes: Sequence[str]) -> list[tuple[str, float]]:
        """The `count` most probable classes with their probabilities, best first."""
        order = sorted(range(len(self.scores)), key=lambda index: -self.scores[index])
        return [(classes[index], self.scores[index]) for index in order[:count]]


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Predictor:
    """A trained model, whatever file it came from.

    Attributes:
        path: the file.
        classes: names of the outputs, in their order; the last is "unknown" where the model has a gate.
        input_shape: (height, width, channels) in pixels.
        scores: float32 `(n, height, width, channels)`, values 0..255, to float32 probabilities `(n, C)`.
    """

    path: Path
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    scores: Callable[[Array], Array]

    def __str__(self) -> str:
        height, width, channels = self.input_shape
        return f"{self.path.name}: {width} x {height} x {channels} pixels to {len(self.classes)} classes"

    def each(self, paths: Iterable[Path]) -> Iterator[Prediction | Skipped]:
        """Predict images one batch at a time, in their order; unreadable ones come as `Skipped`."""
        for batch, images in self.batches(paths):
            good = [image for image in images if not isinstance(image, Skipped)]
            scores = iter(self.scores(np.stack(good))) if good else iter(())
            for path, image in zip(batch, images, strict=True):
                if isinstance(image, Skipped):
                    yield image
                    continue
                row = next(scores)
                best = int(row.argmax())
                yield Prediction(path, self.classes[best], float(row[best]), tuple(float(value) for value in row))

    def batches(self, paths: Iterable[Path]) -> Iterator[tuple[list[Path], list[Array | Skipped]]]:
        """Read images as the model wants them, a batch ahead, in threads (decoding releases Python's lock)."""

        def read(path: Path) -> Array | Skipped:
            try:
                return load_for_model(path, *self.input_shape)
            except UnreadableImage as error:
                return Skipped(path, str(error))

        queue = iter(paths)
        batch = list(islice(queue, BATCH))
        elsewhere = any(isinstance(path, Address) for path in batch)  # reading means waiting, for many at once
        with ThreadPoolExecutor(AT_ONCE if elsewhere else os.cpu_count() or 1) as pool:
            pending = [pool.submit(read, path) for path in batch]
            while batch:
                following = list(islice(queue, BATCH))
                next_pending = [pool.submit(read, path) for path in following]
                yield batch, [future.result() for future in pending]
                batch, pending = following, next_pending


def load(path: Path, classes: Sequence[str] | None = None) -> Predictor:
    """Open a run folder, a .keras file or a .tflite file.

    Args:
        path: the folder or file.
        classes: class names in the order of the outputs; by default those that a .tflite file holds itself, or those
            of `classes.txt` or `labels.txt` beside the file, or in the folder above it.

    Raises:
        InputError: nothing there, not a classifier, or no class names to be found.
    """
    if path.is_dir():
        run = runs.Run.open(path)
        if not (run / runs.MODEL).is_file():
            raise InputError(f"{path} has no trained model ({run.state['state']})", "run `imgclf train` to the end")
        return _keras(run / runs.MODEL, run.classes)
    if not path.exists():
        raise InputError(f"{path} does not exist", "expected a run folder, a .keras file or a .tflite file")
    readers = {".tflite": _tflite, ".keras": _keras}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is not a model", "expected a run folder, a .keras file or a .tflite file")
    return reader(path, tuple(classes) if classes is not None else None)


def _classes_near(path: Path) -> tuple[str, ...]:
    for folder in (path.parent, path.parent.parent):
        if (folder / runs.CLASSES).is_file():
            return runs.read_classes(folder / runs.CLASSES)
        if (folder / LABELS).is_file():
            return read_labels(folder / LABELS)
    raise InputError(f"no {runs.CLASSES} beside {path}", "put the file with one class name a line next to the model, "
                     "or name it with --labels")  # fmt: skip


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names of anybody's labels file: one a line, with or without Teachable Machine's numbers before them.

    Raises:
        InputError: it cannot be read.
    """
    from imgclf.models.tflite_metadata import without_numbers

    return without_numbers([line.removesuffix("\r") for line in runs.read_classes(path)])


def _tflite(path: Path, classes: tuple[str, ...] | None) -> Predictor:
    from imgclf.models.litert import LiteModel

    model = LiteModel(path)
    if classes is None:
        classes = (model.metadata.labels if model.metadata is not None else ()) or _classes_near(path)
    _check_outputs(path, model.output_shape, classes)
    return Predictor(path, classes, model.input_shape, model.run)


def _keras(path: Path, classes: tuple[str, ...] | None) -> Predictor:
    from imgclf.models.files import load_keras_model

    return of_model(path, load_keras_model(path), classes if classes is not None else _classes_near(path))


def of_model(path: Path, model: Any, classes: tuple[str, ...]) -> Predictor:
    """The predictor of a Keras model in memory, read from `path`; a gate's output is named here."""
    if model.output_shape[1:] == (len(classes) + 1,) and is_gated(model):
        classes = (*classes, runs.UNKNOWN)
    _check_outputs(path, tuple(model.output_shape[1:]), classes)

    def scores(images: Array) -> Array:
        # padded to one batch size: another shape would trace the network again
        count = len(images)
        padding = np.zeros((-count % BATCH, *images.shape[1:]), np.float32)
        padded = np.concatenate([images, padding])
        parts = [np.asarray(model.predict_on_batch(padded[at : at + BATCH])) for at in range(0, len(padded), BATCH)]
        outputs: Array = np.concatenate(parts)[:count]
        return outputs

    height, width, channels = (int(side) for side in model.input_shape[1:])
    return Predictor(path, classes, (height, width, channels), scores)


GATE = "gate"  # the layer that models/gate.py puts into a model that may say "unknown"


def is_gated(model: Any) -> bool:
    """Whether a Keras model may say "unknown"."""
    return any(layer.name == GATE for layer in model.layers)


def _check_outputs(path: Path, shape: tuple[Any, ...], classes: tuple[str, ...]) -> None:
    if len(shape) != 1 or shape[0] < 2:
        raise InputError(f"{path} is not a classifier (its output has the shape {('N', *shape)})",
                         "expected one probability per class, (N, C) with C of at least 2")  # fmt: skip
    if shape[0] != len(classes):
        raise InputError(f"{path} gives {shape[0]} scores but there are {len(classes)} class names",
                         f"put the right {runs.CLASSES} beside it")  # fmt: skip


def find_images(patterns: Iterable[str | Path]) -> list[Path]:
    """Files, folders and globs as one list of files.

    Args:
        patterns: a file is taken as it is; a folder gives every image below it, sorted; anything else is a glob
            (`**` goes through folders). Each may be an address.

    Raises:
        InputError: one of them matches nothing.
    """
    from imgclf.data.scan import find_image_files

    found: list[Path] = []
    for pattern in patterns:
        path = place(pattern)
        if isinstance(path, Address):
            matches = _at_address(path)
        elif path.is_dir():
            matches = find_image_files(path)
        elif path.exists():
            matches = [path]
        else:
            matches = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207 (absolute too)
            matches = [file for file in matches if file.is_file()]
        if not matches:
            raise InputError(f"no images at {path}", "expected image files, folders with images, or a glob")
        found.extend(matches)
    return list(dict.fromkeys(found))


def _at_address(address: Address) -> list[Path]:
    from imgclf.data.scan import find_image_files
    from imgclf.storage import remote

    if any(sign in address.name for sign in "*?[") or "*" in str(address):
        return remote.matching(str(address))
    kind = remote.kind(address)
    return find_image_files(address) if kind == "folder" else [address] if kind else []
