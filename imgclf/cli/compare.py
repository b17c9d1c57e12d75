"""`imgclf compare`: models on the same images, image by image. Imports nothing heavy to show its help."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgclf.cli.addresses import MEASURED, PLACE, Here, echo
from imgclf.cli.check import PAGE_MARK
from imgclf.cli.main import common_options
from imgclf.progress import plural, printable

if TYPE_CHECKING:
    from imgclf.evaluation.compare import Comparison, Scored

SHOWN_FLIPS = 20  # of each model; the page and --format json have all
CHANCE = 0.05


@click.command(short_help="Compare runs on the same images.")
@click.argument("models", metavar="RUN1 RUN2 [RUN3 ...]", nargs=-1, required=True, type=MEASURED)
@click.option("--data", type=PLACE, help="Labelled images to run the models on.")
@click.option("--html", type=Here(dir_okay=False), help="Write a page with the flipped images.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@common_options
def command(models: tuple[Path, ...], data: Path | None, html: Path | None, output: str) -> None:
    """Compare runs with the first one, the baseline, on the test images that all of them have.

    What was won and lost is counted image by image, and McNemar's exact test says whether it may be chance. With
    --data the models are run on other images; then model files (.tflite, .keras) can be compared too.
    """
    from imgclf.comparing import compare_models
    from imgclf.runs import require_own

    if html is not None:
        require_own(html, PAGE_MARK)
    found = compare_models(models, data)
    if html is not None:
        from imgclf.report.compare_page import write_compare_page

        write_compare_page(found, html)
    if output == "json":
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    for line in _lines(found):
        echo(printable(line))
    if html is not None:
        click.echo(f"page: {html}")


def _lines(found: "Comparison") -> Iterator[str]:
    if found.same:
        yield f"{plural(found.n, 'test image')}, the same for all"
    else:
        parts = ", ".join(f"{total} of {model.name}" for model, total in zip(found.models, found.totals, strict=True))
        yield f"{plural(found.n, 'image')} that all have in their test part ({parts})"
    if found.relabelled:
        yield f"{plural(found.relabelled, 'image')} left out: not every model was told the same class"
    width = max(5, *(len(printable(model.name)) for model in found.models))
    yield ""
    yield f"{'model':{width}}  accuracy      right  95 % interval   won  lost  McNemar p"
    for model in found.models:
        change = model.change
        counted = "  (baseline)" if change is None else f"  {change.won:4}  {change.lost:4}  {change.p:9.3g}"
        yield (f"{printable(model.name):{width}}  {model.accuracy:8.3f}  {model.correct:9}  {model.low:.3f} to "
               f"{model.high:.3f}{counted}")  # fmt: skip
    yield ""
    yield from (f"{printable(model.name)}: {verdict(model)}" for model in found.models if model.change)
    if len(found.models) > 2:
        yield "Of several comparisons one passes for more than chance more easily: each p is of that one alone."
    yield ""
    yield from _recalls(found)
    for model in found.models:
        if model.change is not None:
            yield ""
            yield from _flips(found.models[0], model)


def verdict(model: "Scored") -> str:
    """In words, whether a model is better than the baseline."""
    assert model.change is not None
    difference = model.change.won - model.change.lost
    if difference == 0:
        return "as many right as the baseline"
    words = f"{plural(abs(difference), 'image')} {'more' if difference > 0 else 'fewer'} right than the baseline"
    if model.change.p < CHANCE:
        return f"{words}, hardly by chance (p = {model.change.p:.2g})"
    return f"{words}, which may be chance (p = {model.change.p:.2g})"


def _recalls(found: "Comparison") -> Iterator[str]:
    names = [printable(model.name) for model in found.models]
    label_width = max(5, *(len(printable(label)) for label in found.supports))
    yield f"{'recall':{label_width}}  images  " + "  ".join(f"{name:>5}" for name in names)
    for label, n in found.supports.items():
        cells = (f"{model.found[label] / n:{max(5, len(name))}.3f}" for name, model in
                 zip(names, found.models, strict=True))  # fmt: skip
        yield f"{printable(label):{label_width}}  {n:6}  " + "  ".join(cells)


def _flips(baseline: "Scored", model: "Scored") -> Iterator[str]:
    if not model.flips:
        yield f"{model.name}: every image as {baseline.name} has it"
        return
    yield f"{model.name}: {plural(len(model.flips), 'image')} with another answer than {baseline.name}'s"
    for flip in model.flips[:SHOWN_FLIPS]:
        truly = f" (truly {flip.label})" if flip.kind == "changed" else ""
        yield f"  {flip.kind:7}  {flip.before} -> {flip.after}{truly}  {flip.shown}"
    if len(model.flips) > SHOWN_FLIPS:
        yield f"  ... and {len(model.flips) - SHOWN_FLIPS} more; --html or --format json has all"
