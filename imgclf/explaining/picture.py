"""The picture of a heat map: the photo, and beside or under it the photo with the heat. May import NumPy and Pillow."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imgclf import runs
from imgclf.explaining.explanation import Explanation, enlarged
from imgclf.pixels import LUMA, read_shrunk

SIDE = 480  # of either picture, in pixels, its longer one
LEAST = 240  # what small images are enlarged to at least, their pixels as squares
GAP, LINE, BAR = 12, 22, 10  # pixels
PAPER, INK, QUIET = (250, 250, 248), (28, 33, 39), (100, 108, 120)
MARK = "imgclf explain"  # in the file's first bytes, so that no other file is ever written over
MOST = 60  # characters of a file's name that are kept

# Inferno of matplotlib (Smith and van der Walt, CC0) at nine even steps: its lightness rises evenly, so that it is read
# without colours as well, and with any kind of colour blindness.
INFERNO = np.array([(0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51),
                    (249, 140, 10), (249, 201, 50), (252, 255, 164)], np.float32)  # fmt: skip
# How much of the colour covers the photo: next to nothing where it is cold, so that it is seen what lies there.
LEAST_COVER, MOST_COVER = 0.45, 0.75

Pixels = NDArray[np.uint8]


def draw(explanation: Explanation) -> Image.Image:
    """The picture of a heat map: photo, heat on the photo, class and probability, what the colours mean.

    Raises:
        UnreadableImage: the image cannot be read (any more).
    """
    photo = _photo(explanation)
    heated = Image.fromarray(coloured(np.asarray(photo), enlarged(explanation.cells, photo.size[::-1])))
    beside = photo.height * 1.2 >= photo.width  # wide ones lie better one under the other
    step = (photo.width + GAP, 0) if beside else (0, photo.height + GAP)
    width = max(step[0] + photo.width + 2 * GAP, LEAST + 2 * GAP)
    height = step[1] + photo.height + 2 * GAP + 3 * LINE
    sheet = Image.new("RGB", (width, height), PAPER)
    left = (width - step[0] - photo.width) // 2
    sheet.paste(photo, (left, GAP))
    sheet.paste(heated, (left + step[0], GAP + step[1]))
    _caption(sheet, explanation, height - 3 * LINE - GAP // 2)
    return sheet


def coloured(photo: Pixels, heat: NDArray[np.float32]) -> Pixels:
    """A photo uint8 `(H, W, 3)` in grey, with heat `(H, W)`, 0..1, over it in colour."""
    grey = (photo @ LUMA)[..., np.newaxis]
    steps = np.linspace(0, 1, len(INFERNO))
    colour = np.stack([np.interp(heat, steps, channel) for channel in INFERNO.T], axis=-1)
    cover = (LEAST_COVER + (MOST_COVER - LEAST_COVER) * heat)[..., np.newaxis]
    mixed: Pixels = np.clip(np.rint(grey * (1 - cover) + colour * cover), 0, 255).astype(np.uint8)
    return mixed


def save(explanation: Explanation, folder: Path, taken: set[str]) -> Path:
    """Draw a heat map into a folder.

    Args:
        explanation: of an image that can be read.
        folder: made if it is missing.
        taken: names that this call must not use, and adds its own to.

    Returns:
        The file: a JPEG, named after the image; what is already there and not of imgclf's making stays as it is.

    Raises:
        UnreadableImage: the image cannot be read any more.
        SetupError: the file cannot be written.
    """
    sheet = draw(explanation)
    path = next(
        path for path in _names(explanation.path, folder) if path.name.casefold() not in taken and _is_ours(path)
    )
    taken.add(path.name.casefold())
    with runs.writing(path) as temporary:
        sheet.save(temporary, "JPEG", quality=92, comment=MARK)
    return path


def _names(image: Path, folder: Path) -> Iterable[Path]:
    """`photo.jpg` to `photo.explained.jpg`, `photo-2.explained.jpg`, ...: letters that every file system takes."""
    stem = re.sub(r"[^\w .()+-]", "_", image.stem.encode("utf-8", "replace").decode())[:MOST].strip(" .") or "image"
    number = 1
    while True:
        yield folder / f"{stem}{f'-{number}' if number > 1 else ''}.explained.jpg"
        number += 1


def _is_ours(path: Path) -> bool:
    """Whether a file may be written there: there is none, or one that was drawn here."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(4096)
    except FileNotFoundError:
        return not path.is_symlink()  # to nowhere, which would be written through
    except OSError:
        return False


def _photo(explanation: Explanation) -> Image.Image:
    photo = Image.fromarray(read_shrunk(explanation.path, SIDE).pixels)
    scale = SIDE / max(explanation.size)
    if scale > 1:  # pixels of small images stay squares, of the same size each
        scale = max(1.0, LEAST // max(explanation.size))
    size = tuple(max(1, round(side * scale)) for side in explanation.size[::-1])
    sampling = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return photo.resize((size[0], size[1]), sampling)


def _caption(sheet: Image.Image, explanation: Explanation, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    room = sheet.width - 2 * GAP
    percent = f"  {100 * explanation.probability:.1f} %"
    large, small = _font(17), _font(12)
    label = _fitting(_visible(explanation.label), room - draw.textlength(percent, large), large)
    draw.text((GAP, top), label, INK, large)
    draw.text((GAP + draw.textlength(label, large), top), percent, QUIET, large)
    bar = np.repeat(np.linspace(0, 1, room, dtype=np.float32)[np.newaxis], BAR, axis=0)
    middle = top + LINE + 6
    sheet.paste(Image.fromarray(coloured(np.full((BAR, room, 3), 128, np.uint8), bar)), (GAP, middle))
    says = "speaks most for it"
    draw.text((GAP, middle + BAR + 4), "says nothing", QUIET, small)
    draw.text((sheet.width - GAP - draw.textlength(says, small), middle + BAR + 4), says, QUIET, small)


def _visible(text: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _fitting(text: str, room: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans of matplotlib, which has Greek, Cyrillic, Arabic and Hebrew letters; else Pillow's own."""
    try:
        import matplotlib

        return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
    except (ImportError, OSError):
        return ImageFont.load_default(size)
