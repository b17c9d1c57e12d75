"""What a run writes about itself: config.json and history.csv. May import data/, config, runs, training/epoch."""

import hashlib
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from imgclf import __version__, runs
from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageSet
from imgclf.storage.places import place
from imgclf.training.epoch import METRICS, Epoch

LIBRARIES = ("tensorflow", "keras", "keras-cv", "ai-edge-litert", "numpy", "pillow", "scikit-learn")


@dataclass(frozen=True)
class Settings:
    """The settings of a run, for its config.json.

    Attributes:
        given: as the user gave them.
        chosen: with what the images decided.
        notes: why.
        command: what the user typed.
        about: what there is to say of the images.
        created: when the run began, ISO 8601.
        deadline: when it must be over, by `time.monotonic`; None: whenever.
    """

    given: TrainConfig
    chosen: TrainConfig
    notes: tuple[str, ...]
    command: str
    about: tuple[str, ...]
    created: str
    deadline: float | None = None


def write_config(
    run: runs.Run, images: ImageSet, settings: Settings, config: TrainConfig, notes: Sequence[str] = (),
    parameters: int | None = None, head: dict[str, float] | None = None,
) -> None:  # fmt: skip
    """Write config.json: the settings as given and as decided, why, the command, the images, the libraries' versions.

    Args:
        run: the run.
        images: with parts.
        settings: of the run.
        config: everything decided so far.
        notes: what the training has said, besides those of the settings.
        parameters: weights of the network; None while there is none.
        head: what a training that goes on from this run may hold its head in bounds by.
    """
    given = _found_again(settings.given)
    runs.write_json(
        run / runs.CONFIG,
        {
            "schema": runs.SCHEMA,
            "imgclf": __version__,
            "created": settings.created,
            "command": settings.command,
            "settings": given,
            "chosen": _differences(given, _found_again(settings.chosen)),
            "decided": _differences(given, _found_again(config)),
            "notes": list(dict.fromkeys((*settings.notes, *notes))),
            "parameters": parameters,
            "head": head,
            "data": {"folder": str(images.root.resolve()), "fingerprint": fingerprint(images),
                     "notes": list(settings.about)},
            "versions": versions(),
        },
    )  # fmt: skip


def _found_again(config: TrainConfig) -> dict[str, Any]:
    """The settings with the paths that are found from any folder."""
    values = config.to_json()
    for name in ("csv", "fixes", "split", "from_run", "teacher", "weights"):
        if values[name] and (name != "weights" or Path(values[name]).exists()):
            values[name] = str(place(values[name]).resolve())
    return values


def _differences(given: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != given[name]}


def write_history(run: runs.Run, history: Sequence[Epoch]) -> None:
    """Write history.csv: one row per epoch, metrics to six digits, the learning rate at its end, seconds, 1 if kept."""
    header = ["stage", "epoch", *METRICS, *(f"val_{name}" for name in METRICS), "learning_rate", "seconds", "kept"]
    rows = [
        [row.stage, row.epoch, *(f"{row.train[name]:.6f}" for name in METRICS),
         *(f"{row.val[name]:.6f}" for name in METRICS), f"{row.learning_rate:.3g}", f"{row.seconds:.2f}", int(row.kept)]
        for row in history
    ]  # fmt: skip
    runs.write_csv(run / runs.HISTORY, header, rows)


def fingerprint(images: ImageSet) -> str:
    """A hash of what was trained and tested on: every usable image's content, label and part; 16 hexadecimal digits."""
    lines = sorted(f"{image.key} {image.part} {image.label}" for image in images.usable)
    return hashlib.blake2b("\n".join(lines).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def versions() -> dict[str, str]:
    """Python's and the libraries' versions."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
