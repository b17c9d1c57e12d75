"""From a folder, or from an interrupted run, to a finished run: what must hold before work begins, and in what order.
May import everything below the command line; TensorFlow comes in only when the data has been found to be good.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from imgclf import runs
from imgclf.config import TrainConfig
from imgclf.continuing import continued, images_of, read_stored, require_resumable, with_known_classes, with_known_head
from imgclf.data.announce import announce, data_notes, finding_notes
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.prepare import prepare, with_folds, with_parts
from imgclf.data.split_file import SplitRow
from imgclf.evaluation.threshold import Rule
from imgclf.export.convert import Converter
from imgclf.folds import train_folds, write_folds
from imgclf.guard import earlier_split, guarded, require_apart, require_kept, require_outside, require_teacher
from imgclf.measuring import trained_on
from imgclf.models import backbones
from imgclf.models.own import find_builder
from imgclf.noise import import_tensorflow
from imgclf.one_run import Outcome, early_converter, train_run, write_beginning
from imgclf.progress import parse_duration, say, warn
from imgclf.records import Settings
from imgclf.storage import mirror
from imgclf.training.choose import choose
from imgclf.workers.parallel import prepare_elsewhere

IMAGES_PER_WORKER = 128  # fewer on another machine are not worth the start of its TensorFlow


def train_folder(
    data: Path | None, out: Path, config: TrainConfig, *, overwrite: bool = False, command: str = ""
) -> Outcome:
    """Train on a folder of labelled images and leave a finished run folder.

    Args:
        data: the images (a folder, a table, an archive; None where the settings name a table); nothing in it is
            touched.
        out: the run folder to make, on this computer or at an address.
        config: the settings.
        overwrite: replace an earlier run at `out`, once the data has been found to be good.
        command: what the user typed, for the record.

    Raises:
        InputError, SetupError: nothing is left behind at `out`.
        CheckFailed: an exported file does not behave like the model; everything else is there.
        Interrupted: Ctrl-C; the best weights so far are in the run folder, or there is none.
    """
    mirror.require_apart(data, out, config)
    with mirror.making(out, overwrite) as here:
        return _train_folder(data, here, mirror.with_runs_here(config), overwrite, command)


def _train_folder(data: Path | None, out: Path, config: TrainConfig, overwrite: bool, command: str) -> Outcome:
    deadline = _deadline(config)
    replaced = runs.require_free(out, overwrite)
    given, config = config, continued(config)
    if config.from_run is not None and data is None and config.csv is None:
        data = read_stored(runs.Run.open(Path(config.from_run))).folder
    if replaced:
        require_kept(out, data, config.csv, config.fixes, config.split, *sorted(out.glob("*.csv")))
    if data is not None and data.is_dir():
        require_apart(ImageSet(data, (), ()), out, overwrite)  # before the images are read
    if config.backbone != "auto":  # what is wrong with the settings is said before the images are read
        row = backbones.get(config.backbone)
        backbones.check_size(row, config.image_size or row.default_size)
    Rule.parse(config.threshold)
    prepared = prepare(data, config)
    require_apart(prepared.checkup.images, out, overwrite)
    folds: list[ImageSet] = []
    earlier: tuple[SplitRow, ...] = ()
    if config.folds is None:
        earlier = earlier_split(out, prepared.checkup.images, config) if replaced else ()
        images, corrected = with_parts(prepared, config, earlier)
    else:
        folds, images = with_folds(prepared, config)
        corrected = (f"cross-validation with {config.folds} folds: every image is tested once",)
    announce(images, prepared.checkup.diagnosis, prepared.checkup.pairs, config.split)
    images, grown = with_known_classes(images, config)
    config, of_head = with_known_head(images, config)
    chosen, chosen_notes = choose(images, config)
    if earlier and not images.has_parts and config.split is None:  # `--config` repeats the run with its own parts
        chosen = chosen.replace(split=out.resolve() / runs.SPLIT)
    notes = (*prepared.notes, *corrected, *([grown] if grown else ()), *of_head, *chosen_notes)
    for line in notes:
        say(line)
    with early_converter(chosen) as child:
        if _is_pretrained(chosen):
            # features will be computed there
            prepare_elsewhere(import_tensorflow, -(-len(images.usable) // IMAGES_PER_WORKER))
        import_tensorflow()
        notes = (*notes, *_require_network(chosen, images, images.usable if folds else images.part("test"), out))
        run = runs.Run.create(out, overwrite)
        found = finding_notes(prepared.checkup.diagnosis, "error", "warning")
        about = (*data_notes(images, config.split), *found)
        settings = Settings(given, chosen, notes, command, about, runs.timestamp(), deadline)
        with run.lock(), guarded(run):
            if folds:
                write_folds(run, folds)
            write_beginning(run, images, settings)
            return _train(run, images, settings, child)


def _is_pretrained(chosen: TrainConfig) -> bool:
    return chosen.weights != "none" and (chosen.weights is not None or backbones.get(chosen.backbone).has_weights)


def _require_network(chosen: TrainConfig, images: ImageSet, tested: Sequence[ImageFile], out: Path) -> list[str]:
    """Check that the network and the teacher can be had, before any work; what there is to say of them."""
    from imgclf.models.weights import resolve_weights

    row = backbones.get(chosen.backbone)
    assert chosen.image_size is not None
    backbones.check_size(row, chosen.image_size)
    weights = resolve_weights(chosen.weights, row, chosen.alpha, (chosen.image_size, chosen.image_size))
    if isinstance(row.builder, str) and (weights is None or weights.run is None):
        find_builder(row.builder)  # a run brings its network with it
    notes = []
    if chosen.teacher is not None:
        require_outside(out, "the teacher", Path(chosen.teacher))
        notes += _seen_before(require_teacher(Path(chosen.teacher), images.classes).root, tested)
    if weights is not None:
        require_outside(out, "the weights to start from", weights.path)
        notes += _seen_before(weights.run, tested)
    return notes


def _deadline(config: TrainConfig) -> float | None:
    """When a training with a time budget must be over, by `time.monotonic`."""
    if config.time_budget is None:
        return None
    return time.monotonic() + parse_duration(config.time_budget)


def resume_folder(root: Path) -> Outcome:
    """Go on with a training that was interrupted: by Ctrl-C, a kill, a full disk or a power cut.

    The split, the settings, finished epochs and random numbers are those of the run: on a CPU the weights will be those
    of a training that was never interrupted.

    Args:
        root: the run folder, on this computer or at an address.

    Raises:
        InputError: the run is finished, or was stopped before its images were split, or its images have changed;
            another process is training in it.
        SetupError, CheckFailed, Interrupted: as for `train_folder`.
    """
    with mirror.writing(root, watched=True) as here:
        return _resume_folder(here)


def _resume_folder(root: Path) -> Outcome:
    run = runs.Run.open(root)
    require_resumable(run)
    with run.lock():
        stored = read_stored(run)
        given, chosen = mirror.with_runs_here(stored.given), mirror.with_runs_here(stored.chosen)
        images = images_of(run, stored)
        say(f"going on with {root}: {stored.command}")
        import_tensorflow()
        run.set_state("running", stage="start")
        settings = Settings(
            given,
            chosen,
            stored.notes,
            stored.command,
            stored.data_notes,
            stored.created,
            _deadline(chosen),
        )
        with guarded(run):
            return _train(run, images, settings)


def _train(run: runs.Run, images: ImageSet, settings: Settings, child: Converter | None = None) -> Outcome:
    if settings.chosen.folds is not None:
        return train_folds(run, images, settings)
    return train_run(run, images, settings, child=child)


def _seen_before(earlier: Path | None, tested: Sequence[ImageFile]) -> list[str]:
    """A warning where the run that is gone on from has trained on what is now to be tested on."""
    line = trained_on(runs.Run(earlier), tested) if earlier is not None else ""
    if not line:
        return []
    warn(f"{line} (--split {earlier} keeps the parts)")
    return [line]
