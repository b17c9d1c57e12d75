"""What happens to image files: other formats, near copies, and things that break them."""

import io
import random

import numpy as np
from PIL import Image

FORMATS: dict[str, tuple[str, dict[str, object], str]] = {
    "jpg": ("JPEG", {"quality": 88}, "RGB"), "progressive.jpg": ("JPEG", {"progressive": True}, "RGB"),
    "cmyk.jpg": ("JPEG", {}, "CMYK"), "grey.jpg": ("JPEG", {}, "L"), "png": ("PNG", {}, "RGB"),
    "palette.png": ("PNG", {}, "P"), "alpha.png": ("PNG", {}, "RGBA"), "deep.png": ("PNG", {}, "I;16"),
    "gif": ("GIF", {}, "P"), "bmp": ("BMP", {}, "RGB"), "webp": ("WEBP", {}, "RGB"), "tif": ("TIFF", {}, "RGB"),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}, "RGB"), "avif": ("AVIF", {}, "RGB"),
    "jp2": ("JPEG2000", {}, "RGB"),
}  # fmt: skip


def copy_of(image: Image.Image, kind: int) -> Image.Image:
    """A near copy: 0 compressed at quality 60, 1 resized to 70 %, 2 cropped by 4 % on every side."""
    width, height = image.size
    if kind % 3 == 0:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=60)
        return Image.open(buffer).convert("RGB")
    if kind % 3 == 1:
        return image.resize((round(width * 0.7), round(height * 0.7)), Image.Resampling.LANCZOS)
    dx, dy = round(width * 0.04), round(height * 0.04)
    return image.crop((dx, dy, width - dx, height - dy))


def encoded(image: Image.Image, ending: str) -> bytes:
    """A picture as the bytes of a file of one of `FORMATS`."""
    name, options, mode = FORMATS[ending]
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    buffer = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(buffer, name, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A file that something has happened to: bytes changed, cut off, doubled, moved, or numbers made huge."""
    broken = bytearray(data)
    kind = rng.randrange(6)
    if kind == 0:
        for _ in range(rng.randint(1, 30)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
    elif kind == 1:
        del broken[rng.randrange(len(broken)) :]
    elif kind == 2:
        start = rng.randrange(len(broken))
        broken[start:start] = broken[start : start + rng.randint(1, 400)]
    elif kind == 3:
        start = rng.randrange(len(broken))
        del broken[start : start + rng.randint(1, 400)]
    elif kind == 4:  # sizes are in the head
        start = rng.randrange(min(64, len(broken)))
        broken[start : start + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\0\0"])
    else:
        start = rng.randrange(len(broken))
        broken[start : start + 16] = rng.randbytes(16)
    return bytes(broken)
