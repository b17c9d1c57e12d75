"""Which labels are probably wrong: confident learning on the features of a run. May import models/ and data/.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 2021, as cleanlab has
it. The probabilities come from heads that have not seen the image (cross-validation by what belongs together).
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf import runs
from imgclf.data.bonds import bonds
from imgclf.data.imageset import ImageFile
from imgclf.data.similar import Pair
from imgclf.data.split_file import read_rows
from imgclf.data.suspects import Suspect
from imgclf.errors import InputError
from imgclf.noise import import_tensorflow
from imgclf.predict import Predictor, Skipped
from imgclf.progress import step

FOLDS = 5
SAMPLE = 8  # images that the engine is chosen by
LEAST_UNITS = 2  # of a class; a head that has never seen it cannot doubt it
# Logistic regression on standardized features, C = STRENGTH / number of images. On clothing with 5 % of the labels
# flipped 1 finds 82 % of them, 3 finds 85 %, 10 finds 84 % at lower precision (docs/benchmarks.md).
STRENGTH = 3.0

Array = NDArray[np.float32]


def find_label_errors(run: runs.Run, images: Sequence[ImageFile], pairs: Sequence[Pair] = ()) -> list[Suspect]:
    """Find the images whose label is probably wrong.

    Args:
        run: a finished training, whose backbone gives the features.
        images: inspected; of two classes or more, which need not be those of the run.
        pairs: of nearly the same pictures, which are never judged by each other.

    Returns:
        The suspects, the most suspicious first, nothing decided.

    Raises:
        InputError: too few images to judge any.
    """
    units_of: dict[str, set[int]] = {}
    unit_of = {index: number for number, unit in enumerate(bonds(images, pairs)) for index in unit}
    for index, image in enumerate(images):
        units_of.setdefault(image.label, set()).add(unit_of[index])
    chosen = [index for index, image in enumerate(images) if len(units_of[image.label]) >= LEAST_UNITS]
    features, seen = _features(run, [images[index] for index in chosen])
    chosen = [index for index, there in zip(chosen, seen, strict=True) if there]
    judged = [images[index] for index in chosen]
    names = sorted({image.label for image in judged})
    if len(names) < 2:
        raise InputError("there are too few images to look for wrong labels", "expected two classes with 2 images each")
    labels = np.array([names.index(image.label) for image in judged])
    units = np.array([unit_of[index] for index in chosen])
    tested = {row.key for row in read_rows(run / runs.SPLIT) if row.part == "test"}
    test = np.array([image.key in tested for image in judged])
    probabilities = _out_of_fold(features, labels, units, test)
    suspects = []
    for index in _doubted(labels, probabilities):
        others = np.where(np.arange(len(names)) == labels[index], -1, probabilities[index])
        best = int(others.argmax())
        image = judged[index]
        suspects.append(Suspect(image.path.absolute(), image.label, names[best], round(float(others[best]), 4),
                                key=image.key))  # fmt: skip
    return suspects


def _features(run: runs.Run, images: Sequence[ImageFile]) -> tuple[Array, list[bool]]:
    """What the backbone of a run makes of images, `(n, F)`, and which of them could be read."""
    import_tensorflow()
    import keras

    from imgclf.cut.engine import build_engine
    from imgclf.models.earlier import backbone_of_run

    settings = runs.read_json(run / runs.CONFIG)
    side = {**settings["settings"], **settings.get("decided", {})}["image_size"]
    backbone, _ = backbone_of_run(run.root, (side, side))
    pooled = backbone.output
    if len(pooled.shape) == 4:
        pooled = keras.layers.GlobalAveragePooling2D()(pooled)
    network, engine = keras.Model(backbone.inputs[0], pooled), None
    height, width, channels = (int(size) for size in backbone.input_shape[1:])
    reader = Predictor(Path(run.root), (), (height, width, channels), lambda images: images)
    rows, seen = [], []
    with step("computing features", len(images)) as bar:
        for batch, pixels in reader.batches(image.path for image in images):
            good = [each for each in pixels if not isinstance(each, Skipped)]
            seen += [not isinstance(each, Skipped) for each in pixels]
            if good:
                engine = engine or build_engine(network, np.stack(good[:SAMPLE]))
                rows.append(engine(np.stack(good)))
            bar.update(len(batch))
    if not rows:
        raise InputError("none of the images can be read", "expected the images of the training")
    return np.concatenate(rows), seen


def _out_of_fold(features: Array, labels: NDArray[np.intp], units: NDArray[np.intp], test: NDArray[np.bool_]) -> Array:
    """Probabilities `(n, C)` by heads that have seen neither the image nor what belongs together with it.

    No head sees the run's test images: what is corrected in training must not come from the labels it is measured by.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    spread = features.std(0)
    scaled = (features - features.mean(0)) / np.where(spread > 0, spread, 1)
    rest = np.flatnonzero(~test)
    most = int(np.bincount(labels[rest]).max()) if len(rest) else 0  # of one class: more folds cannot be filled
    folds = min(FOLDS, len(set(units[rest].tolist())), most)
    if folds < 2 or len(set(labels[rest].tolist())) < 2:
        raise InputError("there are too few different images to look for wrong labels", "expected more images")
    # where a head has not seen a class it cannot speak for it; a little for each keeps cleanlab's sums finite
    probabilities = np.full((len(labels), labels.max() + 1), 1e-6, np.float32)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    with step("looking for wrong labels", folds + 1, "folds") as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        turns = [(rest[known], rest[asked]) for known, asked in splitter.split(rest, labels[rest], units[rest])]
        for known, asked in (*turns, (rest, np.flatnonzero(test))):
            if len(asked) and len(set(labels[known].tolist())) > 1:
                head = LogisticRegression(C=STRENGTH / len(known), max_iter=300, tol=1e-3)
                head.fit(scaled[known], labels[known])
                probabilities[np.ix_(asked, head.classes_)] = head.predict_proba(scaled[asked])
            bar.update()
    scaled_rows: Array = probabilities / probabilities.sum(1, keepdims=True)
    return scaled_rows


def _doubted(labels: NDArray[np.intp], probabilities: Array) -> list[int]:
    """Indices of the images whose label is doubted by class and by noise rate, the most doubted first."""
    from cleanlab.filter import find_label_issues

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = find_label_issues(labels, probabilities, filter_by="both", n_jobs=1,
                                  return_indices_ranked_by="normalized_margin")  # fmt: skip
    return [int(index) for index in found]
