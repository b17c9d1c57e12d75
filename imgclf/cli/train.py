"""`imgclf train`: parses the settings, calls the pipeline, prints what came out. Its help is fast."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from imgclf.cli.addresses import PLACE, echo
from imgclf.cli.engine import engine_options
from imgclf.cli.main import common_options
from imgclf.cli.settings import given_settings, setting_options
from imgclf.config import TrainConfig
from imgclf.storage.naming import told
from imgclf.storage.places import place
from imgclf.storage.places import shown as shown_argument


class Grouped(click.Command):
    """Shows the options by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options below the titles of their groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        homes = {spec.name: spec.group for spec in TrainConfig.describe()}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(homes.get(param.name or "", "Run"), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


@click.command(cls=Grouped, short_help="Train on a folder of labelled images.")
@click.argument("data", type=PLACE, required=False)
@click.option("--out", type=PLACE, help="Run folder to make, here or at an address.  [default: runs/NAME]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run at --out.")
@click.option("--resume", type=PLACE, help="Go on with an interrupted run; takes nothing else.")
@click.option("--config", type=PLACE, help="Settings of a config.json; options go before them.")
@setting_options()
@common_options
@engine_options
def command(
    data: Path | None, out: Path | None, overwrite: bool, resume: Path | None, config: Path | None, **options: Any
) -> None:
    """Train a classifier on DATA, a folder with one folder of images per class.

    DATA may also hold train/, val/ and test/ folders of class folders, or be an archive (.zip, .tar) of all that,
    shards (.parquet, .tar), or a table (.csv) of paths and labels; here or at an address (s3://BUCKET/FOLDER,
    https://.../x.zip). Nothing in it is touched. The run folder gets the model, its measures on the test images, mobile
    files that are proven to behave like it, and report.html.
    """
    from imgclf import runs
    from imgclf.continuing import read_settings
    from imgclf.data.sources import run_name
    from imgclf.errors import InputError
    from imgclf.pipeline import resume_folder, train_folder

    given = given_settings(options)
    if resume is not None:
        if given or data or out or overwrite or config:
            raise InputError("--resume goes on with the images and settings of the run", "leave everything else out")
        print_outcome(resume_folder(resume))
        return
    settings = TrainConfig().replace(**{**(read_settings(config) if config else {}), **given})
    named = data or (place(settings.from_run) if settings.from_run else None)
    root = out or runs.free_folder(run_name(named, settings.csv))
    shown = shlex.join(["imgclf", *map(shown_argument, sys.argv[1:])])
    outcome = train_folder(data, root, settings, overwrite=overwrite, command=shown)
    print_outcome(outcome)


def print_outcome(outcome: Any) -> None:
    """What a training made, on stdout."""
    metrics, root = outcome.evaluation.metrics, outcome.run.root
    right = round(metrics.accuracy * metrics.n)
    tested = f"{outcome.folds} folds, {metrics.n} images" if outcome.folds else f"{metrics.n} test images"
    echo(
        f"accuracy {metrics.accuracy:.3f} on {tested} ({right} right), "
        f"95 % interval {metrics.accuracy_low:.3f} to {metrics.accuracy_high:.3f}; macro F1 {metrics.macro_f1:.3f}"
    )
    for line in _trust(outcome.run):
        echo(line)
    echo(f"  model    {root / 'model.keras'}")
    for row in outcome.exports:
        echo(f"  {row.format:<8} {row}")
    echo(f"  report   {root / 'report.html'}")
    model = outcome.exports[-1].path if outcome.exports else root
    echo(f"next: imgclf predict {shlex.quote(told(str(model)))} YOUR_PHOTO.jpg")


def _trust(run: Any) -> Iterator[str]:
    """What calibration.json says of the test images, a line each."""
    from imgclf import runs

    facts = runs.read_json(run / runs.CALIBRATION) if (run / runs.CALIBRATION).is_file() else {}
    if "test" in facts:
        yield (f"calibration error {facts['test']['ece_after']:.3f} on them ({facts['test']['ece_before']:.3f} before "
               f"its temperature of {facts['temperature']:.2f})")  # fmt: skip
    if "test" in facts.get("unknown", {}):
        tested, strange = facts["unknown"]["test"], facts["unknown"].get("strange")
        yield f"unknown: {_share(tested, tested['n'] - tested['known'])} test images are called so"
        if strange:
            yield (f"unknown: {_share(strange, strange['rejected'])} images in _unknown are, 95 % interval "
                   f"{strange['low']:.3f} to {strange['high']:.3f}")  # fmt: skip


def _share(counted: dict[str, Any], number: int) -> str:
    return f"{number} of {counted['n']}"
