"""`imgclf similar`: the training images that a run finds most like an image. Imports nothing heavy to show its help."""

import json
from pathlib import Path

import click

from imgclf.cli.addresses import MEASURED, PLACE, Here
from imgclf.cli.check import PAGE_MARK
from imgclf.cli.main import common_options


@click.command(short_help="The training images that a run finds most like an image.")
@click.argument("run", type=MEASURED)
@click.argument("image", type=PLACE)
@click.option("--top", type=click.IntRange(min=1), default=8, show_default=True, help="How many to find.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--out", type=Here(dir_okay=False), help="Write a page (.html) with thumbnails.")
@common_options
def command(run: Path, image: Path, top: int, output: str, out: Path | None) -> None:
    """Find the training images of RUN (a run folder) that its network can hardly tell from IMAGE: why it says so.

    Prints similarity (1 is the same picture), label and path, the most similar first. The features of the training
    images are computed the first time and kept.
    """
    from imgclf.measuring import image_folder, images_of_part
    from imgclf.runs import Run, require_own

    if out is not None:
        require_own(out, PAGE_MARK)
    opened = Run.open(run)
    images = images_of_part(opened, "train")
    from imgclf.explaining.similar import find_similar

    found = find_similar(opened, images, image, top)
    if out is not None:
        from imgclf.report.similar_page import write_similar_page

        write_similar_page(found, image_folder(opened), out)
    if output == "json":
        neighbours = [{"similarity": round(row.similarity, 6), "label": row.label, "path": str(row.path)}
                      for row in found.neighbours]  # fmt: skip
        facts = {"path": str(found.path), "label": found.label, "probability": round(found.probability, 6)}
        click.echo(json.dumps({**facts, "neighbours": neighbours}, indent=2, ensure_ascii=False))
        return
    click.echo(f"{found.path}  {found.label} {found.probability:.3f}")
    for row in found.neighbours:
        click.echo(f"{row.similarity:.3f}  {row.label}  {row.path}")
    if out is not None:
        click.echo(f"page: {out}")
