"""Shards -> files in the cache folder, each shard once, and the list of what it holds. May import bundle, samples,
download, and what an address needs: places, readers, remote.

A shard's folder has the shard's name, so that people see in which one an image is, and the sample's name is that of the
file. It is filled under a temporary name, its list last, and replaced when the shard has changed. Of shards at
addresses a few are fetched ahead; a copy goes when it is unpacked.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.cachedir import cache_folder
from imgclf.data.bundle import KEEP_FREE, TOUCH_EVERY, Room, Tree, remove_stale, whole_folder
from imgclf.data.download import called, fetch, forget
from imgclf.data.filenames import safe_name
from imgclf.data.samples import Content, Sample, Sink
from imgclf.errors import InputError, SetupError
from imgclf.progress import Bar, step
from imgclf.storage import bytecache, remote
from imgclf.storage.places import Address
from imgclf.storage.readers import side_by_side

FOLDER = "shards"  # in the cache folder
MARKER = "imgclf-shards.json"  # in the folder of a data set
LIST = ".samples.json"  # in the folder of a shard; no image is called so
SCHEMA = 1
FETCHED_AHEAD = 3  # shards at addresses that are on their way, or wait to be unpacked

Reader = Callable[[Path, Sink], Content]


def require_no_cache(folder: Path) -> None:
    """Check that a folder is not where shards are unpacked: which of them were meant is not known there.

    Raises:
        InputError: it is.
    """
    if (folder / MARKER).is_file():
        base = runs.read_json(folder / MARKER).get("base", "")
        raise InputError(f"{folder} is where the shards of {base} are unpacked", "name the shards themselves as DATA")


def place_of(base: Path, kind: str, cache: Path | None = None) -> Path:
    """The folder in the cache for the shards of a folder.

    Args:
        base: the folder of the shards.
        kind: in what way they are read; read in another way, they are unpacked apart.
        cache: the cache folder; by default that of `cache_folder`.
    """
    known = b"\0".join([os.fsencode(base.resolve()), kind.encode()])
    stem = safe_name(base.resolve().name or "shards")[:60]
    return (cache or cache_folder()) / FOLDER / f"{stem}-{hashlib.blake2b(known, digest_size=8).hexdigest()}"


def unpack_shards(shards: Iterable[tuple[Path, str]], base: Path, place: Path, reader: Reader) -> list[Content]:
    """Unpack the shards that are not unpacked yet.

    Args:
        shards: file and name (below `base`) of each.
        base: their folder, for the record.
        place: as `place_of` gives it; the folder of a shard is `folder_of(place, name)`.
        reader: of their kind.

    Returns:
        What each holds, its files below its folder.

    Raises:
        InputError: a shard is damaged, a bomb, or gone.
        SetupError: the cache folder cannot be written, or its disk has too little room; an address cannot be read.
    """
    listed = list(shards)
    found = {name: _known(path, folder_of(place, name)) for path, name in listed}
    missing = [(path, name) for path, name in listed if found[name] is None]
    if missing:
        try:
            place.mkdir(parents=True, exist_ok=True)
            _require_room([path for path, _ in missing], place)
            if not (place / MARKER).is_file():
                runs.write_json(place / MARKER, {"schema": SCHEMA, "base": runs_path(base.resolve())})
            total = sum(path.stat().st_size for path, _ in missing)
            title = f"unpacking {len(missing)} shards" if len(missing) > 1 else f"unpacking {missing[0][0].name}"
            with step(title, -(-total // 10**6), "MB") as bar:
                reached = _Reached(bar)
                for (path, name), file in zip(missing, _files_of([path for path, _ in missing], reached), strict=True):
                    found[name] = _unpack(path, file, folder_of(place, name), reader, reached)
                    if isinstance(path, Address):
                        forget(path)
        except OSError as error:
            raise SetupError(f"{base} cannot be unpacked in the cache folder {place} ({error.strerror or error})",
                             "free some space there, or name another folder in IMGCLF_CACHE") from error  # fmt: skip
    return [content for _, name in listed if (content := found[name]) is not None]


def is_unpacked(path: Path, base: Path, kind: str) -> bool:
    """Whether a shard is in the cache folder already."""
    return _known(path, folder_of(place_of(base, kind), path.relative_to(base).as_posix())) is not None


def folder_of(place: Path, name: str) -> Path:
    """The folder of a shard: as it is called, as far as this system can."""
    return place.joinpath(*(safe_name(part) for part in name.split("/")))


def runs_path(path: Path) -> str:
    """A path as JSON can have it, whatever its bytes are."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _files_of(paths: Sequence[Path], reached: "_Reached") -> Iterator[Path]:
    """The files of shards, in their order; those at addresses are fetched a little ahead."""

    def file_of(path: Path) -> Path:
        return fetch(path, reached.add) if isinstance(path, Address) else path

    largest = max((path.stat().st_size for path in paths if isinstance(path, Address)), default=0)
    # where the cache has less room, fetching one would push out another
    ahead = largest and FETCHED_AHEAD * largest < bytecache.limit_bytes() / 2
    return side_by_side(file_of, paths, FETCHED_AHEAD if ahead else 1)


def _unpack(path: Path, file: Path, folder: Path, reader: Reader, reached: "_Reached") -> Content:
    """Unpack a shard from a file: itself, or a copy of it."""
    stamp = _stamp(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(folder.parent)
    with whole_folder(folder) as inner:
        with called(path, file):
            sink = _Files(file, inner, None if isinstance(path, Address) else reached)
            content = reader(file, sink)
            sink.reached(file.stat().st_size)
        found = {"samples": content.samples, "names": content.names, "left_out": content.left_out}
        text = json.dumps({**(stamp or {}), **found})
        (inner / LIST).write_bytes(text.encode("utf-8", "surrogatepass"))
        if folder.is_dir() and _known(path, folder) is None:  # of the shard before it was changed
            old = inner.with_name("old")
            folder.rename(old)
    known = _known(path, folder)
    if known is None and isinstance(path, Address):  # a server that names no versions
        return content
    if known is None:
        raise InputError(f"{path} has changed while it was read", "try again when it is complete")
    return known


def _known(path: Path, folder: Path) -> Content | None:
    """What is unpacked in a folder, if it is this very shard."""
    try:
        value: dict[str, Any] = json.loads((folder / LIST).read_bytes().decode("utf-8", "surrogatepass"))
        stamp = _stamp(path)
        if stamp is None or any(value.get(name) != known for name, known in stamp.items()):
            return None
        samples = tuple(Sample(*sample) for sample in value["samples"])
        left_out = {kind: tuple(names) for kind, names in value["left_out"].items()}
        return Content(samples, tuple(value["names"]), left_out)
    except FileNotFoundError:
        if not isinstance(path, Address) and not path.exists():
            raise InputError(f"there is no file {path}", "expected a shard") from None
        return None
    except (OSError, ValueError, KeyError, TypeError):  # not as it was written: made anew
        return None


def _stamp(path: Path) -> dict[str, Any] | None:
    """What tells a shard from its earlier self; None on a server that names no versions."""
    if isinstance(path, Address):
        size, version = remote.find(path)
        return {"schema": SCHEMA, "size": size, "version": version} if version else None
    status = path.stat()
    return {"schema": SCHEMA, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _require_room(paths: list[Path], place: Path) -> None:
    needed, free = sum(path.stat().st_size for path in paths), shutil.disk_usage(place).free - KEEP_FREE
    if needed > free:
        sizes = f"{max(free, 0) / 1e9:.1f} GB for at least {needed / 1e9:.1f} GB"
        raise SetupError(f"the disk has too little room to unpack the shards ({sizes})",
                         "free some space, or name another disk in IMGCLF_CACHE")  # fmt: skip


class _Reached:
    """The bar of all shards, which counts the bytes that have been read, or fetched by several threads."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._bytes, self._shown, self._lock = bar, 0, 0, threading.Lock()

    def add(self, count: int) -> None:
        """Show that so many bytes more are done."""
        with self._lock:
            self._bytes += count
            self._bar.update(self._bytes // 10**6 - self._shown)
            self._shown = self._bytes // 10**6


class _Files:
    """A `Sink` that writes files, and tells how far a shard has been read where somebody wants to know."""

    def __init__(self, path: Path, folder: Path, reached: _Reached | None) -> None:
        self._folder, self._reached, self._start = folder, reached, len(str(folder)) + 1
        self._position = 0
        self._tree, self._room = Tree(path, folder), Room(path, folder)

    def add(self, parts: tuple[str, ...], pieces: Iterable[bytes]) -> str:
        """Write a file of this name, or of one like it."""
        with self._tree.create(parts) as file:
            for piece in pieces:
                self._room.take(len(piece))
                file.write(piece)
        if self._tree.files % TOUCH_EVERY == 0:
            os.utime(self._folder.parent)
        return os.fspath(file.name)[self._start :].replace(os.sep, "/")  # a million times: Path takes ten times as long

    def drop(self, file: str) -> None:
        """Remove a file again."""
        (self._folder / file).unlink()

    def reached(self, position: int) -> None:
        """Show how far the shard has been read."""
        if self._reached is not None and position > self._position:
            self._reached.add(position - self._position)
            self._position = position
