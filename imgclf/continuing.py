"""What an earlier run says to the next training: after a kill, on a grown folder. May import data/, config, runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.inspect import inspect
from imgclf.data.sheet import read_sheet
from imgclf.data.split_file import read_rows
from imgclf.errors import InputError
from imgclf.progress import plural
from imgclf.storage.places import below, place

# What a run passes on to the one that continues it: how its images were read and split. Its network comes with weights.
PASSED_ON = ("head", "dropout", "batch_size", "augment", "flip", "seed", "val_share", "test_share", "group_by",
             "drop_leaks", "loss", "formats", "workers")  # fmt: skip
COMPARISON = "comparison.json"
MOST_NEW = 0.2  # of the training images: with more, what the earlier run found for its head is looked for again


@dataclass(frozen=True)
class Stored:
    """What config.json says of a run.

    Attributes:
        given: the settings as the user gave them.
        chosen: with what the images decided.
        folder: the images.
        notes: what was said to people.
        data_notes: what was said of the images.
        command: what the user typed.
        created: when, ISO 8601.
    """

    given: TrainConfig
    chosen: TrainConfig
    folder: Path
    notes: tuple[str, ...]
    data_notes: tuple[str, ...]
    command: str
    created: str


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a config.json: of a run, with what was decided filled in, or a plain table of settings.

    Raises:
        InputError: no JSON, or not of this form, or written by another version.
    """
    value = runs.read_json(path / runs.CONFIG if path.is_dir() else path)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no settings", "expected the config.json of a run")
    if "settings" not in value:
        return value
    if value.get("schema") != runs.SCHEMA:
        raise InputError(f"{path} was written by imgclf {value.get('imgclf', 'unknown')}",
                         f"this imgclf reads version {runs.SCHEMA} of the file")  # fmt: skip
    decided = value.get("decided", {})
    if value["settings"].get("from_run"):  # which brings these with it
        decided = {name: setting for name, setting in decided.items() if name not in ("weights", "split", "backbone")}
    return {**value["settings"], **decided}


def read_stored(run: runs.Run) -> Stored:
    """Read a run's config.json.

    Raises:
        InputError: it is missing (the run was stopped before its images were split) or not of this version.
    """
    if not (run / runs.CONFIG).is_file() or not (run / runs.SPLIT).is_file():
        raise InputError(f"{run.root} was stopped before its images were split", "train again with --overwrite")
    value = runs.read_json(run / runs.CONFIG)
    try:
        given = TrainConfig.from_json(value["settings"])
        return Stored(
            given, given.replace(**value["chosen"]), place(value["data"]["folder"]), tuple(value["notes"]),
            tuple(value["data"]["notes"]), value["command"], value["created"],
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise InputError(f"{run / runs.CONFIG} is not as imgclf writes it ({error} is missing)",
                         "train again with --overwrite") from None  # fmt: skip


def images_of(run: runs.Run, stored: Stored) -> ImageSet:
    """The images of a run with their parts, as its split.csv has them.

    Raises:
        InputError: an image is gone, or has changed since.
    """
    rows = read_rows(run / runs.SPLIT)
    names = {" ".join(row.label.splitlines()): row.label for row in rows}
    classes = tuple(names.get(name, name) for name in run.classes)
    files = tuple(ImageFile(below(stored.folder, row.path), row.label, row.part, row.key) for row in rows)
    images = inspect(ImageSet(stored.folder, classes, files, listed=True), stored.chosen.workers)
    expected = {file.path: file.key for file in files}
    changed = [image.path for image in images.images if image.key != expected[image.path]]
    if changed:
        raise InputError(f"{plural(len(changed), 'image')} of {run.root} are not as they were, such as {changed[0]}",
                         "bring them back, or train anew")  # fmt: skip
    return images


def require_resumable(run: runs.Run) -> None:
    """Check that a run can be gone on with.

    Raises:
        InputError: it is finished.
    """
    if run.state["state"] == "done":
        raise InputError(f"{run.root} is finished", "to train on with more images: imgclf train DATA --from "
                         f"{run.root}")  # fmt: skip


def continued(config: TrainConfig) -> TrainConfig:
    """The settings of a training that goes on from a finished run (`--from`): its network, its parts, its classes.

    Raises:
        InputError: the run is not finished; or a setting is given that the run decides.
    """
    if config.from_run is None:
        return config
    run = runs.Run.open(Path(config.from_run))
    if not (run / runs.MODEL).is_file():
        raise InputError(f"{run.root} has no trained model ({run.state['state']})", f"finish it: imgclf train --resume "
                         f"{run.root}")  # fmt: skip
    default = TrainConfig()
    for name in ("weights", "split", "backbone"):
        if getattr(config, name) != getattr(default, name):
            raise InputError(f"--{name} and --from exclude each other", f"the run {run.root} brings its own")
    stored = read_stored(run)
    if stored.given.folds is not None:
        raise InputError(f"{run.root} was cross-validated and has no test part to keep", f"train again with --folds, "
                         f"or go on from its network: --weights {run.root}")  # fmt: skip
    passed = {
        name: getattr(stored.given, name) for name in PASSED_ON if getattr(config, name) == getattr(default, name)
    }
    decided = read_settings(run.root)
    top = decided["unfreeze"] if decided["fine_tune_epochs"] else "0"  # what of the backbone is the run's own
    return config.replace(
        **passed, weights=str(run.root.resolve()), split=str(run.root.resolve()),
        fine_tune_epochs=0 if config.fine_tune_epochs is None else config.fine_tune_epochs,
        unfreeze=config.unfreeze if config.unfreeze != "auto" else top,
    )  # fmt: skip


def with_known_classes(images: ImageSet, config: TrainConfig) -> tuple[ImageSet, str]:
    """The classes of the run that is continued first, in their order, then the new ones; and what has changed.

    Returns:
        The images, and a line for people; "" where no run is continued.
    """
    if config.from_run is None:
        return images, ""
    run = runs.Run.open(Path(config.from_run))
    known = run.classes
    names = {" ".join(name.splitlines()): name for name in images.classes}
    kept = [names[name] for name in known if name in names]
    new = [name for name in images.classes if name not in kept]
    gone = [name for name in known if name not in names]
    before = {row.key for row in read_rows(run / runs.SPLIT)}
    usable = images.usable
    more = [image for image in usable if image.key not in before]
    lost = len(before - {image.key for image in usable})
    changes = [f"{plural(len(more), 'new image')}"]
    changes += [f"{plural(lost, 'image')} gone"] if lost else []
    changes += [f"new class {name} ({sum(image.label == name for image in usable)})" for name in new]
    changes += [f"class {name} is gone" for name in gone]
    return replace(images, classes=(*kept, *new)), f"goes on from {config.from_run}: {', '.join(changes)}"


def with_known_head(images: ImageSet, config: TrainConfig) -> tuple[TrainConfig, tuple[str, ...]]:
    """The weight decay and dropout that the run which is continued (`--from`) found for its head.

    A search finds them again on nearly the same images; it is made where much is new, or when it is asked for.

    Args:
        images: with parts.
        config: of the training.

    Returns:
        The settings, and a line for people where something was taken.
    """
    if config.from_run is None or config.fine_tune_epochs or config.head_search is not None:
        return config, ()
    run = runs.Run.open(Path(config.from_run))
    found = runs.read_json(run / runs.CONFIG).get("head")
    before = {row.key for row in read_rows(run / runs.SPLIT)}
    now = images.part("train")
    if not found or sum(image.key not in before for image in now) > MOST_NEW * len(now):
        return config, ()
    given = {name: getattr(config, name) for name in found if getattr(config, name) is not None}
    if any(found[name] != value for name, value in given.items()):
        return config, ()
    line = f"head: weight decay {found['weight_decay']:g}, dropout {found['dropout']:g}, as {config.from_run} found"
    return config.replace(**found), (line,)


@dataclass(frozen=True)
class Comparison:
    """The model of a run and the one that continues it, on the test images of the run.

    Attributes:
        n: how many of them there still are.
        before: how many the old model had right.
        after: how many the new one has.
        lost: right before, wrong now.
        won: wrong before, right now.
    """

    n: int
    before: int
    after: int
    lost: int
    won: int

    def __str__(self) -> str:
        now, then = self.after / self.n, self.before / self.n
        return (f"on the {plural(self.n, 'test image')} of before: {now:.3f} now, {then:.3f} before ({self.won} won, "
                f"{self.lost} lost)")  # fmt: skip


def compare(earlier: Path, images: Sequence[ImageFile], right: Sequence[bool]) -> Comparison | None:
    """Compare with an earlier run on its own test images.

    Args:
        earlier: its folder.
        images: that the new model was measured on.
        right: whether it had each of them right.

    Returns:
        None where the earlier run left no predictions, or none of its test images are among them.
    """
    run = runs.Run.open(earlier)
    if not (run / runs.PREDICTIONS).is_file():
        return None
    columns = {name: (name,) for name in ("path", "label", "prediction")}
    table = read_sheet(run / runs.PREDICTIONS, columns, ("path",), "expected what imgclf wrote", own=True)
    was_right = {cells["path"]: cells["label"] == cells["prediction"] for _, cells in table}
    keys = {row.key: was_right[row.path] for row in read_rows(run / runs.SPLIT) if row.path in was_right}
    pairs = [(keys[image.key], now) for image, now in zip(images, right, strict=True) if image.key in keys]
    if not pairs:
        return None
    counted = Counter(pairs)
    return Comparison(len(pairs), sum(was for was, _ in pairs), sum(now for _, now in pairs), counted[True, False],
                      counted[False, True])  # fmt: skip


def to_json(comparison: Comparison, earlier: Path) -> dict[str, Any]:
    """The comparison as comparison.json has it."""
    return {"earlier": str(earlier), "n": comparison.n, "before": comparison.before / comparison.n,
            "after": comparison.after / comparison.n, "won": comparison.won, "lost": comparison.lost}  # fmt: skip
