"""`imgclf check`: looks at every image of a folder and says what is wrong. Imports nothing heavy to show its help."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from imgclf.cli.addresses import MEASURED, PLACE, Here
from imgclf.cli.engine import engine_options
from imgclf.cli.main import common_options
from imgclf.cli.settings import given_settings, setting_options

PAGE_MARK = '<meta name="generator" content="imgclf">'  # in base.html.j2
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command(short_help="Find what is wrong with a folder of images.")
@click.argument("data", type=PLACE)
@click.option("--all", "everything", is_flag=True, help="Name every file, not only the first three of each finding.")
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--html", type=Here(dir_okay=False), help="Write a page with thumbnails.")
@click.option("--fail-on", type=click.Choice(["error", "warning"]), help="Exit with 1 when there is one, or worse.")
@click.option("--run", type=MEASURED, help="A finished run: find labels that are probably wrong.")
@click.option(
    "--csv",
    type=Here(dir_okay=False),
    help="With --run: write these images to a table for `imgclf review` and `imgclf train --fixes`.",
)
@setting_options("classes", "exclude_classes", "workers")
@common_options
@engine_options
def command(
    data: Path, everything: bool, output: str, html: Path | None, fail_on: str | None, run: Path | None,
    csv: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Check DATA for what a training would suffer from: bad files, wrong labels, copies, leaks, bad photos.

    DATA is a folder with one folder of images per class, an archive of such (.zip, .tar), shards (.parquet, .tar), or a
    table (.csv); here or at an address (s3://BUCKET/FOLDER).

    Every file is decoded completely. Nothing in DATA is touched. What was found out is kept, so that a second check
    only reads what is new.
    """
    from imgclf.classifier import check
    from imgclf.config import TrainConfig
    from imgclf.data.suspects import read_suspects, with_decisions, write_suspects
    from imgclf.errors import CheckFailed, InputError
    from imgclf.runs import require_own

    if csv is not None and run is None:
        raise InputError("--csv writes labels that are probably wrong, which need a trained --run",
                         "name one, or give a table of images as DATA")  # fmt: skip
    if html is not None:
        require_own(html, PAGE_MARK)
        if csv is not None and html.resolve() == csv.resolve():
            raise InputError(f"--html and --csv are both {html}", "name two files")
    # read before the images are: a table of another kind is not written over, and no decision is lost
    decided = read_suspects(csv) if csv is not None and csv.exists() else ()
    settings = TrainConfig().replace(**given_settings(options))
    found = check(data, run=run, classes=settings.classes, exclude_classes=settings.exclude_classes,
                  workers=settings.workers)  # fmt: skip
    if csv is not None:
        write_suspects(csv, with_decisions(found.suspects, decided))
    if html is not None:
        from imgclf.report.check_page import write_check_page

        write_check_page(found, html, settings.workers)
    if output == "json":
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        for line in found.lines(None if everything else 3):
            click.echo(_coloured(line))
    if html is not None and output == "text":
        click.echo(f"page: {html}")
    if csv is not None and output == "text":
        click.echo(f"suspects: {csv}\nnext: imgclf review {shlex.quote(str(csv))}")
    bad = found.count("error") + (found.count("warning") if fail_on == "warning" else 0)
    if fail_on and bad:
        raise CheckFailed(f"{data} has findings of level {fail_on}" + (" or worse" if fail_on == "warning" else ""))


def _coloured(line: str) -> str:
    level = line.split(" ", 1)[0]
    return click.style(level, fg=COLOURS[level], bold=True) + line[len(level) :] if level in COLOURS else line
