"""After the training: probabilities that mean what they say, and a gate for what is unknown. May import TensorFlow.

Both are found on the validation images and become part of the model, so that every file made of it has them.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from imgclf.cut.features import Wanted, compute
from imgclf.data.imageset import Part
from imgclf.evaluation.metrics import wilson
from imgclf.evaluation.temperature import compared, fit_temperature
from imgclf.evaluation.threshold import PLAIN, Rule, choose, offset
from imgclf.evaluation.unknown import fit_gate, gated, softmax
from imgclf.models.gate import with_gate
from imgclf.models.network import head_layer, shift, temper
from imgclf.predict import Predictor, Skipped
from imgclf.progress import step
from imgclf.training.above import Base, pixels
from imgclf.training.session import Session

Array = NDArray[np.float32]
PARTS: tuple[Part, ...] = ("train", "val")
# Part to pooled features `(n, F)` of the trained network, for its images as they are.
Features = Callable[[Part], Array]


def features_from(session: Session, base: Base | None, layer: str | None) -> Features:
    """Pooled features by the store: from what is below a cut, or from the pixels where nothing but the head trained."""

    def read(part: Part) -> Array:
        network = session.network
        source = pixels(session, part) if base is None or layer is None else base[0 if part == "train" else 1]
        model = network.pooled if base is None or layer is None else network.between(layer)
        with step("looking at the images once more", source.count) as bar:
            (found,) = compute(model, f"trained, {part}", [Wanted(source, [0])], bar)
        return np.asarray(found.array(), np.float32)

    return read


def features_by_keras(session: Session) -> Features:
    """Pooled features of a network that trained as a whole, by Keras' own forward pass."""

    def read(part: Part) -> Array:
        images = session.data.train if part == "train" else session.data.val
        model = session.network.pooled
        rows = [np.asarray(model.predict_on_batch(batch), np.float32) for batch, _ in images.in_order()]
        return np.concatenate(rows)

    return read


def features_of_files(network: Any, files: Sequence[Path]) -> Array:
    """Pooled features `(n, F)` of a few image files, by Keras' own forward pass; what cannot be read is left out."""
    height, width, channels = (int(side) for side in network.input_shape[1:])
    reader = Predictor(Path(), (), (height, width, channels), lambda images: images)
    rows = [np.zeros((0, network.output_shape[-1]), np.float32)]
    for _, images in reader.batches(files):
        good = [image for image in images if not isinstance(image, Skipped)]
        if good:
            rows.append(np.asarray(network(np.stack(good), training=False), np.float32))
    return np.concatenate(rows)


def make_trustworthy(
    session: Session, model: Any, features: Features, strange: Sequence[Path] = ()
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """Calibrate a finished model, move its threshold and put a gate behind it, where the settings ask for it.

    Args:
        session: of the training.
        model: image to probabilities `(N, C)`; its head may be changed.
        features: of the images.
        strange: images of no class, to tune a gate on.

    Returns:
        The model, and what was found, for calibration.json; empty where nothing was asked for.
    """
    config = session.config
    facts: dict[str, Any] = {}
    if not (config.calibrate or config.unknown or config.threshold != PLAIN):
        return model, facts
    labels = {part: np.array([image.label for image in session.data.staged.parts[part]]) for part in PARTS}
    val = features("val")
    if config.calibrate:
        before = softmax(_logits(model, val))
        temperature = fit_temperature(before, labels["val"])
        temper(model, temperature)
        found = compared(softmax(_logits(model, val)), labels["val"], temperature)
        facts = {"temperature": temperature, "validation": asdict(found)}
        session.note(f"calibration: temperature {temperature:.2f}, calibration error {found.ece_before:.3f} -> "
                     f"{found.ece_after:.3f} on {found.n} validation images")  # fmt: skip
    if config.threshold != PLAIN:
        rule, names = Rule.parse(config.threshold), session.network.classes
        threshold = choose(rule, softmax(_logits(model, val))[:, 1], labels["val"])
        moved = offset(threshold)
        shift(model, moved)
        facts["threshold"] = {"class": names[1], "value": threshold, "offset": moved, "rule": config.threshold,
                              "n": len(val)}  # fmt: skip
        session.note(f"threshold: {names[1]} is named from a probability of {threshold:.3f} on ({config.threshold} on "
                     f"{len(val)} validation images)")  # fmt: skip
    if config.unknown:
        logits = _logits(model, val)
        odd = features_of_files(session.network.pooled, strange)
        gate = fit_gate(features("train"), labels["train"], val, logits, coverage=config.coverage, seed=config.seed,
                        strange=(odd, _logits(model, odd)) if len(odd) else None)  # fmt: skip
        model = with_gate(model, gate.prototypes, gate.cosine, gate.energy, gate.offset)
        known = int((gated(softmax(logits), gate(val, logits)).argmax(axis=1) < logits.shape[1]).sum())
        low, high = wilson(known, len(val))
        facts["unknown"] = {"coverage_asked": config.coverage, "prototypes": len(gate.prototypes), "tuned_on": len(odd),
                            "validation": {"n": len(val), "known": known, "low": low, "high": high}}  # fmt: skip
        session.note(f"unknown: {known} of {len(val)} validation images stay known ({config.coverage:.0%} asked for), "
                     f"by {len(gate.prototypes)} prototypes")  # fmt: skip
    return model, facts


def _logits(model: Any, features: Array) -> NDArray[np.float64]:
    kernel, bias = (keras.ops.convert_to_numpy(value).astype(np.float64) for value in head_layer(model).weights)
    logits: NDArray[np.float64] = features @ kernel + bias
    return logits
