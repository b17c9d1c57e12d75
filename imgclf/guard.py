"""What keeps a run folder, and what lies in it, from harm. May import continuing, data/, runs and what is below."""

import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgclf import interrupts, runs
from imgclf.config import TrainConfig
from imgclf.continuing import read_settings
from imgclf.data.imageset import ImageSet
from imgclf.data.split_file import SplitRow, read_rows
from imgclf.errors import CheckFailed, ImgclfError, InputError, Interrupted

SPLIT_SETTINGS = ("seed", "val_share", "test_share", "folds", "group_by")  # that decide who is in which part


def require_apart(images: ImageSet, out: Path, overwrite: bool) -> None:
    """Check that the run folder does not lie among the images, nor they in it."""
    ours = out.resolve()
    if images.listed:
        inside = next(
            (image for image in images.images if overwrite and image.path.resolve().is_relative_to(ours)), None
        )
        if inside is not None:
            raise InputError(f"{inside.path} lies inside {out}, which --overwrite would empty", "choose another --out")
        return
    theirs = images.root.resolve()
    if ours.is_relative_to(theirs):
        raise InputError(f"{out} lies inside the image folder {images.root}",
                         "choose a run folder elsewhere with --out")  # fmt: skip
    if overwrite and theirs.is_relative_to(ours):
        raise InputError(f"the images {images.root} lie inside {out}, which --overwrite would empty",
                         "choose another --out")  # fmt: skip


def require_kept(out: Path, *files: str | Path | None) -> None:
    """Check that --overwrite would not take what the user has made: a table, an archive, decisions."""
    own = {(out / name).resolve() for name in (runs.SPLIT, runs.CONFIG, runs.HISTORY, runs.PREDICTIONS)}
    for file in files:
        path = Path(file).resolve() if file else None
        if path is not None and path.is_file() and path.is_relative_to(out.resolve()) and path not in own:
            raise InputError(f"{file} lies inside {out}, which --overwrite would empty",
                             "move it elsewhere or choose another --out")  # fmt: skip


def require_outside(out: Path, what: str, path: Path) -> None:
    """Check that --overwrite would not take what is to be read."""
    if path.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{out} holds {what}", "choose another --out")


def require_teacher(root: Path, classes: tuple[str, ...]) -> runs.Run:
    """Open a run that is to teach.

    Raises:
        InputError: no finished run, or one of other classes.
    """
    run = runs.Run.open(root)
    if not (run / runs.MODEL).is_file():
        raise InputError(f"the teacher {root} has no trained model", "name a finished run")
    if set(run.classes) != set(classes):
        raise InputError(f"the teacher {root} knows the classes {', '.join(run.classes[:6])}",
                         f"expected those of the images: {', '.join(classes[:6])}")  # fmt: skip
    return run


def earlier_split(out: Path, images: ImageSet, config: TrainConfig) -> tuple[SplitRow, ...]:
    """The split of the run that is to be replaced, if it was made of the same folder in the same way."""
    try:
        settings = read_settings(out)
        same = all(settings.get(name) == getattr(config, name) for name in SPLIT_SETTINGS)
        folder = runs.read_json(out / runs.CONFIG)["data"]["folder"]
        return read_rows(out / runs.SPLIT) if same and folder == str(images.root.resolve()) else ()
    except (ImgclfError, KeyError, TypeError):  # no finished run, or a damaged one
        return ()


@contextmanager
def guarded(run: runs.Run) -> Iterator[None]:
    """Leave no half-made run: whatever fails before there is a model takes the folder with it."""
    try:
        with interrupts.heeded():
            yield
    except KeyboardInterrupt:
        kept = _give_up(run, "interrupted")
        after = f"go on with `imgclf train --resume {run.root}`" if kept else (
            "nothing was trained yet; start again with the same command"
        )  # fmt: skip
        raise Interrupted("interrupted", after) from None
    except Interrupted:
        raise
    except CheckFailed:
        if not (run / runs.MODEL).is_file():  # otherwise only a mobile file was refused
            _give_up(run, "failed")
        raise
    except ImgclfError:
        _give_up(run, "failed")
        raise
    except OSError as error:
        _give_up(run, "failed")
        raise runs.disk_error(error, run.root) from error
    except BaseException:
        # a bug: the log stays, so that it can be reported
        runs.write_text(run / runs.LOG, traceback.format_exc())
        run.set_state("failed")
        raise


def _give_up(run: runs.Run, state: str) -> bool:
    """Mark a run that can be gone on with, remove one that cannot; whether it can."""
    kept = (runs.MODEL, f"{runs.CHECKPOINTS}/*", f"*/*/{runs.CHECKPOINTS}/*", f"*/*/{runs.PREDICTIONS}")  # or of a fold
    if any(True for pattern in kept for _ in run.root.glob(pattern)):
        run.set_state(state)
        return True
    shutil.rmtree(run.root, ignore_errors=True)
    return False
