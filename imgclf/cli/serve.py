"""`imgclf serve`: a model behind HTTP. Imports nothing heavy to show its help."""

from pathlib import Path

import click

from imgclf.cli.addresses import ANSWERING
from imgclf.cli.main import common_options


@click.command(short_help="Answer requests with a model, over HTTP.")
@click.argument("model", type=ANSWERING)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; there is no password.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes any free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that decode images.  [default: one a core]")
@click.option("--max-upload", default="20MB", show_default=True, help="Largest request.")
@click.option("--batch", type=click.IntRange(1, 256), default=16, show_default=True, help="Images computed at once.")
@click.option("--batch-wait", type=click.FloatRange(0, 1000), default=3.0, show_default=True, metavar="MS",
              help="Milliseconds to wait for images that are being decoded, to compute them together.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=30.0, show_default=True, metavar="S",
              help="Seconds that a request may take to arrive, and an image to be decoded.")  # fmt: skip
@click.option("--verbose", is_flag=True, help="A line on stderr for each request.")
@common_options
def command(
    model: Path, host: str, port: int, workers: int | None, max_upload: str, batch: int, batch_wait: float,
    timeout: float, verbose: bool,
) -> None:  # fmt: skip
    """Classify images that are sent to this computer over HTTP with MODEL: a run folder, a .keras or a .tflite file.

    Answers what `imgclf predict` answers. POST /predict takes an image, or several in a form; GET /health, /metrics
    (Prometheus) and /docs say more. Needs pip install 'imgclf[serve]'. End with Ctrl-C.
    """
    from imgclf.serving.settings import Settings, parse_size
    from imgclf.serving.start import serve
    from imgclf.workers.parallel import cpu_count

    settings = Settings(
        host, port, workers or cpu_count(), parse_size(max_upload), batch, batch_wait / 1000, timeout, verbose
    )
    raise click.exceptions.Exit(serve(model, settings, click.echo))
