"""Where imgclf keeps what can be made again: measurements, unpacked archives. May import platformdirs only."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The cache folder: the environment variable IMGCLF_CACHE, or the platform's own. It need not exist."""
    given = os.environ.get("IMGCLF_CACHE")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("imgclf", appauthor=False))
