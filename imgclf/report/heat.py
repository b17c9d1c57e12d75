"""Heat maps of a model's worst mistakes, kept as small JPEGs in the run folder. May import explaining/."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgclf import runs
from imgclf.explaining.explanation import enlarged
from imgclf.explaining.picture import coloured
from imgclf.pixels import UnreadableImage, fitted, read_shrunk
from imgclf.report.facts import Answered
from imgclf.report.kept import HEAT_INDEX

MOST = 8
SIDE = 224  # of a picture, its longer one, in pixels; 6 to 12 kB each
QUALITY = 72
SECONDS = 5.0  # after which no further map is begun: a picture less is better than a wait


def draw_heat(model: Any, classes: Sequence[str], mistakes: Sequence[Answered], folder: Path) -> int:
    """Draw what spoke for the class that was predicted wrongly.

    Args:
        model: a Keras classifier, images `(N, H, W, channels)`, values 0..255, to probabilities.
        classes: names of its outputs, in their order, each on one line.
        mistakes: the worst first; those after the first `MOST` are left out.
        folder: where the files go; made if there is something to draw, and what an earlier call left there goes.

    Returns:
        How many were drawn; fewer where images cannot be read, or the network takes long.
    """
    from imgclf.explaining.gradcam import GradCam

    shutil.rmtree(folder, ignore_errors=True)
    if not mistakes:
        return 0
    start, index = time.monotonic(), []
    explain = GradCam(model)
    height, width, channels = (int(side) for side in model.input_shape[1:])
    seen: list[tuple[int, Answered, Any, Any]] = []
    for number, mistake in enumerate(mistakes[:MOST]):
        try:
            photo = read_shrunk(mistake.path, max(height, width)).pixels
        except UnreadableImage:
            continue
        seen.append((number, mistake, photo, fitted(photo, height, width, channels)))
    # all at once for the class that each was taken for; one by one where the model now says another, as with a gate
    together = explain(np.stack([pixels for *_, pixels in seen])) if seen else ((), (), ())
    for (number, mistake, photo, pixels), said, cells in zip(seen, together[1], together[2], strict=True):
        wanted = list(classes).index(mistake.predicted_label)
        if said != wanted:
            if time.monotonic() - start > SECONDS:
                continue
            cells = explain(pixels[np.newaxis], wanted)[2][0]
        path = folder / f"{number:02}.jpg"
        with runs.writing(path) as temporary:
            _heated(photo, cells).save(temporary, "JPEG", quality=QUALITY, optimize=True)
        index.append([path.name, mistake.shown_path, mistake.predicted_label])
    runs.write_json(folder / HEAT_INDEX, index)
    return len(index)


def _heated(photo: Any, cells: Any) -> Image.Image:
    picture = Image.fromarray(photo)
    times = SIDE // max(picture.size)
    if times > 1:  # pixels of small images stay squares
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return Image.fromarray(coloured(np.asarray(picture), enlarged(cells, picture.size[::-1])))
