"""What the end of a training leaves in the run folder for the report, beside the figures. Imports runs and facts."""

from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.evaluation.slices import Slice
from imgclf.report.facts import Samples
from imgclf.report.learning_curve import LearningCurve
from imgclf.report.sureness import Sureness

SLICES = "slices.json"
LEARNING = "learning_curve.json"
HEAT, HEAT_INDEX = "heat", "heat.json"
SAMPLES, STRIP, SAMPLES_INDEX = "samples", "strip.jpg", "samples.json"


def read_slices(run: runs.Run) -> tuple[Slice, ...]:
    """How the model fares on groups of the test images; () where nothing could be compared."""
    return tuple(Slice(**row) for row in _read(run / SLICES) or ())


def read_learning(run: runs.Run) -> LearningCurve | None:
    """What more training images would bring; None where that is not known."""
    told = _read(run / LEARNING)
    return None if told is None else LearningCurve.from_json(told)


def read_heat(run: runs.Run) -> dict[tuple[str, str], Path]:
    """Heat maps: the image's path as people know it and the class that is explained, to the file."""
    folder = run / HEAT
    return {(image, label): folder / Path(name).name for name, image, label in _read(folder / HEAT_INDEX) or ()}


def read_samples(run: runs.Run) -> Samples | None:
    """Training images as the training varied them; None where it did not."""
    told = _read(run / SAMPLES / SAMPLES_INDEX)
    return None if told is None else Samples(run / SAMPLES / STRIP, told["rows"], told["readings"], told["augment"])


def read_sureness(run: runs.Run) -> Sureness | None:
    """What was done to the probabilities; None where nothing was."""
    told = _read(run / runs.CALIBRATION)
    return None if told is None else Sureness.from_json(told)


def _read(path: Path) -> Any:
    return runs.read_json(path) if path.is_file() else None
