"""Folder -> ImageSet: which files are candidates, and of which class and part. May import formats, places, errors.

Nothing is decoded here. Files with a usual image extension are taken by their name; files whose extension says nothing
are looked at for their first bytes.
"""

import difflib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from imgclf.data.imageset import PARTS, ImageFile, ImageSet, Part
from imgclf.errors import InputError
from imgclf.formats import EXTENSIONS, SNIFF_BYTES, sniff
from imgclf.storage.places import CHAIN, Address, is_address, place
from imgclf.storage.readers import side_by_side
from imgclf.storage.remote import beginning, entries, listed, with_found

PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

# What operating systems and tools leave behind; also everything that begins with a dot.
STRANGE_FOLDER = "_unknown"
STRANGE = f"image in {STRANGE_FOLDER}, of no class"
JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "icon\r", "__pycache__"}

# Known not to be photos, so not opened. Camera raws are TIFFs inside, of which a reader would find the thumbnail.
NO_IMAGES = {
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".md", ".html", ".htm", ".log"),
    *(".py", ".ipynb", ".m", ".r", ".sh", ".bat", ".mat", ".npy", ".npz", ".h5", ".pkl", ".pt", ".keras", ".tflite"),
    *(".zip", ".tar", ".gz", ".7z", ".rar", ".pdf", ".svg", ".doc", ".docx", ".xls", ".xlsx", ".db", ".ini"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".mp3", ".wav", ".aae", ".thm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
}

HIDDEN = "hidden or system file"
NO_IMAGE = "not an image"
BROKEN_LINK = "broken link"
OUTSIDE = "image outside of a class folder"
EMPTY = "class folder without images"
BESIDE_PARTS = "folder beside train/, val/ and test/"

MAX_WRAPPINGS = 8  # folders that hold nothing but one folder; archives have one or two


def scan(folder: str | Path) -> ImageSet:
    """List the labelled images of a folder.

    The classes are the names of the folders in it: `folder/CLASS/**/image`, or, with ready-made parts (in any letter
    case), `folder/train/CLASS/**/image` beside `val|valid|validation` or `test`. A single folder around all of that, as
    archives have it, is looked through.

    Args:
        folder: the folder, or its address; nothing in it is touched.

    Returns:
        The set, with paths and labels, and parts where the folder has them.

    Raises:
        InputError: there is no such folder, or fewer than two classes in it.
    """
    root = place(folder)
    require_folder(root)
    with listed(root, lambda name: not is_junk(name)):
        return _scan(root)


def _scan(root: Path) -> ImageSet:
    ignored = _Ignored()
    top = _look_through(_list(str(root), os.path.realpath(root), ignored), ignored)
    top = _without_strange(top, ignored)
    parts = _ready_made(root, top, ignored)
    if parts:
        ignored.add(BESIDE_PARTS, (folder.path for folder in top.folders if not _is_part(folder)))
        ignored.add(OUTSIDE, top.images)
    images: list[tuple[int, str, str, Part]] = []
    for part, listing in parts or [("", top)]:
        ignored.add(OUTSIDE, listing.images)
        for entry in _without_strange(listing, ignored).folders:
            label = class_name(entry.name)
            order = PARTS.index(part) if part else 0
            found = list(_images_below(entry, ignored))
            if not found:
                ignored.add(EMPTY, [entry.path])
            images.extend((order, label, path, part) for path in found)
    images.sort()
    classes = tuple(sorted({label for _, label, _, _ in images}))
    _require_classes(root, top, classes, ignored)
    places = with_found([path for _, _, path, _ in images])
    files = tuple(ImageFile(path, label, part) for path, (_, label, _, part) in zip(places, images, strict=True))
    return ImageSet(root, classes, files, ignored.table(), bool(parts))


def class_name(name: str) -> str:
    """The class that a folder or a cell of a table names: NFC, on one line, Unicode, as a model's files need it."""
    unicode = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join(unicodedata.normalize("NFC", unicode).splitlines())


def strange_images(root: Path) -> list[Path]:
    """Images that are of no class, from the folder _unknown of a folder of images; a gate is measured on them."""
    return find_image_files(root / STRANGE_FOLDER) if (root / STRANGE_FOLDER).is_dir() else []


def strange_halves(root: Path) -> tuple[list[Path], list[Path]]:
    """The same in two: every other image for a gate to be tuned on, the others to measure it on."""
    found = strange_images(root)
    return found[::2], found[1::2]


def _without_strange(listing: "_Listing", ignored: "_Ignored") -> "_Listing":
    """The listing without the folder of images that are of no class."""
    for folder in listing.folders:
        if folder.name == STRANGE_FOLDER:
            ignored.add(STRANGE, _images_below(folder))
    return replace(listing, folders=tuple(folder for folder in listing.folders if folder.name != STRANGE_FOLDER))


def find_image_files(folder: Path) -> list[Path]:
    """Every candidate image below a folder, whatever its class, sorted by path.

    Args:
        folder: an existing folder.
    """
    with listed(folder, lambda name: not is_junk(name)):
        return with_found(sorted(_images_below(_Folder(folder.name, str(folder), str(folder.resolve())))))


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by an operating system or a tool."""
    return name.startswith(".") or name.casefold() in JUNK


def is_image_name(name: str) -> bool | None:
    """Whether a file of this name is taken for an image; None where its first bytes are to decide."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a name, and there are many)
    if suffix in EXTENSIONS:
        return True
    return False if suffix in NO_IMAGES else None


class _Ignored:
    """Collects what is counted but not read: the paths of each kind."""

    def __init__(self) -> None:
        self._paths: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, paths: Iterable[str]) -> None:
        self._paths[kind].extend(paths)

    def update(self, other: "_Ignored") -> None:
        for kind, paths in other._paths.items():
            self.add(kind, paths)

    def number(self, kind: str) -> int:
        return len(self._paths[kind])

    def table(self) -> dict[str, tuple[str, ...]]:
        return {kind: tuple(sorted(paths)) for kind, paths in self._paths.items() if paths}


@dataclass(frozen=True)
class _Folder:
    """A folder to go into: its name, its path as the user writes it, and the place on the disk that it leads to."""

    name: str
    path: str
    place: str


@dataclass(frozen=True)
class _Listing:
    """What lies directly in a folder, sorted by name."""

    folders: tuple[_Folder, ...]
    images: tuple[str, ...]


def _list(path: str, place: str, ignored: _Ignored) -> _Listing:
    if is_address(path):
        return _list_address(path, ignored)
    folders, images = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if is_junk(name):
                    ignored.add(HIDDEN, [entry.path])
                elif entry.is_dir():
                    inner = os.path.realpath(entry.path) if entry.is_symlink() else f"{place}{os.sep}{name}"
                    folders.append(_Folder(name, entry.path, inner))
                elif not entry.is_file():  # also pipes and sockets, which would be waited for
                    ignored.add(BROKEN_LINK if entry.is_symlink() else NO_IMAGE, [entry.path])
                elif _is_candidate(entry):
                    images.append(entry.path)
                else:
                    ignored.add(NO_IMAGE, [entry.path])
    except OSError as error:
        raise InputError(
            f"the folder {path} cannot be listed ({error.strerror or error})", "check its permissions"
        ) from None
    return _Listing(tuple(sorted(folders, key=lambda folder: folder.name)), tuple(sorted(images)))


def _list_address(path: str, ignored: _Ignored) -> _Listing:
    folders, images, unclear = [], [], []
    root = place(path)
    plain = CHAIN not in path  # text is enough: there may be a million
    for entry in entries(path):
        below = f"{path}/{entry.name}" if plain else str(root / entry.name)
        named = is_image_name(entry.name)
        if is_junk(entry.name):
            ignored.add(HIDDEN, [below])
        elif entry.folder:
            folders.append(_Folder(entry.name, below, below))
        elif named is None:
            unclear.append(below)
        elif named:
            images.append(below)
        else:
            ignored.add(NO_IMAGE, [below])
    for below, is_image in zip(unclear, side_by_side(_begins_as_image, with_found(unclear)), strict=True):
        if is_image:
            images.append(below)
        else:
            ignored.add(NO_IMAGE, [below])
    return _Listing(tuple(sorted(folders, key=lambda folder: folder.name)), tuple(sorted(images)))


def _begins_as_image(path: Path) -> bool:
    assert isinstance(path, Address)
    return bool(sniff(beginning(path, SNIFF_BYTES)))


def _is_candidate(entry: os.DirEntry[str]) -> bool:
    named = is_image_name(entry.name)
    if named is not None:
        return named
    try:
        with Path(entry.path).open("rb") as file:
            return bool(sniff(file.read(SNIFF_BYTES)))
    except OSError:
        return False


def _images_below(folder: _Folder, ignored: _Ignored | None = None) -> Iterator[str]:
    """Every candidate below a folder. Links are followed, but not into a folder that they lie in."""
    counted = _Ignored() if ignored is None else ignored
    waiting = [(folder, frozenset([folder.place]))]
    while waiting:
        current, above = waiting.pop()
        listing = _list(current.path, current.place, counted)
        yield from listing.images
        waiting.extend((inner, above | {inner.place}) for inner in listing.folders if inner.place not in above)


def _look_through(listing: _Listing, ignored: _Ignored) -> _Listing:
    """Go into single folders until there is a choice; a single folder of images stays what it is, one class."""
    for _ in range(MAX_WRAPPINGS):
        if len(listing.folders) != 1 or listing.images:
            break
        counted = _Ignored()
        inner = _list(listing.folders[0].path, listing.folders[0].place, counted)
        if not inner.folders:
            break
        ignored.update(counted)
        listing = inner
    return listing


def _ready_made(root: Path, top: _Listing, ignored: _Ignored) -> list[tuple[Part, _Listing]]:
    """The part folders, if these are ready-made parts: train and at least one other, holding folders."""
    named = [(PART_NAMES[folder.name.casefold()], folder) for folder in top.folders if _is_part(folder)]
    names = {part for part, _ in named}
    if "train" not in names and len(named) == len(top.folders) >= 2:
        shown = " and ".join(f"{folder.name}/" for _, folder in named)
        raise InputError(f"{root} holds {shown} but no train/", "add a train/ folder with one folder per class")
    if len(names) < 2 or "train" not in names:
        return []
    counted = _Ignored()
    listings = [(part, _list(folder.path, folder.place, counted)) for part, folder in named]
    # vehicles may well be sorted into bus/, test/ and train/: parts hold class folders, classes hold images
    if not all(listing.folders for part, listing in listings if part == "train"):
        return []
    ignored.update(counted)
    return listings


def _is_part(folder: _Folder) -> bool:
    return folder.name.casefold() in PART_NAMES


def require_folder(root: Path) -> None:
    """Check that there is a folder.

    Raises:
        InputError: there is none; names one of a similar name beside it.
    """
    if root.is_dir():
        return
    if root.exists():
        raise InputError(f"{root} is a file", "expected a folder with one folder of images per class")
    looked_at = len(root.parts) > 2 or not isinstance(root, Address)  # nobody may list all buckets
    beside = root.parent.iterdir() if looked_at and root.parent.is_dir() else ()
    siblings = [path.name for path in beside if path.is_dir()]
    near = difflib.get_close_matches(root.name, siblings, n=1)
    fix = f"did you mean {root.parent / near[0]}?" if near else "expected a folder with one folder of images per class"
    raise InputError(f"there is no folder {root}", fix)


def _require_classes(root: Path, top: _Listing, classes: tuple[str, ...], ignored: _Ignored) -> None:
    if len(classes) >= 2:
        return
    each = "put the images of each class into a folder of its own, two classes or more"
    if classes:
        raise InputError(f"{root} holds only one class ({classes[0]!r})", each)
    if top.images:
        raise InputError(f"{root} holds {len(top.images)} images but no class folders", each)
    if not top.folders:
        raise InputError(f"{root} holds no class folders", each)
    others = f", only {ignored.number(NO_IMAGE)} files that are not images" if ignored.number(NO_IMAGE) else ""
    raise InputError(f"{root} holds {len(top.folders)} folders but no images{others}", f"{each}; JPEG or PNG is best")
