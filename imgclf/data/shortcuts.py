"""Properties that tell the class by themselves, so that a network would learn them instead. May import imageset.

The idea is of cleanlab's Datalab ("spurious correlations",
https://docs.cleanlab.ai/stable/cleanlab/datalab/guide/issue_type_description.html). Here each class is held against all
others by a shallow tree on one property: a class that was photographed in the dark is then found among a hundred.
"""

import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgclf.data.imageset import ImageFile, Looks
from imgclf.data.known import Known

VERSION = "shortcuts 2"
# Balanced accuracy of one class against the rest, by cross-validation; 0.5 is chance. The most that honest sets reach:
# clothes 0.62, faces with masks 0.64, CIFAR-10 0.68, pictures drawn at random 0.72 (docs/benchmarks.md).
TELLS = 0.85
FOLDS, DEPTH, LEAST_IMAGES, LEAST_LEAF = 5, 2, 20, 5
CLASSES_TRIED = 10  # of one property: those whose middle lies farthest from that of all
IMAGES_TRIED = 20_000


class Shortcut(NamedTuple):
    """A class that one property tells from the others.

    Attributes:
        name: of the property.
        label: the class.
        accuracy: balanced accuracy of a shallow tree, 0.85 to 1; 0.5 is chance.
        inside: what the property is in the class, for people: its middle, or its commonest value.
        outside: in the other classes.
    """

    name: str
    label: str
    accuracy: float
    inside: str
    outside: str


class _Property(NamedTuple):
    name: str
    value: Callable[[ImageFile, Looks], float]
    shown: str  # a format for people; "" where the value is a code of words


# Not among them: sharpness and bytes a pixel, which the strokes of a digit decide ("1" of MNIST: 0.93).
PROPERTIES = (
    _Property("brightness", lambda image, looks: looks.brightness, "{:.2f}"),
    _Property("colourfulness", lambda image, looks: looks.colourfulness, "{:.0f}"),
    _Property("image size", lambda image, looks: math.sqrt(image.width * image.height), "{:.0f} pixels a side"),
    _Property("aspect ratio", lambda image, looks: image.width / image.height, "{:.2f}"),
)


def find_shortcuts(images: Sequence[ImageFile], known: Known) -> tuple[Shortcut, ...]:
    """Find the properties that tell a class.

    Args:
        images: inspected; those without looks are passed over, and of very many an even sample is taken.
        known: holds the outcome for the same images and labels.

    Returns:
        The shortcuts, the most telling first. A class with fewer than 20 images is not judged.
    """
    seen = sorted((image for image in images if image.looks is not None), key=lambda image: image.key)
    seen = seen[:: -(-len(seen) // IMAGES_TRIED) or 1]
    text = "\n".join(f"{image.key} {image.label}" for image in seen)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    noted = known.recall(VERSION, digest)
    if noted is not None:
        return tuple(Shortcut(*row) for row in json.loads(noted))
    found = _find(seen)
    known.note(VERSION, digest, json.dumps(found))
    return tuple(found)


def _find(images: Sequence[ImageFile]) -> list[Shortcut]:
    labels = np.array([image.label for image in images])
    found = []
    for name, value, shown in PROPERTIES:
        values = np.array([value(image, image.looks) for image in images if image.looks is not None])
        if len(np.unique(values)) > 1:
            found += _of_property(name, values, labels, lambda part, shown=shown: shown.format(np.median(part)))
    formats = sorted({image.format for image in images})
    codes = np.array([formats.index(image.format) for image in images], np.float64)
    if len(formats) > 1:
        found += _of_property("file format", codes, labels, lambda part: _commonest(formats, part))
    return sorted(found, key=lambda shortcut: (-shortcut.accuracy, shortcut.name, shortcut.label))


def _commonest(names: Sequence[str], codes: NDArray[np.float64]) -> str:
    return names[int(Counter(codes.tolist()).most_common(1)[0][0])]


def _of_property(
    name: str, values: NDArray[np.float64], labels: NDArray[np.str_], shown: Callable[..., str]
) -> list[Shortcut]:
    spread = float(np.subtract(*np.percentile(values, (75, 25)))) or float(values.std()) or 1.0
    sizes = Counter(labels.tolist())
    judged = [label for label, size in sizes.items() if LEAST_IMAGES <= size <= len(labels) - LEAST_IMAGES]
    middle = float(np.median(values))
    far = sorted(judged, key=lambda label: (-abs(float(np.mean(values[labels == label])) - middle) / spread, label))
    found = []
    for label in far[:CLASSES_TRIED]:
        inside = labels == label
        accuracy = _balanced_accuracy(values, inside)
        if accuracy >= TELLS:
            found.append(Shortcut(name, str(label), round(accuracy, 3), shown(values[inside]), shown(values[~inside])))
    return found


def _balanced_accuracy(values: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=LEAST_LEAF, class_weight="balanced", random_state=0)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = cross_val_predict(tree, values[:, np.newaxis], inside, cv=folds)
    return float((told[inside].mean() + (~told[~inside]).mean()) / 2)
