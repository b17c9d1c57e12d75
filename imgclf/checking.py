"""Finished mobile files: are they what the model is, and what do they cost? May import export/ and measuring.

For a .tflite file nothing here imports TensorFlow.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from imgclf import measuring, predict, runs
from imgclf.errors import InputError
from imgclf.evaluation.evaluate import evaluate
from imgclf.export.bench import Bench, bench
from imgclf.export.catalog import FORMATS
from imgclf.export.convert import Made
from imgclf.export.results import REFUSED, write_results
from imgclf.export.verify import Exported, Limits, Reference, verify
from imgclf.progress import step
from imgclf.storage.places import place


def verify_model(
    model: Path, data: Path | None = None, labels: Path | None = None, *, max_drop: float,
    min_agreement: float | None = None,
) -> tuple[Exported, ...]:  # fmt: skip
    """Compare finished mobile files with the model that they were made of.

    Args:
        model: a run folder: all of its files, against its Keras model; or a .tflite file in a run's exports, against
            what the run's Keras model said of the test images; or anybody's, against its own answers by LiteRT.
        data: labelled images; by default the test part of the run.
        labels: class names of a file that has none.
        max_drop: of the accuracy, 0..1.
        min_agreement: share of images with the same top class, 0..1; each format's own by default.

    Returns:
        A row for each file; of a run without `data` also written to exports/verify.json.

    Raises:
        InputError: nothing to verify, or no images.
    """
    run = _run_of(model)
    if run is None:
        return _anybodys(model, data, labels, max_drop, min_agreement)
    made = {name: Made(run / runs.EXPORTS / row.file) for name, row in FORMATS.items()
            if (run / runs.EXPORTS / row.file).is_file()}  # fmt: skip
    if model.is_file():
        made = {name: file for name, file in made.items() if file.path.samefile(model)}
        if not made:
            return _anybodys(model, data, labels, max_drop, min_agreement)
    if not made:
        raise InputError(f"{run.root} has no mobile files", f"write them: imgclf export {run.root}")
    reference = _by_keras(run, data, model.is_file())
    rows = verify(made, reference, Limits(max_drop, min_agreement, len(reference.images)))
    if data is None and model.is_dir():
        write_results(run / runs.EXPORTS, rows, reference)
    return rows


def bench_models(models: Sequence[Path], data: Path | None = None) -> list[Bench]:
    """Measure mobile files on this computer.

    Args:
        models: run folders, whose exports are measured, and .tflite files.
        data: labelled images to measure the accuracy on; the files need class names then.

    Raises:
        InputError: a run without exports, or something that is no model.
    """
    files: list[Path] = []
    for model in models:
        if not model.is_dir():
            files.append(model)
            continue
        run = runs.Run.open(model)
        found = [path for row in FORMATS.values() if (path := run / runs.EXPORTS / row.file).is_file()]
        if not found:
            raise InputError(f"{run.root} has no mobile files", f"write them: imgclf export {run.root}")
        files += found
    images = measuring.labelled_images(data) if data is not None else ()
    rows = []
    with step("measuring the files", len(files), "files") as bar:
        for path in files:
            row = bench(path)
            if images:
                row = replace(row, accuracy=evaluate(predict.load(path), images).metrics.accuracy)
            rows.append(row)
            bar.update()
    return rows


def _run_of(model: Path) -> runs.Run | None:
    """The run that a folder is, or that a file is an export of."""
    if not model.exists():
        raise InputError(f"{model} does not exist", "expected a run folder or a .tflite file")
    if model.is_dir():
        return runs.Run.open(model)
    folder = model.resolve().parent
    folder = folder.parent if folder.name == REFUSED else folder
    if folder.name == runs.EXPORTS and (folder.parent / runs.STATE).is_file():
        return runs.Run.open(folder.parent)
    return None


def _by_keras(run: runs.Run, data: Path | None, from_file: bool) -> Reference:
    """What the Keras model says: asked now, or (where nothing may import TensorFlow) as it was measured."""
    if data is None and from_file:
        return _as_measured(run)
    images = measuring.proof_images(run) if data is None else measuring.labelled_images(data)
    found = evaluate(predict.load(run.root), images)
    return Reference(run.outputs, tuple(image.path for image in found.images), found.labels, found.probabilities)


def _as_measured(run: runs.Run) -> Reference:
    """The test images with what predictions.csv says of them, to six digits."""
    with (run / runs.PREDICTIONS).open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        rows = {row["path"]: row for row in csv.DictReader(handle)}
    folder = place(runs.read_json(run / runs.CONFIG)["data"]["folder"])
    classes, index = run.outputs, {name: number for number, name in enumerate(run.classes)}
    found = [(image, rows[name]) for image in measuring.test_images(run)
             if (name := image.path.relative_to(folder).as_posix()) in rows]  # fmt: skip
    if not found:
        raise InputError(f"{run.root} has no predictions of its test images", "name labelled images with --data")
    return Reference(
        classes, tuple(image.path for image, _ in found),
        np.array([index[image.label] for image, _ in found], np.int64),
        np.array([[float(row[f"p:{name}"]) for name in classes] for _, row in found], np.float32),
    )  # fmt: skip


def _anybodys(
    model: Path, data: Path | None, labels: Path | None, max_drop: float, min_agreement: float | None
) -> tuple[Exported, ...]:
    """A file that no Keras model is known of: LiteRT's answers are what MediaPipe's are compared with."""
    if data is None:
        raise InputError(f"{model} is not the export of a run", "name labelled images to compare on with --data")
    predictor = predict.load(model, predict.read_labels(labels) if labels is not None else None)
    found = evaluate(predictor, measuring.labelled_images(data))
    paths = tuple(image.path for image in found.images)
    reference = Reference(predictor.classes, paths, found.labels, found.probabilities)
    limits = Limits(max_drop, min_agreement, len(paths))
    kind = "int8" if _input_of(model) != "float32" else "float16"
    return verify({kind: Made(model)}, reference, limits)


def _input_of(model: Path) -> str:
    """The dtype of a file's input."""
    from imgclf.models.litert import LiteModel

    return str(LiteModel(model, threads=1).input_dtype.name)
