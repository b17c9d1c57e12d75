"""How much of the disk the store of activations takes, and what goes first. May import store and the ground modules."""

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from imgclf import cachedir
from imgclf.cachedir import remove
from imgclf.cut.store import ABOUT, KEYS, NETWORK, ROWS, store_folder

LIMIT_VARIABLE = "IMGCLF_CACHE_GB"
LIMIT_GB = 20.0  # never more than that
ORPHAN_SECONDS = 3600.0  # rows that nobody has added to for so long belong to a process that was killed


@dataclass(frozen=True)
class Usage:
    """One space, for people.

    Attributes:
        what: the network and where it is cut.
        rows: images, each reading counted.
        bytes: on disk.
        used: seconds since the epoch, when it was last read or written.
    """

    what: str
    rows: int
    bytes: int
    used: float


def limit_bytes() -> int:
    """How large the store may become: IMGCLF_CACHE_GB, or 20 GB but no more than half of what the disk has to give.

    Raises:
        InputError: the variable is no number.
    """
    return cachedir.limit_bytes(LIMIT_VARIABLE, LIMIT_GB, store_folder(), lambda: sum(size for _, size, _ in _files()))


def make_room(needed: int) -> None:
    """Remove the longest unused segments until so many bytes more are within the limit."""
    files = sorted(_files())
    total = sum(size for _, size, _ in files) + needed
    most = limit_bytes()
    for _, size, keys in files:
        if total <= most:
            break
        total -= _remove(keys, size)
    for rows in store_folder().glob(f"*/*{ROWS}"):
        with contextlib.suppress(OSError):
            if not rows.with_suffix(KEYS).exists() and time.time() - rows.stat().st_mtime > ORPHAN_SECONDS:
                rows.unlink()


def usage() -> list[Usage]:
    """Every space of the store, the longest unused first."""
    found = []
    for folder in sorted(store_folder().glob("*")):
        files = [file for file in _files() if file[2].parent == folder]
        if files:
            rows = sum(_count(file[2]) for file in files if file[2].name != NETWORK)
            try:
                about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
                what = str(about.get("what", folder.name))
            except (OSError, ValueError, AttributeError):
                what = folder.name
            found.append(Usage(what, rows, sum(file[1] for file in files), max(file[0] for file in files)))
    return sorted(found, key=lambda item: item.used)


def clear() -> int:
    """Remove the whole store; returns how many bytes that frees."""
    return remove(store_folder())


def _count(keys: Path) -> int:
    try:
        return keys.read_bytes().count(b"\n") + 1
    except OSError:  # another process has just removed it
        return 0


def _files() -> list[tuple[float, int, Path]]:
    """Finished segments and converted networks: when last used, bytes, the file (of a segment that of its keys)."""
    found = []
    for keys in store_folder().glob(f"*/*{KEYS}"):
        with contextlib.suppress(OSError):
            found.append((keys.stat().st_mtime, keys.with_suffix(ROWS).stat().st_size + keys.stat().st_size, keys))
    for network in store_folder().glob(f"*/{NETWORK}"):
        with contextlib.suppress(OSError):
            found.append((network.stat().st_mtime, network.stat().st_size, network))
    return found


def _remove(file: Path, size: int) -> int:
    """Remove a converted network, or a segment, its keys first; returns the bytes that are free now."""
    try:
        file.unlink()
        if file.name != NETWORK:
            file.with_suffix(ROWS).unlink()
    except OSError:  # in use (Windows), or gone
        return 0
    return size
