"""`imgclf cache`: what is kept to make the next run fast. Its help is fast."""

import json

import click

from imgclf.cli.main import common_options


@click.group(short_help="What is kept to make the next run fast: look, or clear.")
def command() -> None:
    """Activations of frozen networks, what is known of images, images of other places: all can be had again."""


@command.command()
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@common_options
def info(form: str) -> None:
    """Show where the cache is and what takes how much room, the longest unused first."""
    from imgclf import bytecache
    from imgclf.cachedir import cache_folder
    from imgclf.cut.room import LIMIT_VARIABLE, limit_bytes, usage

    spaces, folder = usage(), cache_folder()
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    remote = bytecache.used_bytes()
    if form == "json":
        rows = [{"what": item.what, "readings": item.rows, "bytes": item.bytes, "used": round(item.used)}
                for item in spaces]  # fmt: skip
        click.echo(json.dumps({"folder": str(folder), "bytes": total, "limit": limit_bytes(), "activations": rows,
                               "remote": {"bytes": remote, "limit": bytecache.limit_bytes()}}))  # fmt: skip
        return
    for item in spaces:
        click.echo(f"{item.bytes / 1e6:>9.1f} MB  {item.rows:>8} readings  {item.what}")
    activations = sum(item.bytes for item in spaces)
    click.echo(f"{total / 1e6:.1f} MB in {folder}; activations {activations / 1e6:.1f} MB of at most "
               f"{limit_bytes() / 1e6:.0f} MB ({LIMIT_VARIABLE} sets that)")  # fmt: skip
    click.echo(f"images and archives of other places {remote / 1e6:.1f} MB of at most "
               f"{bytecache.limit_bytes() / 1e6:.0f} MB ({bytecache.LIMIT_VARIABLE} sets that)")  # fmt: skip


@command.command()
@common_options
def clear() -> None:
    """Remove all activations, and what was read from other places; the next training computes and reads it again."""
    from imgclf import bytecache
    from imgclf.cut.room import clear

    click.echo(f"{(clear() + bytecache.clear()) / 1e6:.1f} MB freed")
