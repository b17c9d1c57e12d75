"""Which files are shards (WebDataset .tar, .parquet), in which part: a folder, a pattern or one file -> their list.

May import scan, members, webdataset, parquet, unpacked_shards (what it has), download, errors and what an address
needs: places, readers, remote. Nothing is unpacked here.
"""

import glob
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imgclf.data.bundle import unpacked
from imgclf.data.download import called, download
from imgclf.data.imageset import Part
from imgclf.data.members import SUFFIXES, is_archive
from imgclf.data.parquet import NO_COLUMNS, Columns, is_parquet
from imgclf.data.parquet import SUFFIXES as PARQUET_SUFFIXES
from imgclf.data.scan import PART_NAMES, is_image_name, is_junk
from imgclf.data.unpacked_shards import is_unpacked, require_no_cache
from imgclf.data.webdataset import holds_samples
from imgclf.errors import InputError
from imgclf.storage import remote
from imgclf.storage.places import Address, place
from imgclf.storage.readers import side_by_side

TAR_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix != ".zip")
MORE_PART_NAMES: dict[str, Part] = {**PART_NAMES, "dev": "val", "eval": "test", "evaluation": "test"}

MAX_DEPTH = 3  # folders below the one that is given; Hugging Face has DATA/CONFIGURATION/PART/0000.parquet
MAX_FOLDERS = 50  # side by side; more are classes
MAX_EXPANDED = 100_000  # names that a pattern with braces stands for
MAGIC = set("*?[{")
WEBDATASET = "webdataset"
SEPARATOR = "::"  # DATA::label=COLUMN; in no name of a file, and no shell minds it

_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class ShardFile:
    """One shard: its file, its name below the folder of all, and its part ("" for none)."""

    path: Path
    name: str
    part: Part


@dataclass(frozen=True)
class ShardFiles:
    """The shards of a data set.

    Attributes:
        data: what the user has named.
        base: the folder that all of them lie in.
        kind: "parquet" or "webdataset".
        files: sorted by name.
        columns: those of Parquet that the user has named.
    """

    data: Path
    base: Path
    kind: str
    files: tuple[ShardFile, ...]
    columns: Columns = NO_COLUMNS

    @property
    def has_parts(self) -> bool:
        """Whether the shards come with parts of their own."""
        return any(file.part for file in self.files)


def find_shards(data: Path) -> ShardFiles | None:
    """The shards that DATA names.

    Args:
        data: a .parquet file, a tar of WebDataset samples, a folder that holds such, or a pattern of them
            (`data/train-*.parquet`, `train-{000000..000007}.tar`); for Parquet with the columns behind it, where they
            cannot be guessed: `photos.parquet::image=picture,label=kind`. All of these also at an address; a tar there
            is fetched to see what it is.

    Returns:
        None where it is something else: a folder or an archive of class folders, a table, nothing at all.

    Raises:
        InputError: a pattern that matches nothing, shards of two kinds, a part that is in doubt, or a damaged tar.
    """
    plain, columns = _columns(data)
    if is_shard_name(plain.name) and _is_pattern(plain):
        return _of(data, _base(plain), _matches(plain), columns)
    if plain.is_dir():
        require_no_cache(plain)
        return _of(data, plain, _within(plain), columns)
    if plain.is_file():
        one = is_parquet(plain) or (_is_tar(plain) and _holds_samples(plain, plain.parent))
        return _of(data, plain.parent, [plain], columns) if one else None
    return None


def base_name(data: Path) -> str:
    """What the data set is called that a pattern of shards, or one with columns, names."""
    plain, _ = _columns(data)
    return (_base(plain) if _is_pattern(plain) else plain).resolve().name


def _is_pattern(path: Path) -> bool:
    """Whether a path stands for several; a file here may have such a name of its own."""
    return bool(set(str(path)) & MAGIC) and (isinstance(path, Address) or not path.exists())


def _columns(data: Path) -> tuple[Path, Columns]:
    text = str(data)
    if SEPARATOR not in (data.name if isinstance(data, Address) else text) or (
        not isinstance(data, Address) and data.exists()
    ):
        return data, NO_COLUMNS
    text, _, behind = text.rpartition(SEPARATOR)
    named = dict(pair.split("=", 1) for pair in behind.split(",") if "=" in pair)
    if not named or set(named) - {"image", "label"} or not all(named.values()):
        raise InputError(f"{behind!r} behind {text} names no columns", f"expected {text}::image=COLUMN,label=COLUMN")
    return place(text), Columns(named.get("image"), named.get("label"))


def is_shard_name(name: str) -> bool:
    """Whether a file of this name may be a shard."""
    return name.casefold().endswith((*PARQUET_SUFFIXES, *TAR_SUFFIXES))


def _is_tar(path: Path) -> bool:
    return not path.name.casefold().endswith(".zip") and is_archive(path)


def _holds_samples(path: Path, base: Path) -> bool:
    """Whether a tar is one of WebDataset, and not one of class folders. One at an address is fetched to see that."""
    if isinstance(path, Address):
        if is_unpacked(path, base, WEBDATASET):
            return True
        copy = download(path)
        with called(path, copy):
            return holds_samples(copy)
    return not unpacked(path) and holds_samples(path)


def _within(folder: Path) -> list[Path]:
    """The shards in a folder; none where there are class folders."""
    shards: list[Path] = []
    with_images = 0
    for files, image_folders in _walk(folder, 0):
        shards += files
        with_images += image_folders
        if with_images > 1:  # class folders, with a table of something beside them
            return []
    return sorted(shards)


def _walk(folder: Path, depth: int) -> Iterator[tuple[list[Path], int]]:
    """The shards of each folder, and how many folders of images were met, which are not gone through."""
    shards: list[Path] = []
    folders: list[Path] = []
    try:
        for name, path, is_folder in _listed(folder):
            if is_junk(name):
                continue
            if is_folder:
                folders.append(path)
            elif is_shard_name(name):
                shards.append(path)
            elif depth and is_image_name(name):
                yield [], 1
                return
    except OSError:  # said by whoever needs the folder
        return
    yield shards, len(folders) if len(folders) > MAX_FOLDERS else 0
    if depth < MAX_DEPTH:
        for inner in sorted(folders):
            yield from _walk(inner, depth + 1)


def _listed(folder: Path) -> Iterator[tuple[str, Path, bool]]:
    """Name and path of what lies in a folder, and whether it is a folder."""
    if isinstance(folder, Address):
        for item in remote.entries(str(folder)):
            below = folder / item.name
            below.found = item.found
            yield item.name, below, item.folder
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() or entry.is_file():
                yield entry.name, Path(entry.path), entry.is_dir()


def _matches(pattern: Path) -> list[Path]:
    """The files of a pattern. What braces stand for must be there; what stars stand for must be something."""
    texts = _expanded(str(pattern))
    several = [path for text in texts if set(text) & MAGIC for path in _fitting(text)]
    named = [place(text) for text in texts if not set(text) & MAGIC]
    for path, is_there in zip(named, side_by_side(lambda path: path.is_file(), named), strict=True):
        if not is_there:
            raise InputError(f"there is no file {path}", f"{pattern} stands for it; correct the numbers in braces")
    found = named + several
    if not found:
        raise InputError(f"no files match {pattern}", "expected .parquet files, or .tar files of WebDataset")
    return sorted(dict.fromkeys(found))


def _fitting(text: str) -> list[Path]:
    """The shards that stars and question marks stand for."""
    if isinstance(place(text), Address):
        return [path for path in remote.matching(text) if is_shard_name(path.name)]
    names = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (absolute too)
    return [Path(name) for name in names if Path(name).is_file() and is_shard_name(name)]


def _expanded(text: str) -> list[str]:
    """A pattern for each of what braces stand for: `{000..007}` or `{a,b}`."""
    pieces = re.split(r"\{([^{}]*)\}", text)
    choices: list[list[str]] = []
    for index, piece in enumerate(pieces):
        numbers = _RANGE.fullmatch(piece) if index % 2 else None
        if numbers is not None:
            first, last = (int(number) for number in numbers.groups())
            if not 0 <= last - first < MAX_EXPANDED:
                raise InputError(f"{{{piece}}} in {text} is no range", "expected for example {000000..000007}")
            choices.append([f"{number:0{len(numbers[1])}}" for number in range(first, last + 1)])
        else:
            choices.append(piece.split(",") if index % 2 else [piece])
    names = list(itertools.islice(itertools.product(*choices), MAX_EXPANDED + 1))
    if len(names) > MAX_EXPANDED:
        raise InputError(f"{text} stands for more than {MAX_EXPANDED} files", "name a folder")
    return ["".join(name) for name in names]


def _base(pattern: Path) -> Path:
    """The folder above all that a pattern may match."""
    whole = next((index for index, part in enumerate(pattern.parts) if set(part) & MAGIC), len(pattern.parts))
    return type(pattern)(*pattern.parts[:whole])


def _of(data: Path, base: Path, paths: list[Path], columns: Columns) -> ShardFiles | None:
    if not paths:
        return None
    tables = [path for path in paths if is_parquet(path)]
    if tables and len(tables) < len(paths):
        other = next(path for path in paths if path not in tables)
        raise InputError(f"{data} holds both {tables[0].name} and {other.name}",
                         "name one kind, as DATA/*.parquet or DATA/*.tar in quotes")  # fmt: skip
    if not tables and not _holds_samples(paths[0], base):
        raise InputError(f"{paths[0]} holds no WebDataset samples",
                         "expected images with a .cls or .json of the same name; an archive of class folders is given "
                         "by itself")  # fmt: skip
    files = [(path, path.relative_to(base).as_posix()) for path in paths]
    parts = {name: _part(base, name) for _, name in files}
    given = set(parts.values()) - {""}
    if given == {"val", "test"}:
        raise InputError(f"{data} holds shards for validation and test but none for training",
                         "name one of them, or add train-*")  # fmt: skip
    several = len(given) > 1
    shards = (ShardFile(path, name, (parts[name] or "train") if several else "") for path, name in files)
    kind = "parquet" if tables else WEBDATASET
    if columns != NO_COLUMNS and not tables:
        raise InputError(f"{data} names columns, which WebDataset does not have", "leave out what is behind ::")
    return ShardFiles(data, base, kind, tuple(sorted(shards, key=lambda shard: shard.name)), columns)


def _part(base: Path, name: str) -> Part:
    """The part that a shard's name tells, or a folder above it, the nearest first."""
    for component in reversed(name.split("/")):
        words = re.split(r"[^a-z]+", component.casefold())
        told = {MORE_PART_NAMES[word] for word in words if word in MORE_PART_NAMES}
        if len(told) > 1:
            raise InputError(f"{base / name} may be for {' or '.join(sorted(told))}", "give it a name with one of them")
        if told:
            return told.pop()
    return ""
