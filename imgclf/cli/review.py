"""`imgclf review`: decide about likely label errors. Imports nothing heavy to show its help."""

from pathlib import Path

import click

from imgclf.cli.addresses import Here
from imgclf.cli.main import common_options


@click.command(short_help="Decide about likely label errors.")
@click.argument("suspects", type=Here())
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the page.  [default: any free one]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in the browser.")
@common_options
def command(suspects: Path, port: int, browser: bool) -> None:
    """Go through the images of SUSPECTS, a suspects.csv, on a local page: keep, relabel or exclude each.

    The page is served to this computer only; its address is printed. Decisions are written into SUSPECTS when the page
    saves. End with the page's button Done or with Ctrl-C.
    """
    from imgclf.review.server import review

    review(suspects, port, browser, click.echo)
