"""`imgclf tune`: parses the settings, calls the search, prints the front and the winner. Its help is fast."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from imgclf.cli.addresses import PLACE, Here
from imgclf.cli.engine import engine_options
from imgclf.cli.main import common_options
from imgclf.cli.settings import given_settings, setting_options
from imgclf.cli.train import Grouped, print_outcome
from imgclf.config import NOT_SEARCHED, TrainConfig
from imgclf.storage.places import shown as shown_argument

PREFERENCES = ("accuracy", "size", "latency")


@click.command(cls=Grouped, short_help="Search the network and settings that suit the images.")
@click.argument("data", type=PLACE, required=False)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, metavar="N",
              help="How many short trainings, those of an interrupted search included.")  # fmt: skip
@click.option(
    "--time-budget", metavar="TIME", help="Time for the trials, such as 90s, 10m or 1h30m.  [default: no limit]"
)
@click.option("--prefer", type=click.Choice(PREFERENCES), default="accuracy", show_default=True,
              help="Which trial wins: accuracy takes the smallest of those within one standard error of the best, size "
              "and latency the smallest or fastest within its 95 % interval.")  # fmt: skip
@click.option("--no-train", is_flag=True, help="Do not train the winner in full.")
@click.option("--out", type=Here(), help="Folder of the search.  [default: runs/NAME-tune]")
@click.option("--resume", is_flag=True, help="Go on with a search that is finished; an interrupted one goes on anyway.")
@click.option("--overwrite", is_flag=True, help="Begin anew where an earlier search is.")
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@setting_options(without=NOT_SEARCHED)
@common_options
@engine_options
def command(
    data: Path | None, trials: int, time_budget: str | None, prefer: str, no_train: bool, out: Path | None,
    resume: bool, overwrite: bool, output: str, **options: Any,
) -> None:  # fmt: skip
    """Search the network, image size, learning rates, fine-tuned blocks and augmentation that suit DATA.

    Every setting that is given is kept, the others are searched by short trainings that look at the validation images
    only. The folder gets all trials (study.db, trials.csv), tune.html with the front of accuracy, size and latency, and
    the winner, trained in full, in best/. A search that was interrupted goes on with the same command. On a Ray cluster
    each machine does one trial at a time.
    """
    from imgclf.data.sources import run_name
    from imgclf.errors import InputError
    from imgclf.progress import parse_duration
    from imgclf.tuning import Options, default_folder, tune_folder

    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other", "leave one of the two out")
    settings = TrainConfig().replace(**given_settings(options))
    seconds = None if time_budget is None else parse_duration(time_budget)
    root = out or default_folder(run_name(data, settings.csv), finished=resume)
    shown = shlex.join(["imgclf", *map(shown_argument, sys.argv[1:])])
    wanted = Options(trials, seconds, prefer, not no_train, overwrite, resume)
    tuned = tune_folder(data, root, settings, wanted, command=shown)
    if output == "json":
        click.echo(json.dumps(_json(tuned), indent=2))
        return
    for line in _lines(tuned):
        click.echo(line)
    if tuned.outcome is not None:
        print_outcome(tuned.outcome)


def _lines(tuned: Any) -> list[str]:
    """The front as a table, and the winner."""
    from imgclf.progress import plural

    states = [row.state for row in tuned.rows]
    counts = [f"{states.count(state)} {word}" for state, word in (("pruned", "ended early"), ("failed", "failed"))
              if state in states]  # fmt: skip
    ended = f" ({', '.join(counts)})" if counts else ""
    lines = [
        f"{plural(len(states), 'trial')}{ended}; no other is better in accuracy, size and speed at once than "
        f"{'this' if len(tuned.front) == 1 else 'these'}, on {tuned.front[0].n} validation images:",
        "  trial  accuracy  95 % interval       MB      ms  settings",
    ]
    for row in tuned.front:
        low, high = row.interval
        lines.append(f"  {row.number:>5}  {row.accuracy:>8.3f}  {low:.3f} to {high:.3f}  {row.megabytes:>6.2f}  "
                     f"{row.milliseconds:>6.2f}  {row}")  # fmt: skip
    winner = tuned.choice.winner
    lines.append(f"winner: trial {winner.number}, {tuned.choice.why}")
    lines.append(f"  page     {tuned.run / 'tune.html'}")
    return lines


def _json(tuned: Any) -> dict[str, Any]:
    from imgclf import runs

    metrics = tuned.best / runs.METRICS
    return {
        "folder": str(tuned.run.root),
        "trials": [row.to_json() for row in tuned.rows],
        "front": [row.number for row in tuned.front],
        "winner": tuned.choice.winner.number,
        "why": tuned.choice.why,
        "best": str(tuned.best.root) if metrics.is_file() else None,
        "test": runs.read_json(metrics) if metrics.is_file() else None,
    }
