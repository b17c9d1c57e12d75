"""Heat maps of images by any model. Imports no TensorFlow, except for Grad-CAM on a Keras model."""

import difflib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf.errors import InputError
from imgclf.explaining.explanation import Explanation
from imgclf.explaining.occlusion import occlusion
from imgclf.pixels import UnreadableImage, fitted, read_shrunk
from imgclf.predict import BATCH, Predictor, Skipped

Array = NDArray[np.float32]
# pixels (n, H, W, channels) and a class (None: the most probable) -> probabilities, the classes, maps (n, h, w)
Mapper = Callable[[Array, int | None], tuple[Array, NDArray[np.intp], Array]]

GRADCAM, OCCLUSION = "gradcam", "occlusion"
KERAS = ".keras"  # the files that have gradients


def explain(
    predictor: Predictor, paths: Iterable[Path], *, label: str | None = None, method: str | None = None
) -> Iterator[Explanation | Skipped]:
    """Find where a model sees what speaks for a class.

    Args:
        predictor: of a run, a .keras or a .tflite file.
        paths: the images.
        label: the class to explain; None: each image's most probable one.
        method: "gradcam" (`gradcam.py`; needs a Keras model) or "occlusion" (`occlusion.py`; any model, slower); None:
            Grad-CAM where the model has gradients.

    Yields:
        One explanation per image, in order; an unreadable one as `Skipped`.

    Raises:
        InputError: no such class or method, or no gradients.
    """
    wanted = None if label is None else _index(label, predictor.classes)
    if method is None:
        method = GRADCAM if predictor.path.suffix.lower() == KERAS else OCCLUSION
    if method not in MAPPERS:
        raise InputError(f"there is no method {method!r}", f"expected {' or '.join(MAPPERS)}")
    return _each(predictor, MAPPERS[method](predictor), paths, wanted, method)


def _each(
    predictor: Predictor, mapper: Mapper, paths: Iterable[Path], wanted: int | None, method: str
) -> Iterator[Explanation | Skipped]:
    def read(path: Path) -> tuple[Array, tuple[int, int]] | Skipped:
        try:
            decoded = read_shrunk(path, max(predictor.input_shape[:2]))
        except UnreadableImage as error:
            return Skipped(path, str(error))
        return fitted(decoded.pixels, *predictor.input_shape), (decoded.height, decoded.width)

    queue = iter(paths)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        while batch := list(islice(queue, BATCH)):
            found = list(pool.map(read, batch))
            good = [pixels for pixels, _ in (each for each in found if not isinstance(each, Skipped))]
            rows = zip(*mapper(np.stack(good), wanted), strict=True) if good else iter(())
            for path, each in zip(batch, found, strict=True):
                if isinstance(each, Skipped):
                    yield each
                    continue
                probabilities, chosen, cells = next(rows)
                yield Explanation(path, predictor.classes[chosen], float(probabilities[chosen]), method, cells, each[1])


def _gradcam(predictor: Predictor) -> Mapper:
    if predictor.path.suffix.lower() != KERAS:
        raise InputError(f"{predictor.path} has no gradients, which Grad-CAM needs",
                         "name the run folder or a .keras file, or take --method occlusion")  # fmt: skip
    from imgclf.models.files import load_keras_model

    model = load_keras_model(predictor.path)
    from imgclf.explaining.gradcam import GradCam

    return GradCam(model)


def _occlusion(predictor: Predictor) -> Mapper:
    def mapper(images: Array, wanted: int | None) -> tuple[Array, NDArray[np.intp], Array]:
        rows = [occlusion(predictor.scores, image, wanted) for image in images]
        probabilities, chosen, maps = zip(*rows, strict=True)
        return np.stack(probabilities), np.array(chosen, np.intp), np.stack(maps)

    return mapper


MAPPERS: dict[str, Callable[[Predictor], Mapper]] = {GRADCAM: _gradcam, OCCLUSION: _occlusion}


def _index(label: str, classes: tuple[str, ...]) -> int:
    if label in classes:
        return classes.index(label)
    near = difflib.get_close_matches(label, classes, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"the model does not know the class {label!r}", f"{hint}expected one of {', '.join(classes[:12])}")
