"""The diary of a training as a value: read from history.csv, shown as a table and as curves. Imports no TensorFlow."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf import notebook
from imgclf.errors import InputError
from imgclf.notebook import Cell
from imgclf.progress import duration
from imgclf.training.epoch import METRICS, Epoch

if TYPE_CHECKING:
    from imgclf.showing import Drawing

STAGE_TITLES = {"head": "head", "fine-tune": "fine-tuning", "average": "average", "training": "training"}
HEAD = ("stage", "epoch", "loss", "val loss", "accuracy", "val accuracy", "learning rate", "time")


@dataclass(frozen=True)
class History:
    """Every epoch of a training, in order.

    Attributes:
        rows: one per epoch; at most one of them is kept.
    """

    rows: tuple[Epoch, ...]

    @classmethod
    def read(cls, path: Path) -> "History":
        """The history of a history.csv.

        Raises:
            InputError: there is none, or it is not one.
        """
        if not path.is_file():
            raise InputError(f"there is no {path}", "it is written when a training ends; run `imgclf train` to the end")
        try:
            with path.open(encoding="utf-8", newline="") as handle:
                return cls(tuple(_epoch(row) for row in csv.DictReader(handle)))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not a history of imgclf ({error})",
                             "expected what a training writes; train again") from error  # fmt: skip

    @property
    def stages(self) -> tuple[tuple[Epoch, ...], ...]:
        """The rows of each stage; a stage begins anew where its epochs do (at another image size)."""
        found: list[list[Epoch]] = []
        for row in self.rows:
            if not found or row.stage != found[-1][-1].stage or row.epoch <= found[-1][-1].epoch:
                found.append([])
            found[-1].append(row)
        return tuple(map(tuple, found))

    @property
    def kept(self) -> Epoch | None:
        """The epoch whose weights are the model's; None where there is none."""
        return next((row for row in self.rows if row.kept), None)

    def plot(self) -> "Drawing":
        """Accuracy and loss of all stages as a matplotlib figure, with the epoch that was kept.

        Raises:
            InputError: there are no epochs.
        """
        from imgclf.showing import Curves, draw_curves

        if not self.rows:
            raise InputError("the history is empty", "train for at least one epoch")
        names = ("accuracy", "loss")
        return draw_curves([
            Curves(stage_title(stage[0].stage), {name: [row.train[name] for row in stage] for name in names},
                   {name: [row.val[name] for row in stage] for name in names},
                   next((at for at, row in enumerate(stage) if row.kept), None))
            for stage in self.stages
        ], names)  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        rows = [HEAD, *(_cells(row) for row in self.rows)]
        widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD))]
        return "\n".join([self._headline(), "", *(
            "  ".join(f"{cell:{width}}" if not at else f"{cell:>{width}}"
                      for at, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows
        )])  # fmt: skip

    def _repr_html_(self) -> str:
        shown = self.rows if len(self.rows) <= notebook.SHOWN_ROWS else self._telling()
        hidden = len(self.rows) - len(shown)
        more = f"without {hidden} of {len(self.rows)} epochs; .rows has all, .plot() draws them" if hidden else ""
        rows = [[Cell(cell) for cell in _cells(row)] for row in shown]
        return notebook.paragraph(self._headline()) + notebook.table(HEAD, rows, more)

    def _telling(self) -> Sequence[Epoch]:
        """What is shown of a long training: the first and the last epochs of each stage and the one that was kept."""
        each = max(1, notebook.SHOWN_ROWS // (2 * len(self.stages)))
        return [row for stage in self.stages for at, row in enumerate(stage)
                if at < each or at >= len(stage) - each or row.kept]  # fmt: skip

    def _headline(self) -> str:
        stages = [f"{stage_title(name)} {len(list(rows))}" for name, rows in groupby(self.rows, lambda row: row.stage)]
        seconds = duration(sum(row.seconds for row in self.rows))
        text = f"{len(self.rows)} epochs in {seconds} ({', '.join(stages)})" if self.rows else "no epochs"
        kept = self.kept
        if kept is None:
            return text
        accuracy = f"validation accuracy {kept.val['accuracy']:.3f}"
        return f"{text}; kept: {stage_title(kept.stage)} epoch {kept.epoch}, {accuracy}"


def stage_title(stage: str) -> str:
    """A stage as people call it: `fine-tune 2` is fine-tuning 2."""
    name, *number = stage.split(" ")
    return " ".join((STAGE_TITLES.get(name, name), *number))


def _cells(row: Epoch) -> tuple[str, ...]:
    measures = (row.train["loss"], row.val["loss"], row.train["accuracy"], row.val["accuracy"])
    return (
        stage_title(row.stage),
        f"{row.epoch}{' (kept)' if row.kept else ''}",
        *(f"{value:.3f}" for value in measures),
        f"{row.learning_rate:.2g}",
        f"{row.seconds:.2g} s" if row.seconds < 60 else duration(row.seconds),
    )


def _epoch(row: dict[str, str]) -> Epoch:
    return Epoch(
        stage=row["stage"],
        epoch=int(row["epoch"]),
        train={name: float(row[name]) for name in METRICS},
        val={name: float(row[f"val_{name}"]) for name in METRICS},
        learning_rate=float(row["learning_rate"]),
        seconds=float(row["seconds"]),
        kept=row["kept"] == "1",
    )
