"""The `imgclf` command: groups, errors, exit codes. May import click and errors; commands are loaded when used."""

import atexit
import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from imgclf import __version__
from imgclf.errors import ImgclfError
from imgclf.interrupts import heeded
from imgclf.progress import printable

# What people want to do -> command -> (module with a click command named `command`, one line of help).
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Make a classifier": {
        "train": ("imgclf.cli.train", "Train on a folder of labelled images: model, measure, mobile files, report."),
        "tune": ("imgclf.cli.tune", "Search the network and settings that suit the images, and train the winner."),
        "evaluate": ("imgclf.cli.evaluate", "Measure a model on labelled images."),
        "compare": ("imgclf.cli.compare", "Compare runs on the same images: won, lost, and whether it may be chance."),
        "report": ("imgclf.cli.report", "Write the report and the model card of a run again."),
        "predict": ("imgclf.cli.predict", "Classify images with a run or a model file."),
    },
    "Put it on a phone": {
        "export": ("imgclf.cli.export", "Write mobile files of a run and prove them."),
        "verify": ("imgclf.cli.verify", "Compare mobile files with the model on the phone's own runtimes."),
        "demo": ("imgclf.cli.demo", "Try the mobile file in the browser, on photos or the camera."),
        "bench": ("imgclf.cli.bench", "Size, speed and memory of mobile files."),
        "metadata": ("imgclf.cli.metadata", "What a .tflite file says of itself: look, or add it."),
    },
    "Use it at scale": {
        "serve": ("imgclf.cli.serve", "Answer requests with a model, over HTTP."),
    },
    "Look at data and networks": {
        "check": ("imgclf.cli.check", "Find what is wrong with a folder of images, before it costs a training."),
        "data": ("imgclf.cli.data", "Unpack images, split them, see what a training would see."),
        "review": ("imgclf.cli.review", "Go through likely label errors on a local page."),
        "explain": ("imgclf.cli.explain", "See where a model looks, or into its layers."),
        "similar": ("imgclf.cli.similar", "The training images that a run finds most like an image."),
        "weights": ("imgclf.cli.weights", "ImageNet weights: what is in the cache, and fetching more."),
        "backbones": ("imgclf.cli.backbones", "The networks to start from."),
        "cache": ("imgclf.cli.cache", "What is kept to make the next run fast: look, or clear."),
    },
}

TABLE = {name: entry for group in COMMANDS.values() for name, entry in group.items()}


class _Commands(click.Group):
    """Loads a command's module when it is called, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in TABLE:
            return None
        command: click.Command = import_module(TABLE[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="imgclf")
def main() -> None:
    """A folder of labelled images in, a measured classifier and proven mobile files out.

    \b
    imgclf train photos --out runs/first
    imgclf predict runs/first new/*.jpg
    """  # noqa: D301 (click wants the backspace itself)


def run(arguments: Sequence[str] | None = None) -> None:
    """The console script: runs a command and turns errors into one line and the right exit code."""
    debug = "--debug" in (sys.argv if arguments is None else arguments)
    try:
        with heeded():
            code = main.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "imgclf"
        _fail(f"{error.format_message().rstrip('.')}; see `{path} --help`")
        code = 2
    except click.ClickException as error:
        _fail(error.format_message())
        code = 2
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted")
        code = 130
    except BrokenPipeError:  # `imgclf ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except ImgclfError as error:
        if debug:
            raise
        _fail(str(error))
        code = error.exit_code
    except OSError as error:  # a path too long, a disk that is full: not foreseen where it happened
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}; check the path, the disk and your rights to it")
        code = 3 if error.errno in (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EFBIG) else 2
    except Exception as error:
        if debug:
            raise
        reason = " ".join(str(error).split())[:300]
        _fail(f"{type(error).__name__}: {reason}; this is a bug in imgclf: please report it with what --debug prints")
        code = 1
    code = code if isinstance(code, int) else 0
    if arguments is None:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> None:
    """End a process that has TensorFlow in it: taking it apart piece by piece would take a second."""
    if "tensorflow" not in sys.modules:
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _fail(text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(f"error: {printable(text)}", err=True)


def common_options(command: Any) -> Any:
    """--quiet and --debug, which every command has."""

    def quieten(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            from imgclf.progress import set_quiet

            set_quiet(True)

    command = click.option("--quiet", is_flag=True, expose_value=False, callback=quieten,
                           help="No progress on stderr; warnings stay.")(command)  # fmt: skip
    return click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")(command)
