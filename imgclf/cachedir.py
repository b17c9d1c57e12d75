"""Where imgclf keeps what can be made again: measurements, unpacked archives. May import platformdirs and runs."""

import os
import shutil
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The cache folder: the environment variable IMGCLF_CACHE, or the platform's own. It need not exist."""
    given = os.environ.get("IMGCLF_CACHE")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("imgclf", appauthor=False))


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
