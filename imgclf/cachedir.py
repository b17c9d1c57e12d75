"""Where imgclf keeps what can be made again: measurements, unpacked archives. May import platformdirs, errors, runs."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import platformdirs

from imgclf.errors import InputError


def cache_folder() -> Path:
    """The cache folder: the environment variable IMGCLF_CACHE, or the platform's own. It need not exist."""
    given = os.environ.get("IMGCLF_CACHE")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("imgclf", appauthor=False))


DISK_SHARE = 0.5  # of what is free, or a part of the cache's own: never more than that
UNPACKED = ("bundles", "shards")  # folders of images out of archives and shards; runs that were made of them link there


def used_bytes(folder: Path) -> int:
    """What all files below a folder take; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0


def remove(folder: Path) -> int:
    """Remove a folder of the cache; returns how many bytes that frees.

    Raises:
        SetupError: it cannot be removed.
    """
    from imgclf import runs

    freed = used_bytes(folder)
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise runs.disk_error(error, folder) from error
    return freed


def limit_bytes(variable: str, gigabytes: float, folder: Path, own: Callable[[], int]) -> int:
    """How large a part of the cache may become: what a variable says, or a limit, or half of what the disk has to give.

    Args:
        variable: the environment variable, in gigabytes.
        gigabytes: the most without it.
        folder: where the part lies; it need not exist.
        own: gives the bytes that it takes already; asked where the variable is not set.

    Raises:
        InputError: the variable is no number.
    """
    given = os.environ.get(variable)
    if given:
        try:
            limit = int(float(given) * 1e9)
        except (ValueError, OverflowError):
            limit = -1
        if limit < 0:
            raise InputError(f"{variable} is {given!r}", "expected a number of gigabytes")
        return limit
    while not folder.exists():
        folder = folder.parent
    return int(min(gigabytes * 1e9, DISK_SHARE * (shutil.disk_usage(folder).free + own())))
