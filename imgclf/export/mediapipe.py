"""What MediaPipe Tasks' ImageClassifier, the runtime of phone apps, makes of images. May import pixels and noise.

MediaPipe is asked in a process of its own: it logs to the descriptors, keeps threads, and would import TensorFlow
where that is installed.
"""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf import pixels
from imgclf.errors import SetupError
from imgclf.workers import parallel

SECONDS = 1800.0
ALL_SCORES = 1e-30  # 0 or less would mean the threshold of the file


@dataclass(frozen=True)
class Answers:
    """What MediaPipe says of images.

    Attributes:
        names: of the classes, by their index, as MediaPipe read them from the file.
        scores: float32 `(n, C)`, by the classes' indices.
        error: why MediaPipe does not take the file; "" if it does.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float32]
    error: str = ""

    @property
    def unsupported(self) -> bool:
        """Whether MediaPipe cannot do this at all, whatever the file says: it knows no grey images."""
        return "Only RGB color space" in self.error or "where depth = 3 or 4" in self.error


def installed() -> bool:
    """Whether MediaPipe is there (the extra `verify`)."""
    return importlib.util.find_spec("mediapipe") is not None


def classify(models: Sequence[Path], images: Sequence[Path], classes: int) -> list[Answers]:
    """Run files over images as an app does: MediaPipe gets the upright original and resizes it itself.

    Args:
        models: .tflite files.
        images: readable image files.
        classes: number of them.

    Raises:
        SetupError: MediaPipe is not installed, or its process died.
    """
    if not installed():
        raise SetupError("MediaPipe is not installed", "pip install 'imgclf[verify]'")
    return parallel.run_isolated(ask, tuple(models), tuple(images), classes, timeout=SECONDS)


def ask(models: tuple[Path, ...], images: tuple[Path, ...], classes: int) -> list[Answers]:
    """As `classify`, in this process."""
    return [_ask_one(model, images, classes) for model in models]


def _ask_one(model: Path, images: tuple[Path, ...], classes: int) -> Answers:
    sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]  # MediaPipe wants it for its own documentation
    import mediapipe
    from mediapipe.tasks.python import vision
    from mediapipe.tasks.python.core.base_options import BaseOptions

    names, scores = [""] * classes, np.zeros((len(images), classes), np.float32)
    options = vision.ImageClassifierOptions(
        base_options=BaseOptions(model_asset_buffer=model.read_bytes()), max_results=-1, score_threshold=ALL_SCORES
    )
    try:
        with vision.ImageClassifier.create_from_options(options) as classifier:
            for row, path in zip(scores, images, strict=True):
                image = np.ascontiguousarray(pixels.read(path).pixels)
                held = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
                for entry in classifier.classify(held).classifications[0].categories:
                    row[entry.index], names[entry.index] = entry.score, entry.category_name or ""
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        return Answers(tuple(names), scores, " ".join(str(error).split())[:300])
    return Answers(tuple(names), scores)
