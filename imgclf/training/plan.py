"""What a training will do, decided before it starts and said in plain words. May import the ground modules only."""

import json
from dataclasses import dataclass
from pathlib import Path

from imgclf import runs
from imgclf.cachedir import cache_folder
from imgclf.errors import ImgclfError
from imgclf.progress import duration, plural

FINE_TUNE_SECONDS = 180.0  # what the default fine-tuning may take: "a few thousand photos in a few minutes"
FINE_TUNE_EPOCHS = (2, 8)  # never fewer, never more
SCRATCH_SECONDS = 240.0
SCRATCH_EPOCHS = (10, 24)


@dataclass(frozen=True)
class FineTunePlan:
    """How the fine-tuning stage will run.

    Attributes:
        blocks: how many blocks of the backbone train, from the top; None for all of it.
        epochs: how many.
        seconds: how long that should take; None when nothing was measured.
    """

    blocks: int | None
    epochs: int
    seconds: float | None

    def __str__(self) -> str:
        what = "the whole network" if self.blocks is None else f"the top {plural(self.blocks, 'block')}"
        about = "" if self.seconds is None else f", about {duration(self.seconds)}"
        return f"fine-tuning {what}, {plural(self.epochs, 'epoch')}{about}"


def epochs_within(budget: float, epoch_seconds: float, limits: tuple[int, int]) -> int:
    """As many epochs as the budget allows, within the limits (both inclusive)."""
    low, high = limits
    return max(low, min(high, int(budget / max(epoch_seconds, 1e-6))))


class SpeedNotes:
    """What was measured on this computer, kept in the platform's cache folder.

    A plan is made from a measurement, and two measurements are never the same: remembering the first makes the second
    run with the same seed the same run. A missing or damaged file only means measuring again.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or cache_folder()) / "speed.json"

    def get(self, key: str) -> float | None:
        """Seconds noted under the key, or None."""
        value = self._read().get(key)
        return float(value) if isinstance(value, (int, float)) else None

    def put(self, key: str, seconds: float) -> None:
        """Note seconds under the key; a cache folder that cannot be written is no error."""
        try:
            runs.write_json(self.path, {**self._read(), key: round(seconds, 5)})
        except ImgclfError:
            return

    def _read(self) -> dict[str, object]:
        try:
            notes = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}
