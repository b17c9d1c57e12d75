"""Where weights are: in Keras' cache, in an earlier run. Imports no TensorFlow."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imgclf import runs
from imgclf.models import pretrained


@dataclass(frozen=True)
class CachedFile:
    """One weights file of the table.

    Attributes:
        name: of the backbone, with its width where it has several.
        size: image size in pixels that it was trained at; 0 where one file serves all.
        path: where it is, or would be.
        megabytes: 10^6 bytes.
        url: where it comes from.
    """

    name: str
    size: int
    path: Path
    megabytes: float
    url: str

    def __str__(self) -> str:
        state = "cached " if self.path.is_file() else "missing"
        at = f" at {self.size} px" if self.size else ""
        return f"{state}  {self.name + at:<34} {self.megabytes:>6.1f} MB  {self.path.name}  {self.url}"


def keras_home() -> Path:
    """Where Keras keeps its files: the environment variable KERAS_HOME, or .keras in the home folder."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()


def run_of(weights: str | Path | None) -> Path | None:
    """The run folder that `--weights` means: the folder itself or the model in it; None for anything else."""
    if weights in (None, "none", "imagenet"):
        return None
    path = Path(str(weights)).expanduser()
    root = path.parent if path.name == runs.MODEL else path
    return root if (root / runs.MODEL).is_file() and (root / runs.STATE).is_file() else None


def cache_table() -> Iterator[CachedFile]:
    """Every weights file that the table of networks knows."""
    for row in pretrained.ROWS:
        for variant in row.variants:
            name = f"{row.name} {variant.alpha:g}" if len(row.variants) > 1 else row.name
            for size in variant.sizes or (0,):
                file = row.weights_name(variant, size or row.default_size)
                yield CachedFile(name, size, keras_home() / "models" / file, variant.weights_mb,
                                 row.weights_url(variant, size or row.default_size))  # fmt: skip
