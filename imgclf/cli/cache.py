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
    from imgclf.cachedir import UNPACKED, cache_folder, used_bytes
    from imgclf.cut.room import LIMIT_VARIABLE, limit_bytes, usage
    from imgclf.storage import bytecache

    spaces, folder = usage(), cache_folder()
    total, remote = used_bytes(folder), bytecache.used_bytes()
    unpacked = sum(used_bytes(folder / name) for name in UNPACKED)
    if form == "json":
        rows = [{"what": item.what, "readings": item.rows, "bytes": item.bytes, "used": round(item.used)}
                for item in spaces]  # fmt: skip
        click.echo(json.dumps({"folder": str(folder), "bytes": total, "limit": limit_bytes(), "activations": rows,
                               "remote": {"bytes": remote, "limit": bytecache.limit_bytes()},
                               "unpacked": unpacked}))  # fmt: skip
        return
    for item in spaces:
        click.echo(f"{item.bytes / 1e6:>9.1f} MB  {item.rows:>8} readings  {item.what}")
    activations = sum(item.bytes for item in spaces)
    click.echo(f"{total / 1e6:.1f} MB in {folder}; activations {activations / 1e6:.1f} MB of at most "
               f"{limit_bytes() / 1e6:.0f} MB ({LIMIT_VARIABLE} sets that)")  # fmt: skip
    click.echo(f"images and archives of other places {remote / 1e6:.1f} MB of at most "
               f"{bytecache.limit_bytes() / 1e6:.0f} MB ({bytecache.LIMIT_VARIABLE} sets that)")  # fmt: skip
    if unpacked:
        click.echo(f"images out of archives and shards {unpacked / 1e6:.1f} MB (`imgclf cache clear --unpacked`)")


@command.command()
@click.option("--unpacked", is_flag=True, help="Also images out of archives and shards; runs made of them need them.")
@common_options
def clear(unpacked: bool) -> None:
    """Remove all activations, and what was read from other places; the next training computes and reads it again."""
    from imgclf.cachedir import UNPACKED, cache_folder, remove
    from imgclf.cut.room import clear
    from imgclf.storage import bytecache

    freed = clear() + bytecache.clear()
    if unpacked:
        freed += sum(remove(cache_folder() / name) for name in UNPACKED)
    click.echo(f"{freed / 1e6:.1f} MB freed")
