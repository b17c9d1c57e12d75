"""`imgclf data`: images as a training takes them: unpacked, packed, split, looked at. Its help is fast."""

from pathlib import Path
from typing import Any

import click

from imgclf.cli.addresses import PLACE, Here
from imgclf.cli.check import PAGE_MARK
from imgclf.cli.main import common_options
from imgclf.cli.settings import given_settings, setting_options
from imgclf.config import AUGMENTATIONS

PAGES = (".html", ".htm")


@click.group(short_help="Unpack and pack images, split them, see what a training would see.")
def command() -> None:
    """Images as a training takes them."""


@command.command("unpack")
@click.argument("archives", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=Here(), required=True, help="Folder to make.")
@click.option("--class-names", help="Names in the order of the labels, separated by commas, or a file with one a line.")
@common_options
def unpack_(archives: tuple[Path, ...], out: Path, class_names: str | None) -> None:
    """Turn ARCHIVES into class folders.

    Takes a .zip or .tar (.gz, .bz2, .xz) of class folders; of small images the IDX files of MNIST and Fashion-MNIST
    (.gz or not), the python version of CIFAR-10 and CIFAR-100 (.tar.gz) and the .npz files of Keras. Nothing is
    downloaded, nothing in the archives is executed, and nothing is written outside of the new folder.
    """
    from imgclf.data.unpack import unpack

    click.echo(unpack(archives, out, _names(class_names) if class_names else None))
    click.echo(f"next: imgclf train {out}")


def _names(value: str) -> list[str]:
    from imgclf.errors import InputError

    if "," in value:
        names = value.split(",")
    else:
        try:
            names = Path(value).read_text(encoding="utf-8-sig").rstrip().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            expected = "expected names with commas between them, or a UTF-8 file with one a line"
            raise InputError(f"--class-names {value} cannot be read ({error})", expected) from None
    names = [name.strip() for name in names]
    if "" in names:
        raise InputError(f"name {names.index('') + 1} of --class-names is empty", "give every class a name")
    return names


@command.command("pack")
@click.argument("data", type=PLACE, required=False)
@click.option("--out", type=Here(), required=True, help="Folder to make.")
@click.option("--format", "form", type=click.Choice(["webdataset", "parquet"]), required=True)
@click.option("--shard-size", default="500MB", show_default=True, help="About how large a shard may get.")
@click.option("--split", help="Parts of a split.csv or a run; images that it does not know are left out.  "
              "[default: those of DATA]")  # fmt: skip
@setting_options("csv", "classes", "exclude_classes", "seed", "workers")
@common_options
def pack_(data: Path | None, out: Path, form: str, shard_size: str, split: str | None, **options: Any) -> None:
    """Write DATA into a few large files, because a million small ones are slow everywhere.

    The shards hold every readable image's own bytes, its class as name and number, and its part in their names; images
    are mixed by --seed. WebDataset (.tar) and Parquet are read by many tools, and by every command of imgclf as DATA.
    Interrupted, the same command goes on. Nothing in DATA is touched.
    """
    from imgclf.config import TrainConfig
    from imgclf.data.pack import pack

    given = TrainConfig().replace(split=split, **given_settings(options))
    click.echo(pack(data, out, form, given, shard_size))
    click.echo(f"next: imgclf train {out}")


@command.command()
@click.argument("data", type=PLACE)
@click.option("--augment", type=click.Choice(AUGMENTATIONS), default="auto", show_default=True)
@click.option("--flip/--no-flip", default=True, show_default=True, help="Mirror images left to right.")
@click.option("--image-size", type=click.IntRange(16, 512), default=160, show_default=True, help="Side in pixels.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=Here(dir_okay=False), default=Path("preview.png"), show_default=True)
@common_options
def preview(data: Path, augment: str, flip: bool, image_size: int, seed: int, out: Path) -> None:
    """Look at DATA before training: a contact sheet (--out X.png) or a page (--out X.html).

    The sheet has a row per image: first as it is, then as training would vary it. The page has what every class holds:
    counts, sizes, random samples.
    """
    if out.suffix.lower() in PAGES:
        from imgclf.report.data_page import write_data_page
        from imgclf.runs import require_own

        require_own(out, PAGE_MARK)
        click.echo(write_data_page(data, out, seed))
        return
    from imgclf.report.preview import contact_sheet

    click.echo(contact_sheet(data, out, augment=augment, flip=flip, size=image_size, seed=seed))


@command.command()
@click.argument("data", type=PLACE, required=False)
@click.option("--out", type=Here(dir_okay=False), default=Path("split.csv"), show_default=True)
@click.option("--folds", type=click.IntRange(3), help="Write this many files for cross-validation: split-1.csv, ...")
@setting_options("csv", "classes", "exclude_classes", "split", "group_by", "drop_leaks", "val_share",
                 "test_share", "seed", "workers")  # fmt: skip
@common_options
def split(data: Path | None, out: Path, folds: int | None, **options: Any) -> None:
    """Write which image of DATA is for training, validation and test, as a table that may be edited.

    `imgclf train DATA --split split.csv` trains with it. Copies, near-copies and groups are never torn apart.
    """
    from imgclf.config import TrainConfig
    from imgclf.data.prepare import write_parts

    for path, images in write_parts(data, TrainConfig().replace(**given_settings(options)), out, folds):
        counts = {part: sum(row.values()) for part, row in images.counts().items()}
        click.echo(f"{path}: " + ", ".join(f"{counts.get(part, 0)} {part}" for part in ("train", "val", "test")))
