"""A contact sheet: images as they are and as training would vary them. May import data/ and models/."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imgclf import runs
from imgclf.data.imageset import ImageFile
from imgclf.data.scan import scan
from imgclf.noise import import_tensorflow
from imgclf.pixels import UnreadableImage, load_for_model
from imgclf.progress import track, warn

ROWS, READINGS, GAP, LINE = 12, 6, 6, 18
PAPER, INK = (250, 250, 248), (40, 40, 40)


def contact_sheet(
    data: Path, out: Path, *, augment: str = "auto", flip: bool = True, size: int = 160, seed: int = 0
) -> Path:
    """Draw a row per image: first as it is, then READINGS times as training would vary it.

    Args:
        data: a folder of labelled images.
        out: the PNG to write.
        augment: the recipe, as in training.
        flip: whether it mirrors.
        size: side of one picture in pixels.
        seed: of the choice of images and of the recipe.

    Returns:
        `out`.
    """
    images = scan(data)
    chosen = list(_some(images.images, images.classes, size, seed))
    import_tensorflow()
    from imgclf.models import augmentation

    vary = augmentation.augmenter(augmentation.resolve(augment), flip=flip, seed=seed)
    plain = np.stack([pixels for _, pixels in chosen])
    labels = np.zeros((len(plain), max(2, len(images.classes))), np.float32)
    readings = [plain]
    for number in track(range(READINGS), "augmenting", READINGS, "columns"):
        readings.append(plain if vary is None else in_dataset(vary, number, plain, labels))
    sheet = Image.new("RGB", (GAP + (READINGS + 1) * (size + GAP), GAP + len(chosen) * (size + LINE + GAP)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for line, (image, _) in enumerate(chosen):
        top = GAP + line * (size + LINE + GAP)
        draw.text((GAP, top), f"{image.label}: {image.path.name}"[:120], INK, font)
        for column, reading in enumerate(readings):
            picture = Image.fromarray(np.clip(np.rint(reading[line]), 0, 255).astype(np.uint8))
            sheet.paste(picture, (GAP + column * (size + GAP), top + LINE))
    with runs.writing(out) as temporary:
        sheet.save(temporary, format="PNG")
    return out


def in_dataset(
    vary: Callable[[Any, int], Any], number: int, plain: NDArray[np.float32], labels: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Run the recipe where training runs it: inside tf.data."""
    import tensorflow as tf

    images, _ = next(iter(vary(tf.data.Dataset.from_tensors((plain, labels)), number)))
    return np.asarray(images)


def _some(
    images: tuple[ImageFile, ...], classes: tuple[str, ...], size: int, seed: int
) -> Iterator[tuple[ImageFile, NDArray[np.float32]]]:
    """A few readable images of every class (of the first ROWS classes), in a random order fixed by the seed."""
    each = max(1, ROWS // len(classes))
    for label in classes[:ROWS]:
        mine = [image for image in images if image.label == label]
        found = 0
        for index in np.random.default_rng(seed).permutation(len(mine)):
            try:
                pixels = load_for_model(mine[index].path, size, size)
            except UnreadableImage as error:
                warn(f"{mine[index].path}: {error}")
                continue
            yield mine[index], pixels
            found += 1
            if found == each:
                break
