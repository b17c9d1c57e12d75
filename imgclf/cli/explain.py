"""`imgclf explain`: what a model sees in images. Never imports TensorFlow for a .tflite file."""

from pathlib import Path

import click

from imgclf.cli.addresses import ANSWERING, Here
from imgclf.cli.main import common_options
from imgclf.storage.places import place

METHODS = ("gradcam", "occlusion")


@click.command(short_help="See where a model looks, or into its layers.")
@click.argument("run", type=ANSWERING)
@click.argument("images", nargs=-1, required=True)
@click.option("--out", type=Here(file_okay=False), required=True, help="Folder for the pictures.")
@click.option("--class", "label", help="The class to explain; by default the most probable one of each image.")
@click.option("--method", type=click.Choice(METHODS), help="gradcam: gradients of the network, fast; a run or a .keras "
              "file. occlusion: places are hidden one after the other; any model.  [default: gradcam; occlusion for a "
              ".tflite file]")  # fmt: skip
@click.option("--occlusion", is_flag=True, help="The same as --method occlusion.")
@click.option("--layers", is_flag=True, help="Draw the first kernels and one image after each layer instead.")
@common_options
def command(
    run: Path, images: tuple[str, ...], out: Path, label: str | None, method: str | None, occlusion: bool, layers: bool
) -> None:  # fmt: skip
    """Draw a heat map on each of IMAGES (files, folders, globs): where RUN sees what speaks for a class.

    RUN is a run folder, a .keras or a .tflite file. Images that cannot be read are named and left out; the exit code is
    1 then.
    """
    from imgclf.errors import InputError

    if occlusion and method not in (None, "occlusion"):
        raise InputError(f"--occlusion beside --method {method}", "give one of them")
    method = "occlusion" if occlusion else method
    if not layers:
        _heat(run, images, out, label, method)
    elif len(images) > 1 or label is not None or method is not None:
        raise InputError("--layers draws one image, and neither a class nor a method", "leave the others out")
    else:
        _layers(run, place(images[0]), out)


def _heat(model: Path, images: tuple[str, ...], out: Path, label: str | None, method: str | None) -> None:
    from imgclf import predict
    from imgclf.errors import CheckFailed
    from imgclf.explaining.explain import explain
    from imgclf.explaining.picture import save
    from imgclf.pixels import UnreadableImage
    from imgclf.progress import track, warn

    files = predict.find_images(images)
    taken: set[str] = set()
    results = explain(predict.load(model), files, label=label, method=method)
    for result in track(results, "explaining", len(files)):
        try:
            if isinstance(result, predict.Skipped):
                raise UnreadableImage(result.reason)
            drawn = save(result, out, taken)
        except UnreadableImage as error:
            warn(f"{result.path}: {error}")
            continue
        click.echo(f"{result.path}  {result.label} {result.probability:.3f}  {drawn}")
    if len(taken) < len(files):
        raise CheckFailed(f"{len(files) - len(taken)} of {len(files)} images could not be read and were left out")


def _layers(run: Path, image: Path, out: Path) -> None:
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
