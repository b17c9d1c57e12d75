"""What a run keeps for its report while images and network are at hand. May import data/, cut/, models/, explaining/.

Slices, heat maps, varied samples and the learning curve are found once, at the end of a training; `imgclf report` reads
what is there. Each is worth having and none is worth a training: whatever goes wrong is a warning.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgclf import runs
from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.evaluation.evaluate import Evaluation
from imgclf.pixels import UnreadableImage, load_for_model
from imgclf.progress import warn
from imgclf.report.collect import answered
from imgclf.report.facts import worst_of
from imgclf.report.heat import draw_heat
from imgclf.report.kept import HEAT, LEARNING, SAMPLES, SAMPLES_INDEX, SLICES, STRIP
from imgclf.report.learning_curve import MOST, learning_curve

if TYPE_CHECKING:
    from imgclf.training.session import HeadFeatures

ROWS, READINGS, TILE, GAP = 4, 5, 128, 6  # of the strip; pixels
PAPER = (128, 128, 128)


def keep_extras(
    run: runs.Run, model: Any, images: ImageSet, config: TrainConfig, tested: Evaluation,
    features: "HeadFeatures | None" = None,
) -> None:  # fmt: skip
    """Write what the report shows beside the figures.

    Args:
        run: with its predictions written.
        model: the finished Keras model.
        images: of the run, with parts.
        config: the settings with everything decided.
        tested: what the model made of the test images, or the networks of a cross-validation of all.
        features: that a head learned from; heads on parts of them say what more training images would bring.
    """
    kinds: dict[str, Callable[[], object]] = {
        "the groups of images could not be compared": lambda: _slices(run, tested),
        "the heat maps could not be drawn": lambda: draw_heat(
            model, run.classes, worst_of(answered(run, images.root)), run / HEAT
        ),
        "the varied images could not be drawn": lambda: _samples(run, images, config),
        "the learning curve could not be found": lambda: _learning(run, features, config.seed),
    }
    for trouble, keep in kinds.items():
        try:
            keep()
        except Exception as error:
            warn(f"{trouble} ({error})")


def _slices(run: runs.Run, tested: Evaluation) -> None:
    found = tested.slices()
    if found:
        runs.write_json(run / SLICES, [each.to_json() for each in found])


def _samples(run: runs.Run, images: ImageSet, config: TrainConfig) -> None:
    """A row per image: as it is, then as the training varied it, at the size of the training."""
    from imgclf.models import augmentation
    from imgclf.report.preview import in_dataset

    recipe = augmentation.resolve(config.augment)
    assert config.image_size is not None
    vary = augmentation.augmenter(recipe, flip=config.flip is not False, seed=config.seed)
    chosen = _some(images.part("train"), images.classes, config.image_size, config.seed)
    if vary is None or not chosen:
        return
    plain = np.stack(chosen)
    labels = np.zeros((len(plain), max(2, len(images.classes))), np.float32)
    readings = [plain, *(in_dataset(vary, number, plain, labels) for number in range(READINGS))]
    sheet = Image.new("RGB", (len(readings) * (TILE + GAP) - GAP, len(plain) * (TILE + GAP) - GAP), PAPER)
    for column, reading in enumerate(readings):
        for row, pixels in enumerate(reading):
            picture = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
            sheet.paste(picture.resize((TILE, TILE)), (column * (TILE + GAP), row * (TILE + GAP)))
    with runs.writing(run / SAMPLES / STRIP) as temporary:
        sheet.save(temporary, "JPEG", quality=78, optimize=True)
    told = {"rows": len(plain), "readings": READINGS, "augment": recipe}
    runs.write_json(run / SAMPLES / SAMPLES_INDEX, told)


def _some(images: tuple[ImageFile, ...], classes: tuple[str, ...], size: int, seed: int) -> list[Any]:
    """A readable image of each of a few classes, in an order fixed by the seed."""
    found: list[Any] = []
    draw = np.random.default_rng(seed)
    for label in draw.permutation(classes).tolist():
        mine = [image for image in images if image.label == label]
        for index in draw.permutation(len(mine))[:3]:  # what cannot be read any more is passed over
            try:
                found.append(load_for_model(mine[index].path, size, size))
                break
            except UnreadableImage:
                continue
        if len(found) == ROWS:
            break
    return found


def _learning(run: runs.Run, features: "HeadFeatures | None", seed: int) -> None:
    if features is None or features.train.count > MOST:
        return
    read = (features.train.array(), features.labels, features.val.array(), features.val_labels)
    curve = learning_curve(*read, seed=seed)
    if curve is not None:
        runs.write_json(run / LEARNING, curve.to_json())
