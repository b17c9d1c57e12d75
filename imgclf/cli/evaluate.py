"""`imgclf evaluate`: measures a run or a model file on labelled images. Imports nothing heavy to show its help."""

import json
from pathlib import Path

import click

from imgclf.cli.main import common_options
from imgclf.progress import warn


@click.command(short_help="Measure a model on labelled images.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--model", type=click.Path(path_type=Path), help="Measure this file of the run instead of model.keras.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--predictions", type=click.Path(path_type=Path), help="Write one row per image to this CSV file.")
@common_options
def command(run: Path, data: Path | None, model: Path | None, output: str, predictions: Path | None) -> None:
    """Measure RUN (a run folder or a model file) on its own test part, or on DATA, a folder of labelled images."""
    from imgclf.classifier import Classifier, load
    from imgclf.errors import CheckFailed
    from imgclf.runs import require_own

    if predictions is not None:
        require_own(predictions, "path,label,prediction,probability,loss")
    classifier = load(run)
    if model is not None:
        classifier = Classifier(load(model, classifier.classes).predictor, classifier.run)
    found = classifier.evaluation(data)
    if predictions is not None:
        found.write(predictions, classifier.classes, (data or Path()).resolve())
    click.echo(json.dumps(found.metrics.to_json(), indent=2, ensure_ascii=False) if output == "json" else found.metrics)
    for skipped in found.skipped:
        warn(f"{skipped.path}: {skipped.reason}")
    if found.skipped:
        raise CheckFailed(f"{len(found.skipped)} images could not be read and were left out")
