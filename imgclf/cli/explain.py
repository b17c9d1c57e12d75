"""`imgclf explain`: what a model sees in an image. Imports nothing heavy to show its help."""

from pathlib import Path

import click

from imgclf.cli.main import common_options


@click.command(short_help="Look into a network.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--layers", is_flag=True, required=True, help="Draw the first kernels and the image after each layer.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the pictures.")
@common_options
def command(run: Path, image: Path, layers: bool, out: Path) -> None:
    """Draw what the network of RUN (a run folder or a .keras file) makes of IMAGE."""
    from imgclf import runs
    from imgclf.errors import InputError
    from imgclf.models.files import load_keras_model
    from imgclf.pixels import UnreadableImage
    from imgclf.report.layers import draw_layers

    file = run / runs.MODEL if run.is_dir() else run
    if not file.is_file():
        raise InputError(f"{file} does not exist", "expected a run folder or a .keras file")
    try:
        drawings = draw_layers(load_keras_model(file), image, out)
    except UnreadableImage as error:
        raise InputError(f"{image}: {error}", "expected an image") from None
    for drawing in drawings:
        click.echo(f"{drawing.path}  {drawing.title}")
