"""A few test images with the scores that every file must give, for the unit test of an app. May import predict."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from imgclf import predict, runs
from imgclf.export.verify import Exported, Reference
from imgclf.pixels import read_shrunk

FOLDER, INDEX = "golden", "golden.json"
IMAGES = 10
# What another decoder and processor may make of the same pixels: an app's test should allow as much.
TOLERANCE = 0.02


def write_golden(exports: Path, rows: Sequence[Exported], reference: Reference) -> None:
    """Write golden/: images as PNG, upright, and golden.json with the scores that each file gives for them.

    Args:
        exports: a run's folder of exports.
        rows: its files.
        reference: the images that they were verified on, and what Keras says of them.
    """
    folder = exports / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    fit = [row for row in rows if not row.faults]
    if not fit:
        return
    folder.mkdir(parents=True)
    predictors = {row.path.name: predict.load(row.path, reference.classes) for row in fit}
    side = max(next(iter(predictors.values())).input_shape[:2])
    entries: list[dict[str, Any]] = []
    for number, place in enumerate(_spread(reference)):
        path = folder / f"{number}.png"
        with runs.writing(path) as temporary:
            Image.fromarray(read_shrunk(reference.images[place], side).pixels).save(temporary, "PNG")
        scores = {"keras": reference.scores[place]}
        for name, predictor in predictors.items():
            scores[name] = next(row.scores for row in predictor.each([path]) if isinstance(row, predict.Prediction))
        source, label = reference.images[place].name, reference.classes[reference.labels[place]]
        entries.append({
            "image": path.name, "from": source, "label": label,
            "scores": {name: [round(float(value), 6) for value in row] for name, row in scores.items()},
        })  # fmt: skip
    runs.write_json(folder / INDEX, {"classes": reference.classes, "tolerance": TOLERANCE, "images": entries})


def _spread(reference: Reference) -> list[int]:
    """Places of IMAGES images, one of each class after the other."""
    turns: list[tuple[int, int]] = []
    seen: dict[int, int] = {}
    for place, label in enumerate(reference.labels.tolist()):
        seen[label] = seen.get(label, -1) + 1
        turns.append((seen[label], place))
    return [place for _, place in sorted(turns)[:IMAGES]]
