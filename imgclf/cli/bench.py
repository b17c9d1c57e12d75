"""`imgclf bench`: size, speed and memory of mobile files. Imports nothing heavy to show its help."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from imgclf.cli.addresses import PLACE, PROVEN, echo
from imgclf.cli.main import common_options
from imgclf.storage.naming import told


@click.command(short_help="Size, speed and memory of mobile files.")
@click.argument("models", nargs=-1, required=True, type=PROVEN)
@click.option("--data", type=PLACE, help="Labelled images to measure the accuracy on.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--adb", is_flag=True, help="Measure on the attached Android phone too.")
@click.option("--adb-binary", type=click.Path(path_type=Path),
              help="LiteRT's benchmark_model for Android.  [default: the one on the phone]")  # fmt: skip
@common_options
def command(models: tuple[Path, ...], data: Path | None, output: str, adb: bool, adb_binary: Path | None) -> None:
    """Measure MODELS, run folders or .tflite files, by LiteRT on this computer: one image at a time.

    Threads 1, 2 and 4 with XNNPACK, LiteRT's fast kernels, and one thread without it. Phones differ: --adb asks one.
    """
    from imgclf.checking import bench_models
    from imgclf.export.android import on_phone
    from imgclf.export.bench import slower_though_smaller

    rows = bench_models(models, data)
    phone = {row.path: on_phone(row.path, adb_binary, 1) for row in rows} if adb or adb_binary else {}
    if output == "json":
        found = [{**asdict(row), "path": told(str(row.path)), "phone": phone.get(row.path)} for row in rows]
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    _table(rows, phone)
    for line in slower_though_smaller(rows):
        echo(line)


def _table(rows: list[Any], phone: dict[Path, float]) -> None:
    threads = sorted(count for count in rows[0].latency if count)
    by_threads = [f"{count} thread{'s' if count > 1 else ''} (p95)" for count in threads]
    lines = [["file", "size", "numbers", "load", *by_threads, "without XNNPACK", "memory", "accuracy",
              *(["phone"] if phone else [])]]  # fmt: skip
    for row in rows:
        lines.append([
            row.path.name, f"{row.bytes / 1e6:.2f} MB", f"{row.parameters / 1e6:.2f} M", f"{row.load:.0f} ms",
            *(f"{row.latency[count].median:.1f} ms ({row.latency[count].p95:.1f})" for count in threads),
            f"{row.latency[0].median:.1f} ms", f"{row.memory / 1e6:.0f} MB",
            "" if row.accuracy is None else f"{row.accuracy:.3f}",
            *([f"{phone[row.path]:.1f} ms"] if phone else []),
        ])  # fmt: skip
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
