"""The training images that a run finds most like an image. May import models/ and cut/, once TensorFlow is needed.

Nearest in the features that the head reads, by cosine similarity: what the network cannot tell apart lies close
together, so the neighbours' labels are why it says what it says. Features of training images are kept in the cache.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf import runs
from imgclf.data.imageset import ImageFile
from imgclf.data.inspect import KEY_BYTES
from imgclf.errors import InputError
from imgclf.models.files import load_keras_model
from imgclf.noise import import_tensorflow
from imgclf.pixels import UnreadableImage, file_bytes, load_for_model
from imgclf.progress import warn

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """A training image that is like the one asked for.

    Attributes:
        path: the image.
        label: that it was trained with.
        similarity: cosine of the angle between the features of both, -1..1; 1 for the same picture.
    """

    path: Path
    label: str
    similarity: float


@dataclass(frozen=True)
class Similar:
    """An image, what the model says of it, and the training images that are most like it.

    Attributes:
        path: the image.
        label: its most probable class.
        probability: of that class, 0..1.
        neighbours: the most similar first.
    """

    path: Path
    label: str
    probability: float
    neighbours: tuple[Neighbour, ...]


def find_similar(run: runs.Run, images: Sequence[ImageFile], path: Path, top: int = 8) -> Similar:
    """Find the training images that a run's network can hardly tell from an image.

    Args:
        run: a finished training.
        images: its training images, from the user's folder.
        path: the image; where it is a training image itself, that one is left out.
        top: how many to find.

    Raises:
        InputError: the image cannot be read, the training images are gone, or the run has no head of imgclf.
    """
    if not (run / runs.MODEL).is_file():
        raise InputError(f"{run.root} has no trained model ({run.state['state']})", "run `imgclf train` to the end")
    try:
        key = hashlib.blake2b(file_bytes(path), digest_size=KEY_BYTES).hexdigest()
    except UnreadableImage as error:
        raise InputError(f"{path}: {error}", "expected an image") from None
    there = _without_gone(images)
    import_tensorflow()
    from imgclf.cut.run_features import features_of
    from imgclf.cut.stored_predictor import behind_features, pooled_network
    from imgclf.models.network import head_layer

    model = load_keras_model(run / runs.MODEL)
    if head_layer(model) is None:
        raise InputError(f"{run / runs.MODEL} does not end in a head of imgclf", "expected the folder of a run")
    network = pooled_network(model)
    shape = tuple(int(side) for side in model.input_shape[1:])
    try:
        asked = np.asarray(network(load_for_model(path, *shape)[np.newaxis], training=False))
    except UnreadableImage as error:
        raise InputError(f"{path}: {error}", "expected an image") from None
    scores = np.asarray(behind_features(model)(asked, training=False))[0]
    known, features = features_of(network, there, (shape[0], shape[1], shape[2]))
    others = [index for index, image in enumerate(known) if image.key != key]
    if len(others) < len(known):
        warn(f"{path} is a training image itself, which is left out")
    closeness = _cosine(features[others], asked[0])
    order = np.argsort(-closeness, kind="stable")[:top]
    found = (Neighbour(known[others[at]].path, known[others[at]].label, float(closeness[at])) for at in order)
    best = int(scores.argmax())
    return Similar(path, run.outputs[best], float(scores[best]), tuple(found))


def _without_gone(images: Sequence[ImageFile]) -> list[ImageFile]:
    there = [image for image in images if image.path.is_file()]
    if not there:
        raise InputError(f"the {len(images)} training images of this run are gone"
                         + (f" ({images[0].path})" if images else ""), "put them back where they were")  # fmt: skip
    if len(there) < len(images):
        warn(f"{len(images) - len(there)} of {len(images)} training images are gone and left out")
    return there


def _cosine(rows: Array, one: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    cosines: Array = np.divide(rows @ one, lengths, out=np.zeros(len(rows), np.float32), where=lengths > 0)
    return cosines
