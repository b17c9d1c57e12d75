"""What a training will do, decided before it starts and said in plain words. May import models/ and TensorFlow."""

import json
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from imgclf import runs
from imgclf.cachedir import cache_folder
from imgclf.config import TrainConfig
from imgclf.errors import ImgclfError
from imgclf.models.anatomy import anatomy, summed
from imgclf.models.build import IMAGE, Cut, cut_layer
from imgclf.models.network import Network
from imgclf.models.row import Backbone
from imgclf.progress import plural

# What fine-tuning may cost where nobody says otherwise: multiply-adds above the cut, forward and for all images of all
# epochs. 6 epochs of MobileNetV2's upper blocks on 3,000 photos. No clock is asked: the plan is the same everywhere.
FINE_TUNE_WORK = 1.4e12
FINE_TUNE_EPOCHS = (2, 8)  # never fewer, never more
COARSE = 16  # how much coarser than the image the maps are that may be fine-tuned where the work allows it
VIEWS = 3  # readings of each training image: as it is, and varied twice; eight were no better (docs/benchmarks.md)
SCRATCH_SECONDS = 240.0
SCRATCH_EPOCHS = (10, 24)


@dataclass(frozen=True)
class TransferPlan:
    """How a training from pretrained weights will run.

    Attributes:
        cut: what fine-tuning trains.
        epochs: of fine-tuning; 0 for the head alone.
        views: readings of each training image that are computed once; 0: freshly varied ones every epoch.
    """

    cut: Cut
    epochs: int
    views: int

    def __str__(self) -> str:
        blocks = self.cut.blocks
        what = "the whole network" if blocks is None else f"the top {plural(blocks, 'block')}"
        of = f"{plural(self.views, 'view')} of each image" if self.views else "freshly varied images"
        return f"fine-tuning {what}, {plural(self.epochs, 'epoch')}, {of}"


def plan_transfer(config: TrainConfig, row: Backbone, cut: Cut, network: Network, images: int) -> TransferPlan:
    """Decide what the settings leave open.

    Args:
        config: the settings.
        row: the backbone's row.
        cut: what `--unfreeze` says.
        network: to count multiply-adds in.
        images: for training.
    """
    if config.fine_tune_epochs == 0:
        return TransferPlan(cut, 0, 1 if config.views is None or config.augment == "none" else max(1, config.views))
    epochs = config.fine_tune_epochs
    if epochs is None:
        work = {name: images * macs for name, macs in multiply_adds_above(network).items()}
        least = FINE_TUNE_EPOCHS[0]
        if config.unfreeze == "auto" and row.cuts:
            # a large network on many images: fewer blocks rather than hours
            while (cut.blocks or 0) > 1 and least * work[cut.layer or IMAGE] > 2 * FINE_TUNE_WORK:
                cut = cut_layer(row, str((cut.blocks or 0) - 1), network.backbone)
        epochs = epochs_within(FINE_TUNE_WORK, work[cut.layer or IMAGE], FINE_TUNE_EPOCHS)
    if config.unfreeze == "auto" and row.cuts:
        cut = _deeper(row, cut, network, epochs, images)
    views = config.views
    if views is None:
        # a teacher looks at cached views only
        fresh = bool(tf.config.list_physical_devices("GPU")) and config.teacher is None
        views = 0 if cut.layer is None or fresh else min(VIEWS, max(1, epochs))
    if cut.layer is None:
        views = 0
    elif config.augment == "none":
        views = 1
    return TransferPlan(cut, epochs, views)


def _deeper(row: Backbone, cut: Cut, network: Network, epochs: int, images: int) -> Cut:
    """The deepest cut that leaves as many epochs: few or small images, a small network can be fine-tuned nearly whole.

    Only where maps are a sixteenth of the image's side or less: lower layers cost little to compute and much to read
    and write, and training them gained little (docs/benchmarks.md).
    """
    above, side = multiply_adds_above(network), network.backbone.input_shape[1]
    for blocks in range((cut.blocks or 0) + 1, len(row.cuts) + 1):
        deeper = cut_layer(row, str(blocks), network.backbone)
        assert deeper.layer is not None
        shape = network.backbone.get_layer(deeper.layer).output.shape
        if epochs * images * above[deeper.layer] > FINE_TUNE_WORK or COARSE * shape[1] > side + COARSE - 1:
            break
        cut = deeper
    return cut


def multiply_adds_above(network: Network) -> dict[str, int]:
    """For every layer where the backbone can be cut: multiply-adds of one image above it."""
    above, table = 0, {}
    for facts in reversed(summed(anatomy(network.backbone))):
        table[facts.name] = above
        above += facts.multiply_adds
    return {**table, IMAGE: above}


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
