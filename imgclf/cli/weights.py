"""`imgclf weights`: pretrained weights in Keras' cache. Imports nothing heavy to show its help."""

import click

from imgclf.cli.main import common_options


@click.group(short_help="Pretrained weights.")
def command() -> None:
    """ImageNet weights: what is in the cache of Keras, and fetching more."""


@command.command("list")
@common_options
def list_() -> None:
    """Print every weights file: whether it is in the cache, its size, its name there and its address."""
    from imgclf.models.cached import cache_table

    for row in cache_table():
        click.echo(row)


@command.command()
@click.argument("name")
@click.option("--alpha", type=float, help="Width of MobileNets.")
@click.option("--image-size", type=int, help="MobileNet and MobileNetV2 have files of their own for some sizes.")
@common_options
def fetch(name: str, alpha: float | None, image_size: int | None) -> None:
    """Put the ImageNet weights of NAME into the cache, so that training needs no network.

    The hash is checked where Keras publishes one.
    """
    from imgclf.models import backbones
    from imgclf.noise import import_tensorflow

    row = backbones.get(name)
    size = image_size or row.default_size
    import_tensorflow()
    from imgclf.models.weights import check_hash, resolve_weights

    found = resolve_weights("imagenet", row, alpha, (size, size), exact=True)
    assert found is not None
    checked = "hash checked" if check_hash(found.path, row.variant(alpha)) else "Keras publishes no hash of it"
    click.echo(f"{found.path}  {found.path.stat().st_size / 1e6:.1f} MB, {checked}")
