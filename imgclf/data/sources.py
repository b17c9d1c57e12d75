"""The one door for images: a folder, a CSV, an archive or shards -> ImageSet, of all classes or some.

May import scan, table, bundle, download, shards, shard_set, imageset, places, remote and errors.
"""

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imgclf.data.bundle import is_bundle, open_bundle
from imgclf.data.download import called, download
from imgclf.data.imageset import ImageSet
from imgclf.data.members import SUFFIXES
from imgclf.data.parquet import SUFFIXES as PARQUET_SUFFIXES
from imgclf.data.scan import is_junk, require_folder, scan
from imgclf.data.shard_set import open_shards
from imgclf.data.shards import SEPARATOR, base_name, find_shards, is_shard_name
from imgclf.data.table import read_table
from imgclf.errors import InputError
from imgclf.storage.places import Address, place
from imgclf.storage.remote import listed

TABLES = (".csv", ".tsv")
SHOWN = 20  # classes that an error lists


def open_source(
    data: Path | None, *, csv: Path | None = None, classes: Sequence[str] = (), exclude_classes: Sequence[str] = ()
) -> ImageSet:
    """List the labelled images of a folder, a table, an archive or shards.

    Args:
        data: a folder of class folders, a zip or tar archive of them, a table (.csv, .tsv), or shards (Parquet,
            WebDataset; see `find_shards`), each of them here or at an address; with `csv`, the folder or archive that
            its paths may start from, or None.
        csv: a table of paths and labels; see `read_table`.
        classes: the classes to take; all where it is empty. Names are compared in NFC, exactly, or else in any letter
            case where only one class fits.
        exclude_classes: the classes to leave out, of those taken.

    Returns:
        The set as `scan` gives it; images of other classes are not in it.

    Raises:
        InputError: nothing there, or nothing that can be trained on; a name that fits no class, or several; fewer than
            two classes left.
        SetupError: an archive or a shard cannot be unpacked in the cache folder; pyarrow is missing.
    """
    if isinstance(data, Address):
        return choose_classes(_at_address(data, csv), classes, exclude_classes)
    shards = find_shards(data) if data is not None and csv is None else None
    if shards is not None:
        return choose_classes(open_shards(shards), classes, exclude_classes)
    if data is None or not is_bundle(data):
        return choose_classes(_list(data, csv), classes, exclude_classes)
    folder = open_bundle(data)
    with called(data, folder):
        return choose_classes(_list(folder, csv), classes, exclude_classes)


def run_name(data: Path | None, csv: str | Path | None) -> str:
    """What a run on these images is called: the name of the folder, table, archive or shard, without its ending."""
    named = (data if data is not None else place(csv or "images")).resolve()
    if not isinstance(named, Address) and named.is_dir():
        return named.name
    if data is not None and (set(data.name) & set("*?{:") if isinstance(data, Address) else not named.exists()):
        named = named.with_name(base_name(data) or named.name)
    endings = (*SUFFIXES, *PARQUET_SUFFIXES, *TABLES)
    ending = next((suffix for suffix in endings if named.name.casefold().endswith(suffix)),
                  "" if isinstance(named, Address) else named.suffix)  # fmt: skip
    return named.name[: -len(ending)] if ending else named.name


def choose_classes(images: ImageSet, classes: Sequence[str] = (), exclude_classes: Sequence[str] = ()) -> ImageSet:
    """The images of some classes, as `open_source` describes it.

    Raises:
        InputError: a name that fits no class, or several; fewer than two classes left.
    """
    if not classes and not exclude_classes:
        return images
    taken = {_find(name, images, "--classes") for name in classes} or set(images.classes)
    kept = taken - {_find(name, images, "--exclude-classes") for name in exclude_classes}
    if len(kept) < 2:
        left = f"only {next(iter(kept))!r}" if kept else "none"
        raise InputError(f"of the classes of {images.root}, {left} is left", f"choose two or more of {_shown(images)}")
    chosen = images.with_images(image for image in images.images if image.label in kept)
    return replace(chosen, classes=tuple(name for name in images.classes if name in kept))


def _list(data: Path | None, csv: Path | None) -> ImageSet:
    if data is None:
        if csv is None:
            raise InputError("no images are given", "expected a folder of class folders, an archive of them, or --csv")
        return read_table(csv)
    if data.suffix.casefold() in TABLES and not data.is_dir():
        _require_one_table(data, csv)
        return read_table(data)
    if data.name.casefold().endswith(SUFFIXES) and not data.exists():
        raise InputError(f"there is no file {data}", "expected an archive of class folders")
    return scan(data) if csv is None else read_table(csv, data)


def _require_one_table(data: Path, csv: Path | None) -> None:
    if csv is not None:
        raise InputError(f"two tables are given, {data} and {csv}", "give one, and a folder or archive of images")


def _at_address(address: Address, csv: Path | None) -> ImageSet:
    """A table; shards, or an archive of class folders, which are copied here; or a folder, which is listed once."""
    name = address.name.casefold()
    if name.endswith(TABLES):
        _require_one_table(address, csv)
        return read_table(address)
    if not is_shard_name(name.partition(SEPARATOR)[0]) and not name.endswith(SUFFIXES):
        if csv is not None:
            return read_table(csv, address)
        require_folder(address)
        with listed(address, lambda name: not is_junk(name)):
            shards = find_shards(address)
            return open_shards(shards) if shards is not None else scan(address)
    shards = find_shards(address) if csv is None else None
    if shards is not None:
        return open_shards(shards)
    archive = download(address)
    with called(address, archive):
        folder = open_bundle(archive)
    with called(address, folder):
        return _list(folder, csv)


def _find(name: str, images: ImageSet, option: str) -> str:
    """The class that a name stands for."""
    wanted = unicodedata.normalize("NFC", name.strip())
    if wanted in images.classes:
        return wanted
    folded = [label for label in images.classes if label.casefold() == wanted.casefold()]
    if len(folded) == 1:
        return folded[0]
    if folded:
        raise InputError(f"{option} names {name!r}, which may be {' or '.join(map(repr, folded))}", "write it exactly")
    lowered = {label.casefold(): label for label in images.classes}
    near = [lowered[match] for match in difflib.get_close_matches(wanted.casefold(), lowered, n=3)]
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise InputError(f"{option} names {name!r}, which is no class of {images.root}",
                     f"{hint}the classes are {_shown(images)}")  # fmt: skip


def _shown(images: ImageSet) -> str:
    more = f" and {len(images.classes) - SHOWN} more" if len(images.classes) > SHOWN else ""
    return ", ".join(images.classes[:SHOWN]) + more
