"""`imgclf export`: writes and proves mobile files of a run. Imports nothing heavy to show its help."""

from pathlib import Path

import click

from imgclf.cli.addresses import PLACE, echo
from imgclf.cli.main import common_options
from imgclf.config import FORMATS

ALL = "all"


@click.command(short_help="Write mobile files of a run and prove them.")
@click.argument("run", type=PLACE)
@click.option("--formats", default="",
              help=f"Which, separated by commas: {', '.join(FORMATS)}, savedmodel, onnx, openvino, web; or {ALL}.  "
                   f"[default: float16,int8; with --budget {ALL}]")  # fmt: skip
@click.option("--budget", help="What the file to ship may cost, such as size=4MB,ms=20 (on one thread here).")
@click.option("--calibration-images", type=click.IntRange(1, 100_000), default=200, show_default=True,
              help="Training images that 8-bit files are made with.")  # fmt: skip
@click.option("--max-drop", type=click.FloatRange(0, 100), default=1.0, show_default=True,
              help="Points of accuracy that an 8-bit file may lose.")  # fmt: skip
@click.option("--min-agreement", type=click.FloatRange(0, 100),
              help="Percentage of images with the same top class as Keras.  [default: each format's own]")  # fmt: skip
@click.option("--unknown", is_flag=True, help="Let the model call an image unknown that is like none of the training.")
@click.option("--coverage", type=click.FloatRange(50, 100), default=95.0, show_default=True,
              help="With --unknown: percentage of the validation images that must stay known.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit with 1 where an 8-bit file costs too much.")
@common_options
def command(
    run: Path, formats: str, budget: str | None, calibration_images: int, max_drop: float,
    min_agreement: float | None, unknown: bool, coverage: float, strict: bool,
) -> None:  # fmt: skip
    """Write the mobile files of RUN into RUN/exports and compare each with the Keras model on the test images.

    Every file is run by LiteRT, and by MediaPipe where it is installed (pip install 'imgclf[verify]'). An 8-bit file
    that loses too much is made again with more care; where that does not help it is kept out, in exports/refused.
    Besides .tflite files: savedmodel, onnx and openvino, as Keras writes them, and web, a page that runs the file to
    ship in any browser (it holds ten test images; `imgclf demo RUN` shows it).
    """
    from imgclf.classifier import load
    from imgclf.cli.verify import print_rows
    from imgclf.errors import InputError
    from imgclf.export.others import OTHERS, require_installed
    from imgclf.export.web import WEB
    from imgclf.storage.mirror import writing

    names = FORMATS if formats.strip() == ALL else tuple(name.strip() for name in formats.split(",") if name.strip())
    others, web = tuple(name for name in names if name in OTHERS), WEB in names
    names = tuple(name for name in names if name not in (*OTHERS, WEB))
    strange = [name for name in names if name not in FORMATS]
    if strange:
        raise InputError(f"--formats is {strange[0]!r}", f"expected some of {', '.join((*FORMATS, *OTHERS, WEB, ALL))}")
    require_installed(others)
    with writing(run) as root:
        classifier = load(root)
        for path in classifier.export_others(*others):
            echo(f"{path} (as Keras writes it; only .tflite files are proven)")
        if unknown or names or not (others or (web and classifier.is_exported)):
            rows = classifier.export(
                *names, calibration_images=calibration_images, max_drop=max_drop / 100,
                min_agreement=None if min_agreement is None else min_agreement / 100, strict=strict,
                budget=budget, unknown=coverage / 100 if unknown else None,
            )  # fmt: skip
            print_rows(rows, budget)
        if web:
            folder = classifier.export_web()
            echo(f"{folder} (for any web server; here: imgclf demo {run})")
