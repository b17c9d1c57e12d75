"""`imgclf report`: writes a run's report and model card again. Imports nothing heavy to show its help."""

from pathlib import Path

import click

from imgclf.cli.addresses import PLACE, echo
from imgclf.cli.main import common_options


@click.command(short_help="Write the report and the model card of a run again.")
@click.argument("run", type=PLACE)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
@common_options
def command(run: Path, show: bool) -> None:
    """Write report.html and MODEL_CARD.md of a finished RUN again from what its folder holds; nothing is trained.

    Thumbnails are read from the images that the run was trained on; where they are gone, names stand in for them.
    """
    from imgclf.localhost import open_in_browser
    from imgclf.report.collect import rebuild
    from imgclf.storage.mirror import writing

    with writing(run) as root:
        written = rebuild(root)
    for path in written:
        echo(path)
    if show:
        open_in_browser(written[0].resolve().as_uri(), wait=True)
