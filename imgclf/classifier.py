"""The Python interface: train, tune, load, check, and the Classifier they are about. May import everything but cli/."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf import measuring, pipeline, predict, runs
from imgclf.config import TrainConfig
from imgclf.data.check import check as check_images
from imgclf.data.diagnosis import Diagnosis
from imgclf.data.sources import open_source, run_name
from imgclf.errors import InputError
from imgclf.evaluation.evaluate import Evaluation, evaluate
from imgclf.evaluation.metrics import Metrics
from imgclf.explaining.explain import explain
from imgclf.explaining.explanation import Explanation
from imgclf.export import calibration
from imgclf.export.catalog import CALIBRATION_IMAGES, FORMATS, MAX_DROP
from imgclf.export.convert import convert
from imgclf.export.describe import describe
from imgclf.export.guide import write_for_apps
from imgclf.export.others import write_others
from imgclf.export.results import RESULTS, Budget, prove
from imgclf.export.verify import Exported, Limits, Reference
from imgclf.export.web import write_web
from imgclf.gating import add_gate
from imgclf.pixels import read_shrunk
from imgclf.predict import Prediction, Predictor, Skipped
from imgclf.progress import parse_duration, step, warn
from imgclf.storage import mirror
from imgclf.storage.naming import told
from imgclf.storage.places import place
from imgclf.training.history import History
from imgclf.tuning import Options, Tuned, default_folder, tune_folder

if TYPE_CHECKING:
    from imgclf.explaining.similar import Neighbour
    from imgclf.showing import Drawing

AnyPath = str | Path
DEFAULT_FORMATS = ("float16", "int8")
SHOWN_PHOTOS = 24  # in one figure; more are too small to see anything
PHOTO_SIDE = 240  # pixels that a shown photo needs


class Classifier:
    """A trained classifier: a run folder, a .keras file or a .tflite file.

    Attributes:
        predictor: pixels to probabilities.
        run: the run folder it came from; None for a single file.
    """

    def __init__(self, predictor: Predictor, run: runs.Run | None = None) -> None:
        self.predictor, self.run = predictor, run

    def __repr__(self) -> str:
        where = told(str(self.run.root if self.run else self.predictor.path))
        return f"<imgclf.Classifier {where}: {', '.join(self.classes[:6])}{', ...' if len(self.classes) > 6 else ''}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the scores."""
        return self.predictor.classes

    @property
    def metrics(self) -> Metrics:
        """What the test part of the training gave.

        Raises:
            InputError: the classifier is a single file, or its training was not finished.
        """
        return Metrics.from_json(runs.read_json(self._own_run("metrics") / runs.METRICS))

    @property
    def history(self) -> History:
        """Every epoch of the training: a table in a notebook, curves with `.plot()`.

        Raises:
            InputError: the classifier is a single file, or its training was not finished.
        """
        return History.read(self._own_run("history") / runs.HISTORY)

    def predict(self, paths: AnyPath | Iterable[AnyPath]) -> list[Prediction]:
        """Classify images.

        Args:
            paths: a file, a folder, a glob, or several of them.

        Returns:
            One prediction per image that can be read, in order; the others are warned about by name.

        Raises:
            InputError: nothing there.
        """
        results = list(self.predictor.each(_found(paths)))
        _warn_of(results)
        return [result for result in results if isinstance(result, Prediction)]

    def show(
        self, paths: AnyPath | Iterable[AnyPath], columns: int = 4, *, limit: int | None = SHOWN_PHOTOS
    ) -> "Drawing":
        """Photos with the class that is predicted and its probability, as a matplotlib figure.

        Args:
            paths: a file, a folder, a glob, or several of them.
            columns: photos in a row, at least 1.
            limit: photos at most, the first ones; None for all.

        Raises:
            InputError: nothing there, or nothing that can be read.
        """
        from imgclf.showing import draw_photos

        if columns < 1 or (limit is not None and limit < 1):
            raise InputError(f"columns is {columns}, limit {limit}", "expected at least 1")
        found = _found(paths)
        if limit is not None and len(found) > limit:
            warn(f"the first {limit} of {len(found)} images are shown (limit=None shows all)")
        predictions: list[Prediction] = []
        for result in self.predictor.each(found):
            if isinstance(result, Prediction):
                predictions.append(result)
            else:
                _warn_of([result])
            if len(predictions) == limit:
                break
        if not predictions:
            raise InputError("none of these images can be read", "expected photos")
        photos = [
            (read_shrunk(row.path, PHOTO_SIDE).pixels, f"{row.label}  {row.probability:.0%}", row.path.name)
            for row in predictions
        ]
        return draw_photos(photos, columns)

    def explain(
        self, paths: AnyPath | Iterable[AnyPath], *, label: str | None = None, method: str | None = None
    ) -> list[Explanation]:
        """Heat maps: where in images the model finds what speaks for a class.

        Args:
            paths: a file, a folder, a glob, or several of them.
            label: the class to explain; by default the most probable one of each image.
            method: "gradcam" (a run or a .keras file) or "occlusion" (any model, slower); None takes the first where it
                can.

        Returns:
            One explanation per image that can be read, in order; the others are warned about by name.

        Raises:
            InputError: nothing there, no such class or method, or Grad-CAM for a .tflite file.
        """
        results = list(explain(self.predictor, _found(paths), label=label, method=method))
        _warn_of(results)
        return [result for result in results if isinstance(result, Explanation)]

    def similar(self, path: AnyPath, top: int = 8) -> "list[Neighbour]":
        """The training images that are most like an image to the network, the most similar first.

        Args:
            path: the image.
            top: how many.

        Raises:
            InputError: the classifier is a single file, the image cannot be read, or the training images are gone.
        """
        from imgclf.explaining.similar import find_similar

        run = self._own_run("training images")
        return list(find_similar(run, measuring.images_of_part(run, "train"), place(path), top).neighbours)

    def evaluate(self, data: AnyPath | None = None) -> Metrics:
        """Measure on a folder of labelled images, or again on the test part of the training."""
        return self.evaluation(data).metrics

    def evaluation(self, data: AnyPath | None = None) -> Evaluation:
        """As `evaluate`, with every image's row.

        Raises:
            InputError: no such folder, unknown classes, or (without a folder) the training images are gone.
        """
        if data is not None:
            images = measuring.labelled_images(place(data))
            if self.run is not None:
                seen = measuring.trained_on(self.run, images)
                if seen:
                    warn(seen)
            return evaluate(self.predictor, images)
        return evaluate(self.predictor, measuring.test_images(self._own_run("a test part")))

    def export(
        self, *formats: str, calibration_images: int = CALIBRATION_IMAGES, max_drop: float = MAX_DROP,
        min_agreement: float | None = None, strict: bool = False, budget: str | None = None,
        unknown: float | None = None,
    ) -> tuple[Exported, ...]:  # fmt: skip
        """Write mobile files and prove them on the test part, by LiteRT and by MediaPipe where it is installed.

        Args:
            *formats: "float32", "float16", "dynamic", "int8"; float16 and int8 by default.
            calibration_images: training images that 8-bit files are made with.
            max_drop: of the accuracy that a file of 8 bits may lose, 0..1.
            min_agreement: smallest share of images with the same top class, 0..1; each format's own by default.
            strict: raise where an 8-bit file costs too much, which is otherwise warned of; it is kept in
                exports/refused/ either way.
            budget: what the file to ship may cost, such as "size=4MB,ms=20"; all formats are tried where none is named.
            unknown: let the model, and every file, call an image unknown that is like none of the training; the share
                of the validation images that must stay known, 0..1. The run's model.keras is written anew.

        Raises:
            InputError: the images of the run are gone, or the network cannot be converted.
            CheckFailed: a file does not behave like the model, or `strict`, or none is within the budget.
        """
        allowed = Budget.parse(budget) if budget is not None else None
        chosen = TrainConfig(formats=formats or (DEFAULT_FORMATS if allowed is None else tuple(FORMATS))).formats
        with self._changed_run("a Keras model to convert") as run:
            return self._export(run, chosen, calibration_images, max_drop, min_agreement, strict, allowed, unknown)

    def _export(
        self, run: runs.Run, chosen: tuple[str, ...], calibration_images: int, max_drop: float,
        min_agreement: float | None, strict: bool, allowed: Budget | None, unknown: float | None,
    ) -> tuple[Exported, ...]:  # fmt: skip
        if unknown is not None:
            self.predictor = add_gate(run, unknown)
        tested = evaluate(self.predictor, measuring.proof_images(run))
        images = None
        if any(FORMATS[name].calibrated for name in chosen):
            parts = (measuring.images_of_part(run, "train"), measuring.images_of_part(run, "val"))
            images = calibration.choose(*parts, run.classes, count=calibration_images, max_drop=max_drop)
        with step("converting for phones", len(chosen), "files") as bar:
            made = convert(run, chosen, images)
            bar.update(len(chosen))
        describe(run, made, tested.metrics if measuring.images_of_part(run, "test") else self.metrics)
        paths = tuple(image.path for image in tested.images)
        reference = Reference(self.classes, paths, tested.labels, tested.probabilities)
        limits = Limits(max_drop, min_agreement, len(reference.images), strict)
        rows, error = prove(run, made, reference, limits, allowed)
        write_for_apps(run, rows, reference)
        if error is not None:
            raise error
        return rows

    def export_others(self, *formats: str) -> list[Path]:
        """Write the model as "savedmodel", "onnx" or "openvino", as Keras does; the files or folders made.

        Raises:
            SetupError: what Keras needs for it is missing, or it failed.
        """
        if not formats:
            return []
        with self._changed_run("a Keras model to convert") as run:
            return write_others(run, formats)

    @property
    def is_exported(self) -> bool:
        """Whether mobile files were written and proven."""
        return mirror.is_there(self._own_run("exports").root, f"{runs.EXPORTS}/{RESULTS}")

    def export_web(self) -> Path:
        """Write exports/web, a page that runs the file to ship in a browser; the folder.

        Raises:
            InputError: nothing was exported that may be shipped, or the network reads grey images.
        """
        with self._changed_run("exports") as run:
            return write_web(run)

    @contextmanager
    def _changed_run(self, what: str) -> Iterator[runs.Run]:
        """The run, to be written into; of one at an address all is fetched, and what has changed goes back."""
        with mirror.writing(self._own_run(what).root) as root:
            self.run = runs.Run(root)
            yield self.run

    def _own_run(self, what: str) -> runs.Run:
        if self.run is None:
            raise InputError(f"{self.predictor.path} is a single file and has no {what}", "load the run folder instead")
        return self.run


def _found(paths: AnyPath | Iterable[AnyPath]) -> list[Path]:
    return predict.find_images([paths] if isinstance(paths, (str, Path)) else paths)


def _warn_of(results: Iterable[object]) -> None:
    for result in results:
        if isinstance(result, Skipped):
            warn(f"{result.path}: {result.reason}")


def train(
    data: AnyPath | None = None, out: AnyPath | None = None, *, overwrite: bool = False, **settings: Any
) -> Classifier:
    """Train a classifier on a folder of labelled images.

    Args:
        data: a folder with one folder of images per class, or with train/, val/ and test/ folders of those; an archive
            of all that; a table (.csv) of paths and labels. None where `csv` names one.
        out: the run folder to make, here or at an address (s3://bucket/runs/first); runs/NAME by default.
        overwrite: replace an earlier run.
        **settings: any field of `imgclf.TrainConfig`.

    Returns:
        The classifier; its `metrics` are those of the test part.

    Raises:
        InputError: something is wrong with the folder or a setting.
        SetupError: weights are missing, the disk is full.
    """
    config = TrainConfig().replace(**settings)
    source = None if data is None else place(data)
    root = place(out) if out is not None else runs.free_folder(run_name(source, config.csv))
    shown = ", ".join(
        [
            repr(None if source is None else str(source)),
            f"out={str(root)!r}",
            *(f"{name}={value!r}" for name, value in settings.items()),
        ]
    )
    outcome = pipeline.train_folder(source, root, config, overwrite=overwrite, command=f"imgclf.train({shown})")
    return Classifier(outcome.predictor, outcome.run)


def tune(
    data: AnyPath | None = None, out: AnyPath | None = None, *, trials: int = 20, time_budget: str | None = None,
    prefer: str = "accuracy", train_winner: bool = True, overwrite: bool = False, resume: bool = False,
    **settings: Any,
) -> Tuned:  # fmt: skip
    """Search the network and settings that suit a folder of labelled images, and train the winner.

    Args:
        data: the images, as for `train`.
        out: the folder of the search; runs/NAME-tune by default. A search that was interrupted goes on.
        trials: how many short trainings, those of an interrupted search included.
        time_budget: for the trials, such as "10m".
        prefer: "accuracy", "size" or "latency".
        train_winner: whether the winner is trained in full; `imgclf.load(found.best.root)` opens it.
        overwrite: begin anew where an earlier search is.
        resume: go on with a search that is finished.
        **settings: any field of `imgclf.TrainConfig`; what is given is not searched.

    Raises:
        InputError: something is wrong with the folder or a setting.
        SetupError: Optuna (the extra `tune`) is missing, the disk is full.
    """
    config = TrainConfig().replace(**settings)
    source = None if data is None else place(data)
    root = Path(out) if out is not None else default_folder(run_name(source, config.csv), finished=resume)
    seconds = None if time_budget is None else parse_duration(time_budget)
    options = Options(trials, seconds, prefer, train_winner, overwrite, resume)
    shown = f"imgclf.tune({None if source is None else str(source)!r})"
    return tune_folder(source, root, config, options, command=shown)


def load(path: AnyPath, classes: Iterable[str] | None = None) -> Classifier:
    """Open a run folder, a .keras file or a .tflite file (the last without TensorFlow).

    Args:
        path: the folder or file, here or at an address; of a run there what is needed is fetched.
        classes: class names in the order of the outputs, where no classes.txt is near the file.
    """
    path = mirror.here(path)
    run = runs.Run.open(path) if path.is_dir() else None
    return Classifier(predict.load(path, None if classes is None else tuple(classes)), run)


def check(
    data: AnyPath,
    *,
    run: AnyPath | None = None,
    classes: Sequence[str] = (),
    exclude_classes: Sequence[str] = (),
    workers: int | None = None,
) -> Diagnosis:
    """Look at every image of a folder completely and say what is wrong; nothing in it is touched.

    Args:
        data: a folder of class folders, or of train/, val/ and test/ folders of those; an archive of such; a table
            (.csv) of paths and labels.
        run: a finished run; with it, images whose label is probably wrong are found too.
        classes: the classes to look at; all by default.
        exclude_classes: the classes to leave out.
        workers: the number of processes that read; None takes one per processor.

    Returns:
        The findings, worst first, and the images. It prints well.

    Raises:
        InputError: no such folder, or fewer than two classes in it.
    """
    opened = runs.Run.open(mirror.here(run)) if run is not None else None
    if opened is not None and not (opened / runs.MODEL).is_file():
        raise InputError(f"{run} has no trained model", "run `imgclf train` to the end")
    chosen = TrainConfig().replace(classes=classes, exclude_classes=exclude_classes)
    images = open_source(place(data), classes=chosen.classes, exclude_classes=chosen.exclude_classes)
    found = check_images(images, workers)
    if opened is None:
        return found.diagnosis
    from imgclf.training.label_errors import find_label_errors

    return found.diagnosis.with_suspects(find_label_errors(opened, found.images.usable, found.pairs))
