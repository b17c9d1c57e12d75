"""imgclf: a folder of labelled images in, a measured classifier and proven mobile files out.

    import imgclf
    classifier = imgclf.train("photos", out="runs/first")
    classifier.metrics.accuracy, classifier.predict("new/*.jpg"), classifier.evaluate("other/")
    classifier.export("float32", "float16")
    imgclf.load("runs/first"), imgclf.load("model.tflite")

Imports nothing heavy: TensorFlow is loaded by what needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from imgclf.classifier import Classifier, check, load, train, tune
    from imgclf.config import TrainConfig
    from imgclf.errors import ImgclfError, InputError, SetupError

_HOMES = {
    "Classifier": "imgclf.classifier",
    "ImgclfError": "imgclf.errors",
    "InputError": "imgclf.errors",
    "SetupError": "imgclf.errors",
    "TrainConfig": "imgclf.config",
    "check": "imgclf.classifier",
    "load": "imgclf.classifier",
    "train": "imgclf.classifier",
    "tune": "imgclf.classifier",
}

__all__ = ["Classifier", "ImgclfError", "InputError", "SetupError", "TrainConfig", "check", "load", "train", "tune"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'imgclf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
