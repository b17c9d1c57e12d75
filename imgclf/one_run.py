"""One run from images with parts to its report: stage, train, save, measure, convert, prove. May import everything
below; TensorFlow comes in here.
"""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf import predict, runs
from imgclf.config import TrainConfig
from imgclf.continuing import COMPARISON, compare, to_json
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.scan import strange_halves
from imgclf.data.split_file import write_split
from imgclf.data.stage import stage
from imgclf.errors import Interrupted
from imgclf.evaluation.evaluate import Evaluation, evaluate, trusted
from imgclf.export import calibration
from imgclf.export.catalog import FORMATS
from imgclf.export.convert import Converter, convert, converter
from imgclf.export.describe import describe
from imgclf.export.guide import write_for_apps
from imgclf.export.results import prove
from imgclf.export.verify import Exported, Limits, Reference
from imgclf.progress import say, step, warn
from imgclf.records import Settings, write_config, write_history

if TYPE_CHECKING:
    from imgclf.training.train import Trained


@dataclass(frozen=True)
class Outcome:
    """What a training made.

    Attributes:
        run: the run folder.
        predictor: the reloaded model.
        evaluation: of the test part, or by cross-validation.
        exports: the mobile files.
        folds: how many the cross-validation had; 0 where a test part was measured on.
    """

    run: runs.Run
    predictor: predict.Predictor
    evaluation: Evaluation
    exports: tuple[Exported, ...]
    folds: int = 0


def write_beginning(run: runs.Run, images: ImageSet, settings: Settings) -> None:
    """Write what a run can be gone on with: the parts, the classes, the settings."""
    write_split(images, run / runs.SPLIT)
    runs.write_classes(run / runs.CLASSES, images.classes)
    write_config(run, images, settings, settings.chosen)


def train_parts(
    run: runs.Run, images: ImageSet, config: TrainConfig, checkpoints: Path, deadline: float | None
) -> "Trained":
    """Stage images with parts and train on them; the run folder gets no more than the checkpoints.

    Args:
        run: the run, whose folder holds the stage for as long as it is needed.
        images: with parts.
        config: the settings.
        checkpoints: folder to go on from, and to leave checkpoints in.
        deadline: as for `train`.
    """
    from imgclf.training.tensorboard import complete, watcher
    from imgclf.training.train import train

    assert config.image_size is not None
    staged = stage(images, run / runs.STAGE, (config.image_size, config.image_size), workers=config.workers)
    with watcher(checkpoints.parent / runs.TENSORBOARD) if config.tensorboard else nullcontext() as watch:
        strange = strange_halves(images.root)[0] if config.unknown else ()
        trained = train(staged, config, checkpoints=checkpoints, watch=watch, deadline=deadline, strange=strange)
    if config.tensorboard:
        complete(checkpoints.parent / runs.TENSORBOARD, trained.history)
    shutil.rmtree(run / runs.STAGE, ignore_errors=True)
    return trained


def measure(
    trained: "Trained", predictor: predict.Predictor, model: Any, images: tuple[ImageFile, ...]
) -> Evaluation:  # fmt: skip
    """Measure a model on images; what a frozen network makes of them is kept for the next training."""
    if {row.stage for row in trained.history} == {"head"}:  # the network is as it was, and so are its features
        from imgclf.cut.stored_predictor import stored_predictor

        predictor = stored_predictor(predictor, model, images)
    return evaluate(predictor, images)


def early_converter(config: TrainConfig) -> AbstractContextManager[Converter | None]:
    """What converts the model, started beside this process' own start where the training takes seconds only."""
    head_only = config.fine_tune_epochs == 0 and config.folds is None
    return converter() if head_only and config.formats else nullcontext()


def train_run(
    run: runs.Run, images: ImageSet, settings: Settings, validated: Evaluation | None = None,
    child: Converter | None = None,
) -> Outcome:  # fmt: skip
    """Train on images with parts, and write everything that a run folder holds.

    Args:
        run: locked, with the images' parts written.
        images: with parts.
        settings: of the run.
        validated: by cross-validation; then there is no test part, and the validation part proves the exports.
        child: that converts the model, where it was started before.

    Raises:
        CheckFailed: an exported file does not behave like the model; everything else is there.
        Interrupted: Ctrl-C; the best weights so far are in the run folder.
    """
    config = settings.chosen
    run.set_state("running", stage="training")
    trained = train_parts(run, images, config, run / runs.CHECKPOINTS, settings.deadline)
    write_config(run, images, settings, trained.config, trained.notes, trained.parameters, trained.head)
    write_history(run, trained.history)
    if trained.range_test is not None:
        from imgclf.report.plots import range_test

        test = trained.range_test
        runs.write_text(run / "lr.svg", range_test(test.rates, test.losses, test.chosen))
    with ExitStack() as stack:
        if child is None and config.formats:
            child = stack.enter_context(converter())
        return _finish(run, images, config, trained, validated, child)


def _finish(
    run: runs.Run, images: ImageSet, config: TrainConfig, trained: "Trained", validated: Evaluation | None,
    child: Converter | None,
) -> Outcome:  # fmt: skip
    """Save, measure, convert, prove, report."""
    from imgclf.models.files import read_back, write_keras_model

    write_keras_model(trained.model, run / runs.MODEL)
    if trained.calibration:
        runs.write_json(run / runs.CALIBRATION, trained.calibration)
    if trained.interrupted:
        read_back(trained.model, run / runs.MODEL)
        run.set_state("interrupted")
        raise Interrupted(f"interrupted: the best weights so far are in {run / runs.MODEL}",
                          f"go on with `imgclf train --resume {run.root}`, or measure them with `imgclf evaluate "
                          f"{run.root}`")  # fmt: skip
    run.set_state("running", stage="evaluation and export")
    with ThreadPoolExecutor(1) as beside:  # the converter's child has one busy thread, reading and evaluating another
        converted = beside.submit(convert, run, config.formats, _calibration(images, config), child)
        model = _checked(trained.model, run, converted)
        predictor = predict.of_model(run / runs.MODEL, model, images.classes)
        seen = measure(trained, predictor, model, images.part("test" if validated is None else "val"))
        tested = seen if validated is None else validated
        runs.write_json(run / runs.METRICS, tested.metrics.to_json())
        names = predictor.classes if validated is None else images.classes
        tested.write(run / runs.PREDICTIONS, names, images.root)
        if trained.calibration and validated is None:  # the validation part is what it was found on
            strange = predictor.each(strange_halves(images.root)[1]) if "unknown" in trained.calibration else ()
            told = trusted(trained.calibration, seen, [row for row in strange if isinstance(row, predict.Prediction)])
            runs.write_json(run / runs.CALIBRATION, {**trained.calibration, **told})
        with step("converting for phones", len(config.formats), "files") as bar:
            made = converted.result()
            bar.update(len(made))
    describe(run, made, tested.metrics)
    reference = Reference(
        predictor.classes, tuple(image.path for image in seen.images), seen.labels, seen.probabilities
    )
    exports, refused = prove(run, made, reference, Limits())  # the model is good all the same, and so is its report
    write_for_apps(run, exports, reference)
    if all(row.stage == "training" for row in trained.history):
        from imgclf.report.layers import draw_layers

        try:
            draw_layers(model, seen.images[0].path, run / runs.LAYERS)
        except Exception as error:  # a picture less is no reason to lose a training
            warn(f"the layers could not be drawn ({error})")
    _compare(run, config, tested)
    from imgclf.report.extras import keep_extras

    with step("looking at the mistakes", 1, "run") as bar:
        keep_extras(run, model, images, trained.config, tested, trained.head_features)
        bar.update()
    from imgclf.report.collect import write_run_report

    with step("writing the report", 1, "page") as bar:
        write_run_report(run)
        bar.update()
    shutil.rmtree(run / runs.CHECKPOINTS, ignore_errors=True)
    run.set_state("done")
    if refused is not None:
        raise refused
    return Outcome(run, predictor, tested, exports, config.folds or 0)


def _calibration(images: ImageSet, config: TrainConfig) -> calibration.Calibration | None:
    """The images to make 8-bit files with, where such files are asked for."""
    if not any(FORMATS[name].calibrated for name in config.formats):
        return None
    return calibration.choose(images.part("train"), images.part("val"), images.classes, seed=config.seed)


def _checked(model: Any, run: runs.Run, converted: Future[Any]) -> Any:
    """The model as read back from its file; where it is another one, what is made of it meanwhile goes too."""
    from imgclf.models.files import read_back

    try:
        with step("reading the saved model back", 1, "file") as bar:
            reloaded = read_back(model, run / runs.MODEL)
            bar.update()
    except BaseException:
        wait((converted,))
        shutil.rmtree(run / runs.EXPORTS, ignore_errors=True)
        raise
    return reloaded


def _compare(run: runs.Run, config: TrainConfig, tested: Evaluation) -> None:
    """Say how the new model does on the test images of the run it goes on from."""
    if config.from_run is None:
        return
    earlier = Path(config.from_run)
    right = (tested.of_classes.argmax(axis=1) == tested.labels).tolist()
    found = compare(earlier, tested.images, right)
    if found is not None:
        say(str(found))
        runs.write_json(run / COMPARISON, to_json(found, earlier))
