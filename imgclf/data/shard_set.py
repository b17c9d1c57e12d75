"""Shards -> ImageSet. May import shards, unpacked_shards, webdataset, parquet, samples, imageset, places and errors."""

from collections import defaultdict
from pathlib import Path

from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.parquet import NO_COLUMNS, read_parquet
from imgclf.data.samples import Content, Label, names_beside
from imgclf.data.scan import class_name
from imgclf.data.shards import ShardFiles
from imgclf.data.unpacked_shards import Reader, folder_of, place_of, unpack_shards
from imgclf.data.webdataset import read_webdataset
from imgclf.errors import InputError
from imgclf.progress import plural
from imgclf.storage.places import Address

MAX_CLASSES = 10_000
FEW = 50  # images that may each have a class of its own; more of them are captions


def open_shards(shards: ShardFiles, cache: Path | None = None) -> ImageSet:
    """The labelled images of shards, unpacked into the cache folder once.

    Args:
        shards: as `find_shards` gives them.
        cache: the cache folder; by default that of `cache_folder`.

    Returns:
        The set. Its root is the folder in the cache; a path below it names the shard and the sample.

    Raises:
        InputError: a shard is damaged; a number without a name where there are names; labels that are captions; fewer
            than two classes.
        SetupError: pyarrow is missing, or the cache folder cannot be written.
    """
    how = shards.kind if shards.columns == NO_COLUMNS else f"{shards.kind} {shards.columns}"
    place = place_of(shards.base, how, cache)
    contents = unpack_shards([(file.path, file.name) for file in shards.files], shards.base, place, _reader(shards))
    beside: tuple[str, ...] | None = None
    images: list[ImageFile] = []
    ignored: dict[str, list[str]] = defaultdict(list)
    for shard, content in zip(shards.files, contents, strict=True):
        folder = folder_of(place, shard.name)
        numbers = any(isinstance(sample.label, int) for sample in content.samples)
        if numbers and not content.names and beside is None:
            beside = names_beside(_folders(shards))
        labels = _Labels(shard.path, content, content.names or beside or ())
        start = f"{folder}/"
        images += [ImageFile(Path(start + sample.file), labels.name(sample.label), shard.part, group=sample.group)
                   for sample in content.samples]  # fmt: skip
        for kind, names in content.left_out.items():
            ignored[kind] += [start + name for name in names]
    classes = tuple(sorted({image.label for image in images}))
    _require_classes(shards, classes, len(images), ignored)
    return ImageSet(place, classes, tuple(sorted(images, key=lambda image: image.place)),
                    {kind: tuple(sorted(paths)) for kind, paths in ignored.items()}, shards.has_parts)  # fmt: skip


def _reader(shards: ShardFiles) -> Reader:
    if shards.kind == "parquet":
        return lambda path, sink: read_parquet(path, sink, shards.columns)
    return read_webdataset


def _folders(shards: ShardFiles) -> list[Path]:
    """Where class names may lie: beside the shards, in the folder of all, above it (not above a bucket)."""
    found = dict.fromkeys([*(file.path.parent for file in shards.files), shards.base, shards.base.parent])
    return [folder for folder in found if not isinstance(folder, Address) or len(folder.parts) > 1]


class _Labels:
    """The classes that the labels of a shard stand for."""

    def __init__(self, path: Path, content: Content, names: tuple[str, ...]) -> None:
        self._path, self._names = path, names
        self._known: dict[Label, str] = {}

    def name(self, label: Label) -> str:
        """The class: the name of a number where there are names, else the number as text."""
        if label not in self._known:
            self._known[label] = class_name(self._named(label))
        return self._known[label]

    def _named(self, label: Label) -> str:
        if isinstance(label, str) or not self._names:
            return str(label)
        if label >= len(self._names) or not self._names[label]:
            known = plural(len(self._names), "class")
            raise InputError(f"{self._path} holds the label {label}, and there are names for {known}",
                             "give every number a name in classes.txt")  # fmt: skip
        return self._names[label]


def _require_classes(shards: ShardFiles, classes: tuple[str, ...], number: int, ignored: dict[str, list[str]]) -> None:
    if len(classes) > MAX_CLASSES or (number > FEW and len(classes) > number / 2):
        raise InputError(f"{shards.data} holds {number} images with {len(classes)} different labels, as captions are",
                         "expected one label for many images")  # fmt: skip
    if len(classes) >= 2:
        return
    told = ", ".join(f"{len(paths)} x {kind}" for kind, paths in sorted(ignored.items()))
    found = f"only one class ({classes[0]!r})" if classes else f"no labelled images{f' ({told})' if told else ''}"
    raise InputError(f"{shards.data} holds {found}", "expected images of two classes or more, each with its label")
