"""`imgclf verify`: are the mobile files what the model is? Imports nothing heavy to show its help."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from imgclf.cli.addresses import PLACE, Here, echo
from imgclf.cli.main import common_options


@click.command(short_help="Compare mobile files with the model on the phone's own runtimes.")
@click.argument("model", type=PLACE)
@click.option("--data", type=PLACE,
              help="Labelled images to compare on.  [default: the test part of the run]")  # fmt: skip
@click.option("--labels", type=Here(), help="Class names, one a line, of a file without them.")
@click.option("--max-drop", type=click.FloatRange(0, 100), default=1.0, show_default=True,
              help="Points of accuracy that a file may lose.")  # fmt: skip
@click.option("--min-agreement", type=click.FloatRange(0, 100),
              help="Percentage of images with the same top class.  [default: each format's own]")  # fmt: skip
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@common_options
def command(
    model: Path, data: Path | None, labels: Path | None, max_drop: float, min_agreement: float | None, output: str
) -> None:  # fmt: skip
    """Run MODEL, a run folder or a .tflite file, over images by Keras, LiteRT and MediaPipe, and compare the answers.

    The exit code is 1 where a bound is broken. For a .tflite file TensorFlow is not needed: what Keras said of the test
    images stands in the run folder.
    """
    from imgclf.checking import verify_model
    from imgclf.errors import CheckFailed
    from imgclf.storage.mirror import verifying

    agreed = None if min_agreement is None else min_agreement / 100
    with verifying(model) as here:
        rows = verify_model(here, data, labels, max_drop=max_drop / 100, min_agreement=agreed)
    if output == "json":
        from imgclf.export.results import to_json

        click.echo(json.dumps([to_json(row) for row in rows], indent=2, ensure_ascii=False))
    else:
        print_rows(rows)
    broken = [row for row in rows if row.faults]
    if broken:
        raise CheckFailed(f"{broken[0].path.name}: {broken[0].faults[0]}")


HEADER = ("file", "size", "input", "one image", "runtime", "images", "same answer", "mean and largest difference",
          "accuracy (95 %)", "change")  # fmt: skip


def print_rows(rows: Sequence[Any], budget: str | None = None) -> None:
    """A table of files and runtimes, what there is to say of them, and which to ship."""
    from imgclf.export.results import Budget, to_json, to_ship

    lines: list[tuple[str, ...]] = [HEADER]
    for row in rows:
        first: tuple[str, ...] = (row.path.name, f"{row.bytes / 1e6:.2f} MB", row.input, f"{row.milliseconds:.1f} ms")
        for runtime, found in (("LiteRT", row.litert), ("MediaPipe", row.mediapipe)):
            if found is None:
                continue
            change = f"{-found.drop * 100:+.1f} (p {found.p:.2f})" if found.drop else "0.0"
            lines.append((*first, runtime, str(found.n), f"{found.agreement:.1%}",
                          f"{found.mean_difference:.2g}, {found.max_difference:.2g}",
                          f"{found.accuracy:.3f} ({found.low:.3f} to {found.high:.3f})", change))  # fmt: skip
            first = ("", "", "", "")
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADER))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        for note in row.notes:
            click.echo(f"{row.path.name}: {note}")
        for fault in row.faults:
            click.echo(f"{row.path.name}: NOT to be shipped: {fault}")
    best = to_ship({row.format: to_json(row) for row in rows}, Budget.parse(budget) if budget is not None else None)
    for row in rows:
        if row.format == best:
            echo(f"ship {row.path}")
