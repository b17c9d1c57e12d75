"""`imgclf train`: parses the settings, calls the pipeline, prints what came out. Its help is fast."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from imgclf.cli.main import common_options
from imgclf.config import Setting, TrainConfig


class _Grouped(click.Command):
    """Shows the options by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        homes = {spec.name: spec.group for spec in TrainConfig.describe()}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(homes.get(param.name or "", "Run"), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def setting_options(function: Callable[..., None]) -> Callable[..., None]:
    """One option per row of TrainConfig; an option that is not given is absent from the settings."""
    for spec in reversed(TrainConfig.describe()):
        function = _option(spec)(function)
    return function


def _option(spec: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    default = f"default: {_shown_default(spec)}"
    limits = f"{spec.limits}; " if spec.limits is not None else ""
    text = f"{spec.help}  [{limits}{default}]"
    if spec.kind is bool:
        return click.option(f"{spec.option}/--no-{spec.option[2:]}", spec.name, default=None, help=text)
    kind: Any = {int: int, float: float}.get(spec.kind, str)
    metavar = "|".join(spec.choices) if spec.choices and spec.kind is not tuple else None
    if spec.kind is tuple:
        metavar = ",".join(spec.choices)
    return click.option(spec.option, spec.name, type=kind, default=None, metavar=metavar, help=text)


def _shown_default(spec: Setting) -> str:
    if spec.auto:
        return spec.auto
    if isinstance(spec.default, tuple):
        return ",".join(spec.default)
    return {True: "on", False: "off"}.get(spec.default, spec.default) if spec.kind is bool else str(spec.default)


@click.command(cls=_Grouped, short_help="Train on a folder of labelled images.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Run folder to make.  [default: runs/NAME]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run at --out.")
@click.option("--config", type=click.Path(path_type=Path), help="Settings of a config.json; options go before them.")
@setting_options
@common_options
def command(data: Path, out: Path | None, overwrite: bool, config: Path | None, **options: Any) -> None:
    """Train a classifier on DATA, a folder with one folder of images per class.

    DATA may also hold train/, val/ and test/ folders of class folders. Nothing in it is touched. The run folder gets
    the model, its measures on the test images, mobile files that are proven to behave like it, and report.html.
    """
    from imgclf import runs
    from imgclf.pipeline import read_settings, train_folder

    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(given.get("formats"), str):
        given["formats"] = tuple(item.strip() for item in given["formats"].split(",") if item.strip())
    settings = TrainConfig().replace(**{**(read_settings(config) if config else {}), **given})
    root = out or runs.free_folder(data.resolve().name)
    shown = shlex.join(["imgclf", *sys.argv[1:]])
    outcome = train_folder(data, root, settings, overwrite=overwrite, command=shown)
    _print(outcome)


def _print(outcome: Any) -> None:
    metrics, root = outcome.evaluation.metrics, outcome.run.root
    right = round(metrics.accuracy * metrics.n)
    click.echo(
        f"accuracy {metrics.accuracy:.3f} on {metrics.n} test images ({right} right), "
        f"95 % interval {metrics.accuracy_low:.3f} to {metrics.accuracy_high:.3f}; macro F1 {metrics.macro_f1:.3f}"
    )
    click.echo(f"  model    {root / 'model.keras'}")
    for row in outcome.exports:
        click.echo(f"  {row.format:<8} {row}")
    click.echo(f"  report   {root / 'report.html'}")
    model = outcome.exports[-1].path if outcome.exports else root
    click.echo(f"next: imgclf predict {shlex.quote(str(model))} YOUR_PHOTO.jpg")
