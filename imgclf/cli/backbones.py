"""`imgclf backbones`: the networks to start from. `list` never imports TensorFlow."""

from pathlib import Path
from typing import Any

import click

from imgclf.cli.main import common_options


@click.group(short_help="The networks to start from.")
def command() -> None:
    """The networks that a training can start from."""


@command.command("list")
@common_options
def list_() -> None:
    """Print the table of networks: with ImageNet weights, and from scratch."""
    from imgclf.models.backbones import table

    for title, rows in table().items():
        click.echo(f"{title}:")
        click.echo(_aligned([tuple(rows[0]), *(tuple(str(value) for value in row.values()) for row in rows)]) + "\n")
    click.echo("Every network of the first table is trained from scratch with --weights none; vgg16 is one of them.\n"
               "A network of your own: --backbone package.module:build")  # fmt: skip


@command.command()
@click.argument("name")
@click.option("--all", "every", is_flag=True, help="Every layer, not only those where the network can be cut.")
@click.option("--image-size", type=click.IntRange(16, 2048), help="Side in pixels.  [default: the network's own]")
@click.option("--alpha", type=float, help="Width of MobileNets.")
@common_options
def show(name: str, every: bool, image_size: int | None, alpha: float | None) -> None:
    """Print what is known of NAME, a network of the list or a run folder, and its layers.

    A layer's row counts the weights and multiply-adds since the row above it. The names serve --unfreeze and
    --truncate-at.
    """
    from imgclf import runs
    from imgclf.noise import import_tensorflow

    if (Path(name) / runs.MODEL).is_file():
        import_tensorflow()
        from imgclf.models.files import load_keras_model

        _print_layers(load_keras_model(Path(name) / runs.MODEL), every)
        return
    from imgclf.models import backbones

    row = backbones.get(name)
    size = image_size or row.default_size
    backbones.check_size(row, size)
    if row.builder is None:
        _print_facts(row)
    import_tensorflow()
    from imgclf.models.build import build_backbone

    _print_layers(build_backbone(row, alpha, (size, size)), every, row.cuts)


def _print_facts(row: Any) -> None:
    facts = {
        "title": row.title,
        "image size": f"{row.default_size} pixels, {row.min_size} at least",
        "weights": f"{row.licence}, {row.source}" if row.has_weights else "none, it is trained from scratch",
    }
    for variant in row.variants:
        width = f" at alpha {variant.alpha:g}" if len(row.variants) > 1 else ""
        facts[f"parameters{width}"] = f"{variant.parameters:,} ({variant.weights_mb:g} MB)"
    if row.cuts:
        facts["--unfreeze"] = f"1 to {len(row.cuts)} blocks, numbered below; auto is {row.default_unfreeze}"
    click.echo(_aligned(list(facts.items())) + "\n")


def _print_layers(model: Any, every: bool, cuts: tuple[str, ...] = ()) -> None:
    from imgclf.models.anatomy import anatomy, summed

    layers = anatomy(model)
    total = sum(row.multiply_adds for row in layers)
    numbers = {name: str(number) for number, name in enumerate(cuts, 1)}
    rows: list[tuple[str, ...]] = [("layer", "kind", "output", "weights", "multiply-adds", "sees", "unfreeze above")]
    for row in layers if every else summed(layers):
        sees = "the image" if row.receptive_field == float("inf") else f"{row.receptive_field:.0f} px"
        rows.append((row.name, row.kind, " x ".join(map(str, row.shape)), f"{row.parameters:,}",
                     f"{row.multiply_adds / 1e6:.2f} M", sees, numbers.get(row.name, "")))  # fmt: skip
    click.echo(_aligned(rows))
    click.echo(
        f"\n{sum(row.parameters for row in layers):,} weights, {total / 1e6:,.1f} million multiply-adds an image"
    )


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)  # fmt: skip
