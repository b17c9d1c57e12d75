"""Image files as `data:` addresses, so that a page needs no file beside it. Imports pixels."""

import base64
import io
from pathlib import Path

from PIL import Image

from imgclf import pixels

THUMBNAIL_SIDE = 160  # pixels, longest side
THUMBNAIL_QUALITY = 80  # a thumbnail is 3 to 8 kB
LEAST_SIDE, LEAST_QUALITY = 24, 40  # below that nothing is recognized


def thumbnail(path: Path, side: int = THUMBNAIL_SIDE, most: int | None = None) -> str | None:
    """A small upright copy of an image file as a `data:` address.

    Args:
        path: an image file.
        side: the longest side in pixels; a smaller image stays as small as it is.
        most: characters that the address may have; a picture that needs more is made coarser, then smaller.

    Returns:
        A JPEG, or None where the file cannot be read (any more): a report with one picture missing is better than no
        report.
    """
    try:
        picture = Image.fromarray(pixels.read(path, 2 * side).pixels)
    except pixels.UnreadableImage:
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    while True:
        for quality in (THUMBNAIL_QUALITY, 60, LEAST_QUALITY):
            address = _jpeg(picture, quality)
            if most is None or len(address) <= most:
                return address
        if max(picture.size) <= LEAST_SIDE:
            return None
        picture.thumbnail((picture.width * 3 // 4 or 1, picture.height * 3 // 4 or 1), Image.Resampling.LANCZOS)


def embedded(path: Path) -> str | None:
    """A PNG file as it is, as a `data:` address; None where it cannot be read (any more)."""
    return _address(path, "png")


def jpeg(path: Path) -> str | None:
    """A JPEG file as it is, as a `data:` address; None where it cannot be read (any more)."""
    return _address(path, "jpeg")


def _address(path: Path, kind: str) -> str | None:
    try:
        return f"data:image/{kind};base64," + base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError:
        return None


def _jpeg(picture: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
