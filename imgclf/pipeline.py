"""One training from folder to report: the order of the steps, and the run folder around them. May import everything
below the command line; TensorFlow comes in only when the data has been found to be good.
"""

import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imgclf import predict, runs
from imgclf.config import TrainConfig
from imgclf.continuing import (
    COMPARISON,
    compare,
    continued,
    images_of,
    read_settings,
    read_stored,
    require_resumable,
    to_json,
    with_known_classes,
)
from imgclf.data.announce import announce, data_notes, finding_notes
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.overlap import overlap
from imgclf.data.prepare import prepare, with_parts
from imgclf.data.sources import open_source
from imgclf.data.split_file import SplitRow, read_rows, write_split
from imgclf.data.stage import stage
from imgclf.errors import CheckFailed, ImgclfError, InputError, Interrupted
from imgclf.evaluation.evaluate import Evaluation, evaluate
from imgclf.export.tflite import Exported, convert, prove
from imgclf.models import backbones
from imgclf.models.own import find_builder
from imgclf.noise import import_tensorflow
from imgclf.progress import parse_duration, plural, say, step, warn
from imgclf.records import Settings, write_config, write_history
from imgclf.training.choose import choose

SPLIT_SETTINGS = ("seed", "val_share", "test_share", "group_by")  # that decide who is in which part


@dataclass(frozen=True)
class Outcome:
    """What `train_folder` made.

    Attributes:
        run: the run folder.
        predictor: the reloaded model.
        evaluation: of the test part.
        exports: the mobile files.
    """

    run: runs.Run
    predictor: predict.Predictor
    evaluation: Evaluation
    exports: tuple[Exported, ...]


def train_folder(
    data: Path | None, out: Path, config: TrainConfig, *, overwrite: bool = False, command: str = ""
) -> Outcome:
    """Train on a folder of labelled images and leave a finished run folder.

    Args:
        data: the images (a folder, a table, an archive; None where the settings name a table); nothing in it is
            touched.
        out: the run folder to make.
        config: the settings.
        overwrite: replace an earlier run at `out`, once the data has been found to be good.
        command: what the user typed, for the record.

    Raises:
        InputError, SetupError: nothing is left behind at `out`.
        CheckFailed: an exported file does not behave like the model; everything else is there.
        Interrupted: Ctrl-C; the best weights so far are in the run folder, or there is none.
    """
    deadline = _deadline(config)
    replaced = runs.require_free(out, overwrite)
    given, config = config, continued(config)
    if config.from_run is not None and data is None and config.csv is None:
        data = read_stored(runs.Run.open(Path(config.from_run))).folder
    if replaced:
        _require_kept(out, data, config.csv, config.fixes, config.split, *sorted(out.glob("*.csv")))
    if data is not None and data.is_dir():
        require_apart(ImageSet(data, (), ()), out, overwrite)  # before the images are read
    if config.backbone != "auto":  # what is wrong with the settings is said before the images are read
        row = backbones.get(config.backbone)
        backbones.check_size(row, config.image_size or row.default_size)
    prepared = prepare(data, config)
    require_apart(prepared.checkup.images, out, overwrite)
    earlier = _earlier_split(out, prepared.checkup.images, config) if replaced else ()
    images, corrected = with_parts(prepared, config, earlier)
    announce(images, prepared.checkup.diagnosis, prepared.checkup.pairs, config.split)
    images, grown = with_known_classes(images, config)
    chosen, chosen_notes = choose(images, config)
    if earlier and not images.has_parts and config.split is None:  # `--config` repeats the run with its own parts
        chosen = chosen.replace(split=out.resolve() / runs.SPLIT)
    notes = (*prepared.notes, *corrected, *([grown] if grown else ()), *chosen_notes)
    for line in notes:
        say(line)
    import_tensorflow()
    from imgclf.models.weights import resolve_weights

    row = backbones.get(chosen.backbone)
    assert chosen.image_size is not None
    backbones.check_size(row, chosen.image_size)

    size = (chosen.image_size, chosen.image_size)
    weights = resolve_weights(chosen.weights, row, chosen.alpha, size)  # missing ones are said before any work
    if weights is not None:
        if weights.path.resolve().is_relative_to(out.resolve()):
            raise InputError(f"{out} holds the weights to start from", "choose another --out")
        notes = (*notes, *_seen_before(weights.run, images))
    if isinstance(row.builder, str) and (weights is None or weights.run is None):
        find_builder(row.builder)  # a run brings its network with it
    run = runs.Run.create(out, overwrite)
    found = finding_notes(prepared.checkup.diagnosis, "error", "warning")
    about = (*data_notes(images, config.split), *found)
    with run.lock(), _guarded(run):
        return _train(run, images, Settings(given, chosen, notes, command, about, runs.timestamp(), deadline))


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
        root: the run folder.

    Raises:
        InputError: the run is finished, or was stopped before its images were split, or its images have changed;
            another process is training in it.
        SetupError, CheckFailed, Interrupted: as for `train_folder`.
    """
    run = runs.Run.open(root)
    require_resumable(run)
    with run.lock():
        stored = read_stored(run)
        images = images_of(run, stored)
        say(f"going on with {root}: {stored.command}")
        import_tensorflow()
        run.set_state("running", stage="start")
        settings = Settings(
            stored.given, stored.chosen, stored.notes, stored.command, stored.data_notes, stored.created
        )
        with _guarded(run):
            return _train(run, images, settings)


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


def _require_kept(out: Path, *files: str | Path | None) -> None:
    """Check that --overwrite would not take what the user has made: a table, an archive, decisions."""
    own = {(out / name).resolve() for name in (runs.SPLIT, runs.CONFIG, runs.HISTORY, runs.PREDICTIONS)}
    for file in files:
        path = Path(file).resolve() if file else None
        if path is not None and path.is_file() and path.is_relative_to(out.resolve()) and path not in own:
            raise InputError(f"{file} lies inside {out}, which --overwrite would empty",
                             "move it elsewhere or choose another --out")  # fmt: skip


def _earlier_split(out: Path, images: ImageSet, config: TrainConfig) -> tuple[SplitRow, ...]:
    """The split of the run that is to be replaced, if it was made of the same folder in the same way."""
    try:
        settings = read_settings(out)
        same = all(settings.get(name) == getattr(config, name) for name in SPLIT_SETTINGS)
        folder = runs.read_json(out / runs.CONFIG)["data"]["folder"]
        return read_rows(out / runs.SPLIT) if same and folder == str(images.root.resolve()) else ()
    except (ImgclfError, KeyError, TypeError):  # no finished run, or a damaged one
        return ()


@contextmanager
def _guarded(run: runs.Run) -> Iterator[None]:
    """Leave no half-made run: whatever fails before there is a model takes the folder with it."""
    try:
        yield
    except KeyboardInterrupt:
        kept = _give_up(run, "interrupted")
        after = f"go on with `imgclf train --resume {run.root}`" if kept else (
            "nothing was trained yet; start again with the same command"
        )  # fmt: skip
        raise Interrupted("interrupted", after) from None
    except (Interrupted, CheckFailed):
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
    if (run / runs.MODEL).is_file() or any((run / runs.CHECKPOINTS).glob("*")):
        run.set_state(state)
        return True
    shutil.rmtree(run.root, ignore_errors=True)
    return False


def _seen_before(earlier: Path | None, images: ImageSet) -> list[str]:
    """A warning where the run that is gone on from has trained on what is now to be tested on."""
    line = trained_on(runs.Run(earlier), images.part("test")) if earlier is not None else ""
    if not line:
        return []
    warn(f"{line} (--split {earlier} keeps the parts)")
    return [line]


def _train(run: runs.Run, images: ImageSet, settings: Settings) -> Outcome:
    from imgclf.models.files import save_keras_model
    from imgclf.training.train import train

    write_split(images, run / runs.SPLIT)
    runs.write_classes(run / runs.CLASSES, images.classes)
    config = settings.chosen
    write_config(run, images, settings, config)
    assert config.image_size is not None
    staged = stage(images, run / runs.STAGE, (config.image_size, config.image_size), workers=config.workers)
    run.set_state("running", stage="training")
    trained = train(staged, config, checkpoints=run / runs.CHECKPOINTS, deadline=settings.deadline)
    write_config(run, images, settings, trained.config, trained.notes, trained.parameters)
    write_history(run, trained.history)
    if trained.range_test is not None:
        from imgclf.report.plots import range_test

        test = trained.range_test
        runs.write_text(run / "lr.svg", range_test(test.rates, test.losses, test.chosen))
    with step("saving the model and reading it back", 1, "file") as bar:
        model = save_keras_model(trained.model, run / runs.MODEL)
        bar.update()
    shutil.rmtree(run / runs.STAGE, ignore_errors=True)
    if trained.interrupted:
        run.set_state("interrupted")
        raise Interrupted(f"interrupted: the best weights so far are in {run / runs.MODEL}",
                          f"go on with `imgclf train --resume {run.root}`, or measure them with `imgclf evaluate "
                          f"{run.root}`")  # fmt: skip
    run.set_state("running", stage="evaluation and export")
    predictor = predict.of_model(run / runs.MODEL, model, images.classes)
    measuring = predictor
    if {row.stage for row in trained.history} == {"head"}:  # the network is as it was, and so are its features
        from imgclf.training.stored_predictor import stored_predictor

        measuring = stored_predictor(predictor, model, images.part("test"))
    with ThreadPoolExecutor(1) as beside:  # the converter's child has one busy thread, the evaluation another
        converted = beside.submit(convert, run, config.formats)
        tested = evaluate(measuring, images.part("test"))
        runs.write_json(run / runs.METRICS, tested.metrics.to_json())
        tested.write(run / runs.PREDICTIONS, predictor.classes, images.root)
        with step("converting for phones", len(config.formats), "files") as bar:
            files = converted.result()
            bar.update(len(files))
    refused: CheckFailed | None = None
    exports: tuple[Exported, ...] = ()
    try:
        exports = prove(run, files, [image.path for image in tested.images], tested.labels, tested.probabilities)
    except CheckFailed as error:  # the model is good all the same, and so is its report
        refused = error
    if all(row.stage == "training" for row in trained.history):
        from imgclf.report.layers import draw_layers

        try:
            draw_layers(model, tested.images[0].path, run / runs.LAYERS)
        except Exception as error:  # a picture less is no reason to lose a training
            warn(f"the layers could not be drawn ({error})")
    _compare(run, config, tested)
    shutil.rmtree(run / runs.CHECKPOINTS, ignore_errors=True)
    run.set_state("done")
    from imgclf.report.collect import write_run_report

    with step("writing the report", 1, "page") as bar:
        write_run_report(run)
        bar.update()
    if refused is not None:
        raise refused
    return Outcome(run, predictor, tested, exports)


def _compare(run: runs.Run, config: TrainConfig, tested: Evaluation) -> None:
    """Say how the new model does on the test images of the run it goes on from."""
    if config.from_run is None:
        return
    earlier = Path(config.from_run)
    right = (tested.probabilities.argmax(axis=1) == tested.labels).tolist()
    found = compare(earlier, tested.images, right)
    if found is not None:
        say(str(found))
        runs.write_json(run / COMPARISON, to_json(found, earlier))


def labelled_images(data: Path) -> tuple[ImageFile, ...]:
    """The images of a labelled folder, table or archive to measure on: its test part where it has one, else all."""
    images = open_source(data)
    return images.part("test") or images.images


def trained_on(run: runs.Run, images: Sequence[ImageFile]) -> str:
    """A sentence on images to measure on that were in the training of a run, or look like it; "" if there are none."""
    folder = Path(runs.read_json(run / runs.CONFIG)["data"]["folder"])
    rows = [row for row in read_rows(run / runs.SPLIT) if row.part != "test"]
    found = overlap(images, [ImageFile(folder / row.path, row.label, row.part, row.key) for row in rows])
    seen = (*found.copies, *found.near)
    if not seen:
        return ""
    return (f"{len(seen)} of {plural(found.total, 'image')} were trained on by {run.root}, or look like one that was "
            f"({seen[0]}): the accuracy will look better than it is")  # fmt: skip


def test_images(run: runs.Run) -> tuple[ImageFile, ...]:
    """The test part of a run, from the user's folder, as split.csv has it.

    Raises:
        InputError: the folder is gone.
    """
    from imgclf.data.split_file import test_part

    config = runs.read_json(run / runs.CONFIG)
    folder = Path(config["data"]["folder"])
    if not folder.is_dir():
        raise InputError(
            f"the images of this run are gone from {folder}", "name a folder of labelled images to evaluate"
        )
    return test_part(run / runs.SPLIT, folder)
