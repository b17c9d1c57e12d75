"""`imgclf predict`: classifies images with a run or a model file. Never imports TensorFlow for a .tflite file."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from imgclf.cli.addresses import ANSWERING, PLACE
from imgclf.cli.engine import engine_options
from imgclf.cli.main import common_options

FORMATS = ("table", "csv", "json")


@click.command(short_help="Classify images with a run or a model file.")
@click.argument("model", type=ANSWERING)
@click.argument("paths", nargs=-1, required=True)
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True, help="Classes to show per image.")
@click.option("--format", "output", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option(
    "--out",
    type=PLACE,
    help="Write a folder of Parquet files instead (also s3://BUCKET/...): path, class, probability, probabilities, "
    "error. For very many images; the same command goes on where it was stopped.",
)
@common_options
@engine_options
def command(model: Path, paths: tuple[str, ...], top: int, output: str, out: Path | None) -> None:
    """Classify PATHS (files, folders, globs; also s3://BUCKET/...) with MODEL: a run folder, a .keras or .tflite file.

    Images that cannot be read are named and left out; the exit code is 1 then.
    """
    from imgclf import bulk, predict
    from imgclf.errors import CheckFailed
    from imgclf.progress import track, warn
    from imgclf.workers import parallel

    images = predict.find_images(paths)
    answers = bulk.Answers(model, predict.load(model), parallel.is_elsewhere())
    if out is not None:
        written = bulk.write(model, images, out, answers)
        click.echo(str(written))
        if written.skipped:
            raise CheckFailed(f"{written.skipped} images could not be read; the column `error` of {out} says why")
        return
    predictor = answers.predictor
    skipped: list[predict.Skipped] = []

    def good() -> Iterator[predict.Prediction]:
        for result in track(answers.in_order(images), "predicting", len(images)):
            if isinstance(result, predict.Skipped):
                skipped.append(result)
                warn(f"{result.path}: {result.reason}")
            else:
                yield result

    rows = ((str(row.path), row.top(top, predictor.classes)) for row in good())
    for line in _WRITERS[output](rows):
        click.echo(line)
    if skipped:
        raise CheckFailed(f"{len(skipped)} of {len(images)} images could not be read and were left out")


Rows = Iterable[tuple[str, list[tuple[str, float]]]]


def _table(rows: Rows) -> Iterator[str]:
    for path, classes in rows:
        yield f"{path}  " + ", ".join(f"{label} {probability:.3f}" for label, probability in classes)


def _csv(rows: Rows) -> Iterator[str]:
    for index, (path, classes) in enumerate(rows):
        if index == 0:
            numbers = range(1, len(classes) + 1)
            yield _csv_line(["path", *(name for n in numbers for name in (f"label_{n}", f"probability_{n}"))])
        yield _csv_line([path, *(value for label, p in classes for value in (label, f"{p:.6f}"))])


def _csv_line(values: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _json(rows: Rows) -> Iterator[str]:
    found = [
        {"path": path, "classes": [{"label": label, "probability": round(p, 6)} for label, p in classes]}
        for path, classes in rows
    ]
    yield json.dumps(found, indent=2, ensure_ascii=False)


_WRITERS = {"table": _table, "csv": _csv, "json": _json}
