"""A Keras model that keeps the features of images it has measured. May import Keras, predict and the store.

As long as only the head has changed, the test images of a second run need not go through the network again. What is
kept is Keras' own forward pass of the pixels that `pixels.py` reads: the figures are those of the model as it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from imgclf.cut.features import LIBRARIES, fingerprint
from imgclf.cut.room import make_room
from imgclf.cut.store import Space
from imgclf.data.imageset import ImageFile
from imgclf.models.network import head_features
from imgclf.predict import BATCH, Prediction, Predictor, Skipped, of_model

Array = NDArray[np.float32]


@dataclass(frozen=True)
class StoredPredictor(Predictor):
    """A predictor of images whose content is known.

    Attributes:
        keys: of the images: path to the hash of the file's bytes.
        features: pixels `(n, H, W, channels)` to pooled features `(n, F)`.
        head: those to probabilities `(n, C)`.
        space: where features are kept.
    """

    keys: dict[Path, str]
    features: Predictor
    head: Any
    space: Space

    def each(self, paths: Iterable[Path]) -> Iterator[Prediction | Skipped]:
        """Predict images in their order; unreadable ones come as `Skipped`."""
        files = list(paths)
        names = [self.keys[path] for path in files]
        rows = self.space.find(names)
        missing = [files[position] for position in rows.missing]
        skipped: dict[Path, Skipped] = {}
        if missing:
            make_room(len(missing) * self.space.row_bytes)
            missing = [files[position] for position in self.space.find(names).missing]  # some may have had to go
            skipped = self._compute(missing)
            rows = self.space.find(names)
        lost = set(rows.missing)
        for at in range(0, len(files), BATCH):
            here = [position for position in range(at, min(at + BATCH, len(files))) if position not in lost]
            scores = iter(np.asarray(self.head(rows.take(np.array(here)), training=False)) if here else ())
            for position in range(at, min(at + BATCH, len(files))):
                path = files[position]
                if position in lost:
                    yield skipped.get(path) or Skipped(path, "it cannot be read any more")
                    continue
                row = next(scores)
                best = int(row.argmax())
                yield Prediction(path, self.classes[best], float(row[best]), tuple(float(value) for value in row))

    def _compute(self, files: Sequence[Path]) -> dict[Path, Skipped]:
        skipped = {}
        with self.space.writing() as writer:
            for batch, images in self.features.batches(files):
                good = [(path, image) for path, image in zip(batch, images, strict=True)
                        if not isinstance(image, Skipped)]  # fmt: skip
                skipped.update({image.path: image for image in images if isinstance(image, Skipped)})
                if good:
                    pixels = np.stack([image for _, image in good])
                    writer.add([self.keys[path] for path, _ in good], self.features.scores(pixels))
        return skipped


def stored_predictor(plain: Predictor, model: Any, images: Sequence[ImageFile]) -> StoredPredictor:
    """The predictor of a model for images whose content is known.

    Args:
        plain: of the model.
        model: that ends in a head of imgclf.
        images: inspected.
    """
    pooled, head = pooled_network(model), behind_features(model)
    (tensor,) = pooled.outputs
    width = int(tensor.shape[1])
    identity = {"network": fingerprint(pooled), "source": "pixels.py, Keras", "size": plain.input_shape,
                "versions": [metadata.version(name) for name in LIBRARIES]}  # fmt: skip
    space = Space(identity, (width,), "float32")
    space.describe(what=f"{model.name}: features of test images", engine="Keras")
    features = of_model(plain.path, pooled, tuple(map(str, range(width))))
    return StoredPredictor(
        plain.path, plain.classes, plain.input_shape, plain.scores, {image.path: image.key for image in images},
        features, head, space,
    )  # fmt: skip


def pooled_network(model: Any) -> Any:
    """Image to pooled features `(N, F)`, of a model that ends in a head of imgclf."""
    return keras.Model(model.inputs[0], head_features(model))


def behind_features(model: Any) -> Any:
    """Pooled features `(N, F)` to what the model says, with a gate if it has one."""
    return keras.Model(head_features(model), model.output)
