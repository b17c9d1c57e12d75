"""What a training needs to go on where it stopped, in one file. May import NumPy and the ground modules.

Arrays and JSON only: nothing in the file is ever executed.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgclf import runs
from imgclf.errors import InputError
from imgclf.training.epoch import Epoch

FILE = "latest.npz"
FACTS = "facts"
GROUPS = ("model", "optimizer", "metrics", "average", "best", "members")


@dataclass(frozen=True)
class Progress:
    """Where a stage is.

    Attributes:
        stage: its name.
        epoch: how many epochs are complete.
        step: steps done of the next one.
        best_loss: lowest validation loss so far.
        best_epoch: the epoch that gave it; 0 for the weights the stage began with.
        lowered: the epoch after which the learning rate was lowered last.
        rows: of the complete epochs.
        arrays: for each of GROUPS the values of its variables, in their order.
    """

    stage: str
    epoch: int
    step: int
    best_loss: float
    best_epoch: int
    lowered: int
    rows: tuple[Epoch, ...]
    arrays: dict[str, list[Any]]


class Saved(NamedTuple):
    """A checkpoint: the progress of its stage, and what the training had decided and seen before."""

    progress: Progress
    facts: dict[str, Any]


def save(folder: Path, progress: Progress, facts: dict[str, Any]) -> None:
    """Write a checkpoint in the place of the one before.

    Raises:
        SetupError: the disk is full; the one before is still there.
    """
    state = asdict(progress)
    arrays = state.pop("arrays")
    if state["best_loss"] == float("inf"):
        state["best_loss"] = None
    named = {f"{group}/{index}": np.asarray(value) for group in GROUPS for index, value in enumerate(arrays[group])}
    text = json.dumps({"schema": runs.SCHEMA, "progress": state, "facts": facts})
    named[FACTS] = np.frombuffer(text.encode(), np.uint8)
    with runs.writing(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, **named)  # type: ignore[arg-type]  # numpy's stub takes one of them for allow_pickle


def load(folder: Path) -> Saved | None:
    """Read the checkpoint of a folder; None where there is none.

    Raises:
        InputError: it is damaged, or of another version of imgclf.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            told = json.loads(content[FACTS].tobytes().decode())
            if told["schema"] != runs.SCHEMA:
                raise InputError(f"{path} is of another version of imgclf", "train again with --overwrite")
            sizes = {group: sum(name.startswith(f"{group}/") for name in content.files) for group in GROUPS}
            arrays = {group: [content[f"{group}/{index}"] for index in range(sizes[group])] for group in GROUPS}
        state = told["progress"]
        rows = tuple(Epoch(**row) for row in state.pop("rows"))
        best = state.pop("best_loss")
        progress = Progress(**state, rows=rows, arrays=arrays, best_loss=float("inf") if best is None else best)
        return Saved(progress, told["facts"])
    except InputError:
        raise
    except Exception as error:  # zip, JSON and NumPy have an error each
        raise InputError(f"{path} is damaged ({error})", "train again with --overwrite") from None
