"""`imgclf demo`: tries a run's mobile file in the browser. Imports nothing heavy to show its help."""

from pathlib import Path

import click

from imgclf.cli.addresses import PROVEN
from imgclf.cli.main import common_options


@click.command(short_help="Try a run's mobile file in the browser.")
@click.argument("run", type=PROVEN)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the page.  [default: any free one]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in the browser.")
@common_options
def command(run: Path, port: int, browser: bool) -> None:
    """Serve a page that runs the file to ship of RUN in the browser, on photos or the camera.

    The page is RUN/exports/web, which any web server can serve too; it is written where it is not there yet. It is
    served to this computer only, and photos do not leave the browser. End with Ctrl-C.
    """
    from imgclf.export.demo import demo

    demo(run, port, browser, click.echo)
