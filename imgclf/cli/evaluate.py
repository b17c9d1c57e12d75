"""`imgclf evaluate`: measures a run or a model file on labelled images. Imports nothing heavy to show its help."""

import json
from pathlib import Path

import click

from imgclf.cli.addresses import MEASURED, PLACE, Here
from imgclf.cli.main import common_options
from imgclf.progress import plural, printable, warn


@click.command(short_help="Measure a model on labelled images.")
@click.argument("run", type=MEASURED)
@click.argument("data", type=PLACE, required=False)
@click.option("--model", type=MEASURED, help="Measure this file of the run instead of model.keras.")
@click.option(
    "--assert",
    "wanted",
    multiple=True,
    metavar="GATE",
    help="Exit with 1 unless this holds, such as 'macro_f1>=0.9' or 'recall[hat]>=0.8'; may be repeated.",
)
@click.option(
    "--slices",
    "sliced",
    is_flag=True,
    help="Also the accuracy of groups of images, by size, brightness, shape, colour and sub-folder.",
)
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--predictions", type=Here(), help="Write one row per image to this CSV file.")
@common_options
def command(
    run: Path,
    data: Path | None,
    model: Path | None,
    wanted: tuple[str, ...],
    sliced: bool,
    output: str,
    predictions: Path | None,
) -> None:
    """Measure RUN (a run folder or a model file) on its own test part, or on DATA, a folder of labelled images.

    A gate (--assert) is a figure of --format json, one of >=, >, <=, <, ==, and a number. Figures of a class have its
    name in brackets. A figure that is undefined on the images does not hold.
    """
    from imgclf.classifier import Classifier, load
    from imgclf.errors import CheckFailed
    from imgclf.evaluation.gates import Gate, require_classes
    from imgclf.runs import require_own

    gates = [Gate.parse(text) for text in wanted]
    if predictions is not None:
        require_own(predictions, "path,label,prediction,probability,loss")
    classifier = load(run)
    if model is not None:
        classifier = Classifier(load(model, classifier.classes).predictor, classifier.run)
    require_classes(gates, classifier.classes)
    found = classifier.evaluation(data)
    if predictions is not None:
        found.write(predictions, classifier.classes, (data or Path()).resolve())
    slices = found.slices() if sliced else None
    if output == "json":
        table = found.metrics.to_json()
        if slices is not None:
            table["slices"] = [each.to_json() for each in slices]
        click.echo(json.dumps(table, indent=2, ensure_ascii=False))
    else:
        click.echo(found.metrics)
        if slices is not None:
            click.echo()
            click.echo(
                "\n".join(printable(str(each)) for each in slices) or "no groups of 10 images or more to compare"
            )
    for skipped in found.skipped:
        warn(f"{skipped.path}: {skipped.reason}")
    checked = [gate.check(found.metrics) for gate in gates]
    for holds, line in checked:
        if holds:
            click.echo(printable(f"holds: {line}"), err=output == "json")
    failed = [line for holds, line in checked if not holds]
    if found.skipped:
        count = len(found.skipped)
        failed.append(f"{plural(count, 'image')} could not be read and {'was' if count == 1 else 'were'} left out")
    if failed:
        raise CheckFailed("; ".join(failed))
