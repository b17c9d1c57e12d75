"""Every epoch as it ends, for TensorBoard. May import TensorFlow, which writes its files without TensorBoard.

A chart per stage and measure ("fine-tune/accuracy") holds two curves, `train` and `validation`, after the folders that
their files are in; the learning rate is a chart with one.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from imgclf.progress import say, warn
from imgclf.training.epoch import Epoch

TRAIN, VALIDATION = "train", "validation"
RATE = "learning_rate"

Point = tuple[str, str, int]  # curve, chart, step


@contextmanager
def watcher(folder: Path) -> Iterator[Callable[[Epoch], None]]:
    """What writes an epoch into a folder, when it is told of it; the files are closed when the block ends.

    Epochs that an earlier start of the same training has written (before a kill) are not written again. A disk that
    takes nothing ends the writing, with a warning, and not the training.

    Args:
        folder: made where it is not there.
    """
    say(f"watch it with: tensorboard --logdir {folder} (pip install tensorboard)")
    events = _Events(folder)
    try:
        yield events
    finally:
        events.close()


def complete(folder: Path, history: Iterable[Epoch]) -> None:
    """Write what nobody was told of while it trained: an epoch at whose end a kill came, the average of an ensemble."""
    events = _Events(folder)
    for row in history:
        events(row)
    events.close()


class _Events:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = set(_read(folder))
        self.writers: dict[str, Any] | None = {}
        self.stage, self.last, self.before = "", 0, 0

    def __call__(self, row: Epoch) -> None:
        if row.stage != self.stage:
            self.stage, self.last, self.before = row.stage, 0, 0
        if row.epoch <= self.last:  # the stage begins anew, at its full image size
            self.before += self.last
        self.last = row.epoch
        curves = {TRAIN: {**row.train, RATE: row.learning_rate}, VALIDATION: row.val}
        for curve, values in curves.items():
            charts = {f"{row.stage}/{name}": value for name, value in values.items()}
            self._write(curve, charts, self.before + row.epoch)

    def _write(self, curve: str, values: dict[str, float], step: int) -> None:
        new = {chart: value for chart, value in values.items() if (curve, chart, step) not in self.written}
        if self.writers is None or not new:
            return
        try:
            if curve not in self.writers:
                self.writers[curve] = tf.summary.create_file_writer(str(self.folder / curve))
            with self.writers[curve].as_default():
                for chart, value in new.items():
                    tf.summary.write(chart, tf.constant(value, tf.float32), step, _scalar())
            self.writers[curve].flush()
        except (tf.errors.OpError, OSError) as error:
            warn(f"nothing more is written for TensorBoard: {str(error).splitlines()[0]}")
            self.writers = None

    def close(self) -> None:
        for writer in (self.writers or {}).values():
            writer.close()


def _scalar() -> Any:
    """What tells TensorBoard to draw a curve; `tf.summary.scalar` says the same, but wants TensorBoard installed."""
    metadata = tf.compat.v1.SummaryMetadata
    return metadata(plugin_data=metadata.PluginData(plugin_name="scalars"), data_class="DATA_CLASS_SCALAR")


def _read(folder: Path) -> Iterator[Point]:
    """What the event files of a folder hold; a file that a kill has cut short is read as far as it goes."""
    for path in sorted(folder.glob("*/events.out.tfevents.*")):
        try:
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    yield path.parent.name, value.tag, event.step
        except (tf.errors.OpError, OSError):
            continue
