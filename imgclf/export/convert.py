"""A run's Keras model to .tflite files, in a child process. May import models/, parallel and runs.

A converter that crashes, hangs or takes all memory is then one line, and its hundreds of log lines are nobody's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from imgclf import runs
from imgclf.errors import InputError, SetupError
from imgclf.export import calibration as chosen
from imgclf.export.calibration import Calibration
from imgclf.export.catalog import FORMATS
from imgclf.noise import import_tensorflow
from imgclf.progress import plural
from imgclf.workers import parallel

SECONDS = 1800.0  # the largest backbones take a minute; this only ends a converter that hangs
LEAST_MEMORY = 8 << 30  # bytes of address space: TensorFlow maps more than it uses


@dataclass(frozen=True)
class Made:
    """A file that was written.

    Attributes:
        path: the file.
        notes: how it was made, where there was something to choose, one line each.
        too_much: why it is not to be shipped, where it loses too much on the validation part; "" otherwise.
    """

    path: Path
    notes: tuple[str, ...] = ()
    too_much: str = ""


Converter = parallel.Standby[dict[str, Made]]


def converter() -> Converter:
    """A process that is ready to convert: TensorFlow takes longer to start than a network to convert."""
    memory = max(LEAST_MEMORY, psutil.virtual_memory().total * 3 // 4)
    return parallel.Standby(convert_files, SECONDS, import_tensorflow, memory)


def convert(
    run: runs.Run, formats: Sequence[str], calibration: Calibration | None = None, child: Converter | None = None
) -> dict[str, Made]:
    """Write a run's mobile files.

    Args:
        run: a run with a trained model.
        formats: of FORMATS.
        calibration: for the formats that want it.
        child: a `converter` that was started before; None starts one.

    Returns:
        Format to file, in their order.

    Raises:
        InputError: the network has an operator that phones do not know.
        SetupError: the converter failed, or the disk is full.
    """
    if not formats:
        return {}
    folder = run / runs.EXPORTS
    runs.write_classes(folder / runs.CLASSES, run.outputs)
    files = {name: folder / FORMATS[name].file for name in formats}
    try:
        if child is not None:
            return child.call(run / runs.MODEL, files, calibration)
        with converter() as own:
            return own.call(run / runs.MODEL, files, calibration)
    except parallel.ChildFailed as failure:
        raise _explained(failure) from None


def _explained(failure: parallel.ChildFailed) -> InputError | SetupError:
    """The converter's failure in one line; an operator that it does not know is named."""
    text = f"{failure} {failure.output}"
    unknown = sorted(set(re.findall(r"'(tf\.\w+)' op is neither a custom op nor a flex op", text)))
    if unknown:
        return InputError(f"the network uses {', '.join(unknown)}, which LiteRT has no operator for",
                          "replace the layer: phones run LiteRT's own operators only")  # fmt: skip
    return SetupError(f"the conversion failed ({failure.what})", "see --debug; another format may still work")


def convert_files(model: Path, targets: dict[str, Path], calibration: Calibration | None) -> dict[str, Made]:
    """Convert a .keras file to several .tflite files, each written atomically. Runs in a child process."""
    from imgclf.models.convert import freeze
    from imgclf.models.files import load_keras_model

    graph = freeze(load_keras_model(model))
    whole: bytes | None = None
    small: Any = None
    made: dict[str, Made] = {}
    for name, path in targets.items():
        notes: tuple[str, ...] = ()
        too_much = ""
        if whole is None and (name == "float32" or FORMATS[name].calibrated):
            whole = graph.convert()
        if name == "float32":
            content = whole
        elif not FORMATS[name].calibrated:
            content = graph.convert(float16=True)
        else:
            assert whole is not None
            if calibration is None:
                raise InputError(f"{name} needs training images to be made with", "give the run's images back")
            small = small or EightBits(whole, calibration)
            content, notes, too_much = small.make(name)
        assert content is not None
        with runs.writing(path) as temporary:
            temporary.write_bytes(content)
        made[name] = Made(path, notes, too_much)
    return made


class EightBits:
    """The 8-bit files of a float32 one; what was observed on the images serves both kinds."""

    def __init__(self, content: bytes, calibration: Calibration) -> None:
        from imgclf.export.eight_bits import Judge, Quantizer
        from imgclf.models.litert import LiteModel

        shape = LiteModel(content).input_shape
        images, _ = chosen.read(calibration.images, shape)
        if not len(images):
            raise InputError("none of the images to calibrate on could be read", "give the run's images back")
        validation, kept = chosen.read(calibration.validation, shape)
        labels = [calibration.labels[place] for place in kept]
        self.calibration = calibration
        self.judge = Judge(content, validation, labels) if kept else None
        self.quantizer = Quantizer(content, list(images), lambda: list(chosen.read(calibration.more, shape)[0]))

    def make(self, name: str) -> tuple[bytes, tuple[str, ...], str]:
        """A file, how it was made, and why it is not to be shipped."""
        found = self.quantizer.make(name, self.judge, self.calibration.max_drop)
        notes = tuple(str(attempt) for attempt in found.attempts) if len(found.attempts) > 1 else ()
        if found.taken.drop is None or found.taken.drop <= self.calibration.max_drop:
            return found.content, notes, ""
        points, allowed = found.taken.drop * 100, self.calibration.max_drop * 100
        measured = plural(len(self.calibration.validation), "validation image")
        return found.content, notes, (f"it loses {points:.1f} points on {measured} at best ({found.taken.recipe}), "
                                      f"more than the {allowed:g} allowed")  # fmt: skip
