"""`imgclf metadata`: what a .tflite file says of itself. Imports nothing heavy to show its help."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from imgclf.cli.addresses import ANSWERING, Here
from imgclf.cli.main import common_options


@click.group(short_help="What a .tflite file says of itself: look, or add it.")
def command() -> None:
    """Metadata of .tflite files: class names, normalisation, description. MediaPipe and ML Kit need it."""


@command.command("show")
@click.argument("file", type=ANSWERING)
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@common_options
def show(file: Path, output: str) -> None:
    """Show what FILE, a .tflite model, says of itself."""
    from imgclf.models.litert import LiteModel

    model = LiteModel(file, threads=1)
    height, width, channels = model.input_shape
    found = model.metadata
    value = {
        "input": {"dtype": model.input_dtype.name, "width": width, "height": height, "channels": channels},
        "output": {"dtype": model.output_dtype.name, "scores": model.output_shape[0]},
        "metadata": None if found is None else asdict(found),
    }
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        return
    click.echo(f"input     {width} x {height}, {channels} channels, {model.input_dtype.name}")
    click.echo(f"output    {model.output_shape[0]} scores, {model.output_dtype.name}")
    if found is None:
        click.echo("metadata  none: MediaPipe and ML Kit refuse a float model without it (`imgclf metadata add`)")
        return
    lines = {
        "name": found.name, "about": found.description, "version": found.version, "author": found.author,
        "licence": found.license, "pixels": f"less {_list(found.mean)}, divided by {_list(found.std)}" if found.mean
        else "no normalisation: MediaPipe refuses a float model without it",
        "threshold": "" if found.threshold is None else f"{found.threshold:g}",
        "labels": f"{len(found.labels)}: {', '.join(found.labels[:20])}{', ...' if len(found.labels) > 20 else ''}",
    }  # fmt: skip
    for name, text in lines.items():
        if text:
            click.echo(f"{name:<9} {text}")


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


@command.command("add")
@click.argument("file", type=Here())
@click.option("--labels", type=Here(), help="Class names, one a line, in the order of the scores.")
@click.option("--mean", help="What is taken from pixels of 0 to 255; one number, or one a channel.")
@click.option("--std", help="What they are then divided by.")
@click.option("--name", help="Of the model.")
@click.option("--description", help="For people.")
@click.option("--author", help="Who made it.")
@click.option("--license", "licence", help="Under which it may be used.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Score below which apps name no class.")
@click.option("--out", type=Here(), help="File to write.  [default: NAME-metadata.tflite]")
@common_options
def add(
    file: Path, labels: Path | None, mean: str | None, std: str | None, name: str | None, description: str | None,
    author: str | None, licence: str | None, threshold: float | None, out: Path | None,
) -> None:  # fmt: skip
    """Write a copy of FILE, any image classifier as .tflite, with metadata, so that MediaPipe and ML Kit take it.

    A model that was trained on pixels of -1 to 1 wants --mean 127.5 --std 127.5, one of 0 to 1 --mean 0 --std 255;
    without them a float model gets the pixels as they are. What the file says already and is not given stays.
    """
    from imgclf import predict
    from imgclf.export.repair import add_metadata

    given = {"name": name, "description": description, "author": author, "license": licence, "threshold": threshold}
    written = add_metadata(
        file, out or file.with_name(f"{file.stem}-metadata.tflite"),
        None if labels is None else predict.read_labels(labels), _numbers("--mean", mean), _numbers("--std", std),
        {key: value for key, value in given.items() if value is not None},
    )  # fmt: skip
    click.echo(written)


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    from imgclf.errors import InputError

    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"{option} is {text!r}", "expected numbers with commas between them, such as 127.5") from None
