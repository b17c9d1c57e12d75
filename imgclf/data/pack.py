"""DATA -> a folder of shards (WebDataset or Parquet). May import sources, inspect, split, packers, runs and progress.

The folder appears when it is complete. What a kill leaves is a hidden folder beside it, with which the same command
goes on: finished shards are kept, because it is known beforehand what is in each.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from imgclf import pixels, runs
from imgclf.config import TrainConfig
from imgclf.data.filenames import numbered
from imgclf.data.imageset import PARTS, ImageFile, ImageSet, Part
from imgclf.data.inspect import KEY_BYTES, inspect, require_trainable, without_empty_classes
from imgclf.data.packers import FORMS, Item
from imgclf.data.parquet import import_pyarrow
from imgclf.data.samples import image_name, suffix_of
from imgclf.data.scan import STRANGE, class_name, is_junk
from imgclf.data.sources import open_source
from imgclf.data.split import earlier_parts
from imgclf.data.split_file import read_rows
from imgclf.errors import InputError, SetupError
from imgclf.progress import Bar, plural, step, warn
from imgclf.storage.places import place

DEFAULT_SIZE = "500MB"
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
PLAN = "plan.json"  # in the folder while it is filled
KEEP_FREE = 100_000_000  # bytes of the disk that are left
SHOWN = 5  # unreadable files that a warning names


@dataclass(frozen=True)
class Packed:
    """What `pack` wrote.

    Attributes:
        folder: holds the shards and classes.txt.
        shards: name to number of images.
        counts: part to number of images; the part is "" where there are none.
        classes: in the order of their numbers.
        size: bytes of all shards.
        left_out: how many images were not packed, because they cannot be read or the split does not know them.
    """

    folder: Path
    shards: dict[str, int]
    counts: dict[str, int]
    classes: tuple[str, ...]
    size: int
    left_out: int = 0

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {part}" for part, count in self.counts.items() if part)
        images = plural(sum(self.counts.values()), "image") + (f" ({parts})" if parts else "")
        left = f", {self.left_out} left out" if self.left_out else ""
        shards = f"{plural(len(self.shards), 'shard')} of together {self.size / 1e6:.1f} MB"
        return f"{self.folder}: {images}, {plural(len(self.classes), 'class')}, in {shards}{left}"


@dataclass(frozen=True)
class _Shard:
    name: str
    items: tuple[Item, ...]


def pack(data: Path | None, out: Path, form: str, config: TrainConfig, shard_size: str = DEFAULT_SIZE) -> Packed:
    """Write the readable images of a data set, with their labels and parts, into a few large files.

    The bytes of every image are those of its file. Images are mixed: their order is that of a hash of seed and content.

    Args:
        data: as for `open_source`; nothing in it is touched.
        out: the folder to make.
        form: "webdataset" or "parquet".
        config: of which `csv`, `classes`, `exclude_classes`, `workers`, `seed` (of the order) and `split` are used; by
            default the parts are those of the data, if there are any.
        shard_size: about how large a shard may get, as "500MB".

    Raises:
        InputError: nothing that can be packed, `out` is there or lies in the data, an image changes meanwhile.
        SetupError: pyarrow is missing, or the disk has too little room.
    """
    most = parse_size(shard_size)
    if form == "parquet":
        import_pyarrow()
    if os.path.lexists(out):
        raise InputError(f"{out} is already there", "name a new folder with --out")
    if data is not None and data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise InputError(f"{out} lies inside the images {data}", "name a folder elsewhere with --out")
    csv, split = place(config.csv) if config.csv else None, Path(config.split) if config.split else None
    source = open_source(data, csv=csv, classes=config.classes, exclude_classes=config.exclude_classes)
    found = inspect(source, config.workers)
    images = without_empty_classes(_with_parts(found, split))
    require_trainable(images)
    _tell(found, images, split)
    shards = _shards(images, form, most, config.seed)
    try:
        size = _write(shards, out, form, images.classes)
    except OSError as error:
        raise runs.disk_error(error, out) from error
    counted = Counter(image.part for image in images.usable)
    return Packed(
        out, {shard.name: len(shard.items) for shard in shards},
        {part: counted[part] for part in ("", *PARTS) if counted[part]}, images.classes, size,
        len(found.images) - len(images.usable),
    )  # fmt: skip


def parse_size(text: str) -> int:
    """The bytes of `500MB`, `2 GB`, `1.5G`; a number alone is bytes.

    Raises:
        InputError: it is none of that, or nothing.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)b?", text.strip().lower().replace(" ", ""))
    size = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if size < 1:
        raise InputError(f"{text!r} is not a size", "expected for example 500MB or 2GB")
    return size


def _with_parts(images: ImageSet, split: Path | None) -> ImageSet:
    """The images in their parts; those that a split does not know are left out, as it may have left them out itself."""
    if split is None:
        return images
    rows = read_rows(split / runs.SPLIT if split.is_dir() else split)
    parts = earlier_parts(images, rows)
    if not parts:
        raise InputError(f"{split} knows none of the images in {images.root}", "expected the split of the same images")
    kept = [replace(image, part=parts[index]) for index, image in enumerate(images.usable) if index in parts]
    return images.with_images(sorted(kept, key=lambda image: image.place))


def _tell(found: ImageSet, images: ImageSet, split: Path | None) -> None:
    """Name what is left out."""
    unreadable = found.unreadable
    for image in unreadable[:SHOWN]:
        warn(f"{found.shown(image.path)} is left out: {image.reason}")
    if len(unreadable) > SHOWN:
        warn(f"{plural(len(unreadable) - SHOWN, 'more file')} cannot be read and are left out")
    unknown = len(found.usable) - len(images.usable)
    if unknown:
        warn(f"{plural(unknown, 'image')} that {split} does not know are left out")
    strange = len(found.ignored.get(STRANGE, ()))
    if strange:
        warn(f"{plural(strange, 'image')} of no class are left out")


def _shards(images: ImageSet, form: str, most: int, seed: int) -> list[_Shard]:
    """What goes into which shard: known before anything is written, and the same every time."""
    shape, shards = FORMS[form], []
    for part in ("", *PARTS):
        items = _items(images, part)
        items.sort(key=lambda item: _place_in_order(item.digest, seed))  # copies stay in the order of their paths
        sizes = [shape.size(item) for item in items]
        count = -(-sum(sizes) // most)
        filled: list[list[Item]] = [[] for _ in range(count)]
        before = 0
        for item, size in zip(items, sizes, strict=True):  # as many bytes in each
            filled[min(count - 1, before * count // sum(sizes))].append(item)
            before += size
        filled = [some for some in filled if some]  # an image larger than a shard leaves the next one empty
        shards += [_Shard(shape.name(shape.parts[part], index, len(filled)), tuple(some))
                   for index, some in enumerate(filled)]  # fmt: skip
    return shards


def _place_in_order(digest: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {digest}".encode(), digest_size=16).digest()


def _items(images: ImageSet, part: Part) -> list[Item]:
    number = {label: index for index, label in enumerate(images.classes)}
    names: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    items = []
    for image in images.part(part):
        folders, file = _place(images, image)
        file = _free(names, folders, file)
        stem, ending = _stem_and_ending(file, image.format)
        stem = _free(keys, folders, stem)
        assert image.looks is not None, "only unreadable images have none"
        items.append(Item(image.path, f"{folders}{file}", f"{folders}{stem}", ending, image.label, number[image.label],
                          image.key, image.looks.size, image.group))  # fmt: skip
    return items


def _place(images: ImageSet, image: ImageFile) -> tuple[str, str]:
    """The folders of an image from its class on, and its name: `train/cat/a/1.jpg` -> `cat/a/`, `1.jpg`."""
    *folders, file = images.name_of(image).split("/")
    begin = next((index for index, name in enumerate(folders) if class_name(name) == image.label), None)
    inner = [image.label, *([] if begin is None else folders[begin + 1 :])]
    return "".join(f"{_component(name)}/" for name in inner), _component(file)


def _component(name: str) -> str:
    """A folder or a file as every reader of tars takes it: nothing hidden, no way out, not `__meta__`."""
    legible = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    plain = re.sub(r"[/\\\0\r\n]", "_", legible) or "_"
    odd = is_junk(plain) or re.match(r"[A-Za-z]:$|__.*__$", plain)
    return f"-{plain}" if odd else plain


def _stem_and_ending(file: str, content: str) -> tuple[str, str]:
    path = PurePosixPath(file)
    known = image_name(file, b"") == file
    suffix = path.suffix if known else suffix_of(content)
    stem = path.stem if known else file
    return stem.replace(".", "_"), suffix[1:].lower()


def _free(taken: Counter[str], folders: str, name: str) -> str:
    """The name, or with a number where it is taken, in any letter case."""
    free, place = name, f"{folders}{name}".casefold()
    while taken[f"{folders}{free}".casefold()]:
        taken[place] += 1
        free = numbered(name, taken[place])
    taken[f"{folders}{free}".casefold()] += 1
    return free


def _write(shards: Sequence[_Shard], out: Path, form: str, classes: Sequence[str]) -> int:
    """Fill the folder and give it its name; the bytes of all shards."""
    folder = out.parent / f".{out.name}.packing"
    plan = {"imgclf": "pack", "digest": _digest(shards, form, classes)}
    out.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and not (folder / PLAN).is_file() and any(folder.iterdir()):
        raise InputError(f"{folder} is in the way", "remove it, or name another folder with --out")
    if (folder / PLAN).is_file() and runs.read_json(folder / PLAN) != plan:
        shutil.rmtree(folder)  # of other images
    folder.mkdir(exist_ok=True)
    runs.write_json(folder / PLAN, plan)
    todo = [shard for shard in shards if not (folder / shard.name).is_file()]
    _require_room(todo, form, folder)
    total = sum(len(shard.items) for shard in todo)
    with step(f"packing {plural(len(todo), 'shard')}", total) as bar:
        for shard in todo:
            with runs.writing(folder / shard.name) as temporary:
                FORMS[form].write(temporary, _contents(shard, bar), classes)
    runs.write_classes(folder / runs.CLASSES, classes)
    wanted = {runs.CLASSES, *(shard.name for shard in shards)}
    for left in folder.iterdir():
        if left.name not in wanted:
            left.unlink()
    size = sum((folder / shard.name).stat().st_size for shard in shards)
    folder.rename(out)
    return size


def _contents(shard: _Shard, bar: Bar) -> Iterator[tuple[Item, bytes]]:
    for item in shard.items:
        try:
            content = pixels.file_bytes(item.path)
        except pixels.UnreadableImage as error:
            raise InputError(f"{item.path} cannot be read any more ({error})", "try again") from None
        if hashlib.blake2b(content, digest_size=KEY_BYTES).hexdigest() != item.digest:
            raise InputError(f"{item.path} has changed while it was packed", "try again")
        yield item, content
        bar.update()


def _digest(shards: Sequence[_Shard], form: str, classes: Sequence[str]) -> str:
    """What is to be written, in short."""
    hasher = hashlib.blake2b(json.dumps([form, list(classes)]).encode(), digest_size=16)
    for shard in shards:
        for item in shard.items:
            row = [shard.name, item.name, item.key, item.ending, item.label, item.digest, item.group]
            hasher.update(json.dumps(row).encode())
    return hasher.hexdigest()


def _require_room(shards: Sequence[_Shard], form: str, folder: Path) -> None:
    needed = sum(FORMS[form].size(item) for shard in shards for item in shard.items)
    free = shutil.disk_usage(folder).free - KEEP_FREE
    if needed > free:
        raise SetupError(f"the disk has too little room for {folder.parent} ({max(free, 0) / 1e9:.1f} GB for "
                         f"{needed / 1e9:.1f} GB)", "free some space, or name another disk with --out")  # fmt: skip
