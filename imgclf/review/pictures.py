"""An image file as a page can show it: decoded, made smaller, encoded anew. May import pixels and Pillow.

What reaches the browser is always a JPEG that was written here, whatever the file holds: formats that browsers do not
know are shown, and nothing in a file that is more than pixels gets through.
"""

import io
import threading
from pathlib import Path

from PIL import Image

from imgclf.pixels import read

QUALITY = 90
AT_ONCE = threading.BoundedSemaphore(2)  # a browser asks for six at a time; each may take 0.6 GB


def as_jpeg(path: Path, side: int) -> bytes:
    """Read an image and encode it as a JPEG.

    Args:
        path: the file, in any format that training reads.
        side: pixels of the longer side; a smaller image stays as it is.

    Returns:
        The bytes of the JPEG: upright, RGB, without metadata.

    Raises:
        UnreadableImage: for whatever reason.
    """
    with AT_ONCE:
        picture = Image.fromarray(read(path, side).pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)  # halved colours would blur icons and tiny images
    return buffer.getvalue()
