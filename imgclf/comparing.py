"""Runs, or model files, compared on the same images. May import evaluation/, measuring and predict.

TensorFlow is imported only where a Keras model has to be run, which is where other images than its own are named.
"""

from collections.abc import Sequence
from pathlib import Path

from imgclf import measuring, predict, runs
from imgclf.errors import InputError
from imgclf.evaluation.compare import Answers, Comparison, answers_of_evaluation, answers_of_run, compare
from imgclf.evaluation.evaluate import evaluate
from imgclf.progress import plural, warn


def compare_models(models: Sequence[Path], data: Path | None = None) -> Comparison:
    """Compare models on the same images.

    Args:
        models: two or more finished runs, the baseline first; with `data` also model files.
        data: labelled images; by default the test images that all runs have, as each run answered them.

    Raises:
        InputError: fewer than two models, one is not finished, or they have no images in common.
    """
    if len(models) < 2:
        raise InputError("there is nothing to compare with", "name two runs or more, the baseline first")
    names = _names(models)
    if data is None:
        return compare([answers_of_run(_run(path), name) for path, name in zip(models, names, strict=True)])
    images = measuring.labelled_images(data)
    predictors = [predict.load(path) for path in models]
    known = set(predictors[0].classes).intersection(*(predictor.classes for predictor in predictors))
    usable = tuple(image for image in images if image.label in known)
    if not usable:
        expected = ", ".join(sorted(known)[:12]) or "as the classes of all models, which have none in common"
        raise InputError(f"no image of {data} has a class that all models know", f"expected folders named {expected}")
    if len(usable) < len(images):
        warn(f"{plural(len(images) - len(usable), 'image')} of {data} left out: not every model knows their class")
    answers: list[Answers] = []
    for path, name, predictor in zip(models, names, predictors, strict=True):
        if path.is_dir():
            seen = measuring.trained_on(runs.Run.open(path), usable)
            if seen:
                warn(seen)
        found = evaluate(predictor, usable)
        answers.append(answers_of_evaluation(found, predictor.classes, name, data.resolve()))
        if not answers[1:]:  # every model reads the same files, so one of them says it for all
            for skipped in found.skipped:
                warn(f"{skipped.path}: {skipped.reason}")
    return compare(answers)


def _run(path: Path) -> runs.Run:
    if path.is_file():
        raise InputError(f"{path} is a single file and has no test images", "name its run folder, or images: --data")
    return runs.Run.open(path)


def _names(models: Sequence[Path]) -> list[str]:
    """What each model is called: the name of its folder or file, or the whole path where two have the same."""
    short = [path.resolve().name for path in models]
    return short if len(set(short)) == len(short) else [str(path) for path in models]
