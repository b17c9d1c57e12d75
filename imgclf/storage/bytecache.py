"""Contents of objects at addresses, kept in the cache folder within bounds. May import cachedir, errors and runs.

One file for each object and version, which appears under its name when it is whole: several processes may read and
write at once, and a kill leaves nothing that counts. What was not read for the longest goes first. Where the disk takes
nothing, nothing is kept.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from imgclf import cachedir
from imgclf.cachedir import cache_folder, remove

FOLDER = "remote"  # in the cache folder
DOWNLOADS = "downloads"  # whole archives, in FOLDER: a folder for each
LIMIT_VARIABLE = "IMGCLF_REMOTE_CACHE_GB"
LIMIT_GB = 10.0  # never more than that
LOWERED = 0.9  # of the limit is left when something has to go
SWEEP_SHARE = 0.05  # of the limit: after so much has been written, a process looks at how much there is
LARGEST_SHARE = 0.25  # of the limit: a larger object is not kept
USED_AGAIN = 3600.0  # seconds; a read that comes sooner after the last one is not noted
STALE_SECONDS = 3600.0  # an unfinished file that has not been touched for so long was left by a kill

_lock = threading.Lock()
_unswept: dict[str, float] = {}  # cache folder -> bytes written since it was looked at; absent: never


def folder() -> Path:
    """Where it all lies."""
    return cache_folder() / FOLDER


def name_of(address: str, size: int | None, version: str) -> str:
    """What the content of an object is kept as."""
    return hashlib.blake2b(f"{address}\n{size}\n{version}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def limit_bytes() -> int:
    """How large it may become: IMGCLF_REMOTE_CACHE_GB, or 10 GB but no more than half of what the disk has to give.

    Raises:
        InputError: the variable is no number.
    """
    return cachedir.limit_bytes(LIMIT_VARIABLE, LIMIT_GB, folder(), used_bytes)


def used_bytes() -> int:
    """How much there is."""
    return sum(size for _, size, _ in _files())


def get(name: str, size: int | None) -> bytes | None:
    """A content that is kept, or None."""
    path = folder() / name[:2] / name
    try:
        data = path.read_bytes()
        if size is not None and len(data) != size:  # the disk was full, or somebody has been there
            path.unlink()
            return None
        if time.time() - path.stat().st_mtime > USED_AGAIN:
            os.utime(path)
        return data
    except OSError:
        return None


def put(name: str, data: bytes) -> None:
    """Keep a content, where it fits."""
    path = folder() / name[:2] / name
    with contextlib.suppress(OSError):
        if not _fits(len(data)):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def sweep(limit: int) -> None:
    """Remove what was not read for the longest until the rest is well within the limit; and what kills have left."""
    files = sorted(_files())
    total = sum(size for _, size, _ in files)
    for _, size, path in files if total > limit else ():
        if total <= LOWERED * limit:
            break
        _remove(path)
        total -= size
    for part in folder().glob("??/.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE_SECONDS:
                part.unlink()


def clear() -> int:
    """Remove everything; returns how many bytes that frees."""
    return remove(folder())


def _fits(size: int) -> bool:
    """Whether an object may be kept; makes room now and then."""
    place = str(folder())
    with _lock:
        due = place not in _unswept
        _unswept[place] = _unswept.get(place, 0.0) + size
        written = _unswept[place]
    limit = _limit(place, due)
    if size > LARGEST_SHARE * limit:
        return False
    if due or written > SWEEP_SHARE * limit:
        with _lock:
            _unswept[place] = 0.0
        _limit(place, True)
        sweep(limit)
    return True


_limits: dict[str, int] = {}


def _limit(place: str, anew: bool) -> int:
    """The limit as it was when the cache was last looked at: asking means to look at every file."""
    if anew or place not in _limits:
        _limits[place] = limit_bytes()
    return _limits[place]


def _files() -> Iterator[tuple[float, int, Path]]:
    """When last used, bytes, the file; a downloaded archive is its folder."""
    try:
        shelves = list(os.scandir(folder()))
    except OSError:
        return
    for shelf in shelves:
        with contextlib.suppress(OSError), os.scandir(shelf.path) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found = entry.stat()
                    size = found.st_size
                    if entry.is_dir():
                        size = sum(file.stat().st_size for file in Path(entry.path).iterdir())
                    yield found.st_mtime, size, Path(entry.path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process was faster, or reads it (Windows)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
