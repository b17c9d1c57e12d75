"""The model of a server: `predict`'s own, in batches that suit single requests. May import predict and models."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf import predict
from imgclf.predict import Predictor
from imgclf.workers.parallel import cpu_count

Floats = NDArray[np.float32]

TFLITE = ".tflite"
LONE = 2  # images for which a batch of 1 each is faster than one batch of 4, which LiteRT computes in full


def open_model(path: Path) -> Predictor:
    """Open what `imgclf predict` would open, ready to compute; a .tflite file without TensorFlow.

    Args:
        path: a run folder, a .keras file or a .tflite file.

    Raises:
        InputError: as `predict.load`.
    """
    predictor = predict.load(path)
    if predictor.path.suffix.lower() == TFLITE:
        predictor = replace(predictor, scores=_lite_scores(predictor.path))
    for count in (1, predict.BATCH):  # the first batch of a size is slow
        predictor.scores(np.zeros((count, *predictor.input_shape), np.float32))
    return predictor


def _lite_scores(path: Path) -> Callable[[Floats], Floats]:
    """The scores of a .tflite file; images that are left alone do not pay for a batch of CHUNK."""
    from imgclf.models.litert import CHUNK, LiteModel

    together, alone = (LiteModel(path, threads=cpu_count()) for _ in range(2))

    def scores(images: Floats) -> Floats:
        rest = len(images) % CHUNK
        whole = len(images) - (rest if rest <= LONE else 0)
        parts = [together.run(images[:whole])] if whole else []
        parts += [alone.run(images[at : at + 1]) for at in range(whole, len(images))]
        return np.concatenate(parts)

    return scores
