"""`imgclf export`: writes and proves mobile files of a run. Imports nothing heavy to show its help."""

from pathlib import Path

import click

from imgclf.cli.main import common_options
from imgclf.config import FORMATS


@click.command(short_help="Write mobile files of a run and prove them.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--formats", default=",".join(FORMATS), show_default=True, help="Which, separated by commas.")
@common_options
def command(run: Path, formats: str) -> None:
    """Write the mobile files of RUN into RUN/exports and compare each with the Keras model on the test images."""
    from imgclf.classifier import load

    for row in load(run).export(*(name.strip() for name in formats.split(",") if name.strip())):
        click.echo(row)
