"""`imgclf backbones`: the networks to start from. Never imports TensorFlow."""

import click

from imgclf.cli.main import common_options


@click.group(short_help="The networks to start from.")
def command() -> None:
    """The networks that a training can start from."""


@command.command("list")
@common_options
def list_() -> None:
    """Print the table of networks."""
    from imgclf.models.backbones import table

    rows = table()
    click.echo(_aligned([tuple(rows[0]), *(tuple(str(value) for value in row.values()) for row in rows)]))


@command.command()
@click.argument("name")
@common_options
def show(name: str) -> None:
    """Print what is known of one network: sizes, weights, and the blocks that --unfreeze counts."""
    from imgclf.models.backbones import get

    row = get(name)
    facts = {
        "title": row.title,
        "image size": f"{row.default_size} pixels, {row.min_size} at least",
        "weights": f"{row.licence}, {row.source}" if row.has_weights else "none, it is trained from scratch",
    }
    for variant in row.variants:
        width = f" at alpha {variant.alpha:g}" if len(row.variants) > 1 else ""
        facts[f"parameters{width}"] = f"{variant.parameters:,} ({variant.weights_mb:g} MB)"
    click.echo(_aligned(list(facts.items())))
    click.echo(f"\n--unfreeze N trains what is above layer N of these {len(row.cuts)}; auto is {row.default_unfreeze}:")
    click.echo(_aligned([(f"{number:3}", layer) for number, layer in enumerate(row.cuts, 1)]))


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)  # fmt: skip
