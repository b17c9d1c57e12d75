"""Soft labels from a larger run (`--teacher`). May import TensorFlow, models/, data/.

Hinton, Vinyals and Dean 2015, arXiv 1503.02531; the teacher sees the very view that the student is shown, as Beyer et
al. 2022, arXiv 2106.05237, found to matter.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf import runs
from imgclf.cut.features import Wanted, compute
from imgclf.cut.pixel_source import Pixels
from imgclf.errors import InputError
from imgclf.models.files import load_keras_model
from imgclf.progress import step
from imgclf.training.above import pixels
from imgclf.training.session import Session

Array = NDArray[np.float32]

SHARE = 0.5  # of the target that is the teacher's word; the rest is the label
TEMPERATURE = 2.0  # softens what the teacher says: the share of the less probable classes grows


def taught(session: Session, teacher: str | Path, views: Sequence[int]) -> list[Array]:
    """Targets `(n, C)` of the training images for each view: half label, half teacher.

    Args:
        session: of the student.
        teacher: a finished run.
        views: of the training images.

    Raises:
        InputError: no such run, or its classes are not those of the images.
    """
    run = runs.Run.open(Path(teacher))
    classes = session.network.classes
    if set(run.classes) != set(classes):
        raise InputError(f"the teacher {run.root} knows the classes {', '.join(run.classes[:6])}",
                         f"expected those of the images: {', '.join(classes[:6])}")  # fmt: skip
    model = load_keras_model(run / runs.MODEL)
    height, width, channels = (int(side) for side in model.input_shape[1:])
    own = pixels(session, "train")
    source = Pixels(own.images, (height, width), channels, own.augment, own.flip, own.seed, own.staged_for)
    with step("asking the teacher", len(views) * source.count) as bar:
        (said,) = compute(model, f"{run.root.name} as a teacher", [Wanted(source, views)], bar)
    order = [run.classes.index(name) for name in classes]
    labels = session.data.one_hot("train")
    return [(1 - SHARE) * labels + SHARE * softened(said.array(view)[:, order]) for view in views]


def softened(probabilities: Array, temperature: float = TEMPERATURE) -> Array:
    """Probabilities `(n, C)` as a softmax at a higher temperature would have given them."""
    powers = np.clip(probabilities, 1e-7, 1.0) ** (1 / temperature)
    found: Array = powers / powers.sum(axis=1, keepdims=True)
    return found
