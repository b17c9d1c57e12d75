"""`--engine` and `--address`: where per-image work is done. Imports nothing heavy; Ray only when it is asked for."""

import functools
from typing import Any

import click

OPTIONS = (
    click.option(
        "--address",
        metavar="ADDRESS",
        help="Ray cluster: auto (of this machine), HOST:PORT or ray://HOST:PORT.  [default: a new one on this machine]",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where images are read and computed: processes of this machine, or a Ray cluster.",
    ),
)


def engine_options(command: Any) -> Any:
    """Give a command the two options; its body runs with the engine that they name."""

    @functools.wraps(command)
    def wrapped(*args: Any, engine: str, address: str | None, **options: Any) -> Any:
        if engine == "local":
            if address is not None:
                from imgclf.errors import InputError

                raise InputError("--address names a Ray cluster", "add --engine ray")
            return command(*args, **options)
        from imgclf.progress import say
        from imgclf.workers.on_ray import connected
        from imgclf.workers.parallel import done_by

        with connected(address) as cluster, done_by(cluster):
            say(str(cluster))
            return command(*args, **options)

    for option in OPTIONS:
        wrapped = option(wrapped)
    return wrapped
