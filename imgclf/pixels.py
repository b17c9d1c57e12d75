"""Bytes -> upright uint8 RGB; the one resize. May import NumPy and Pillow only.

Training, prediction and the exported files must see the same pixels, so everything that turns a file into an array does
it here. `read` decodes what people have and says what keeps a file from being read as it is by every other decoder;
`shrink` and `stretch` bring it to the size of a model.
"""

import io
import logging
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

logging.getLogger("PIL").addHandler(logging.NullHandler())  # it logs errors; without any handler they go to stderr

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

MAX_PIXELS = 200_000_000  # the largest phone sensors have this many; as RGB that is 0.6 GB
MAX_BYTES = 1 << 30
TOO_MANY_PIXELS = f"larger than {MAX_PIXELS // 1_000_000} million pixels"

SHRINK_FACTOR = 4  # bilinear sampling without antialiasing skips pixels above 2x and shows it clearly above 4x
SHRUNK_FACTOR = 2  # what is left for the stretch after shrinking: no pixel skipped, room for crops

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in JPEG

# What Pillow may try. Not all that it knows: its EPS reader starts Ghostscript, and fonts and films are no photos.
# An MPO (two JPEGs in one file, as phones write them) comes out of the JPEG reader.
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "ICNS", "TGA", "PSD", "PCX",
    "SGI", "QOI",
)  # fmt: skip

# Which formats the files of an extension may hold.
EXTENSIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG", "MPO")),
    ".mpo": ("MPO", "JPEG"),
    **dict.fromkeys((".png", ".apng"), ("PNG",)),
    ".gif": ("GIF",),
    ".bmp": ("BMP",),
    ".dib": ("DIB", "BMP"),
    ".webp": ("WEBP",),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    ".avif": ("AVIF",),
    **dict.fromkeys((".heic", ".heif", ".hif"), ("HEIF",)),
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".jpc", ".jpf"), ("JPEG2000",)),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), ("PPM",)),
    ".ico": ("ICO",),
    ".icns": ("ICNS",),
    ".tga": ("TGA",),
    ".psd": ("PSD",),
    ".pcx": ("PCX",),
    **dict.fromkeys((".sgi", ".rgb", ".bw"), ("SGI",)),
    ".qoi": ("QOI",),
}

# How a file begins (offset, bytes): only marks too long to occur by chance at the start of something else.
MARKS: tuple[tuple[str, int, bytes], ...] = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("GIF", 0, b"GIF8"),
    ("BMP", 6, b"\0\0\0\0"),  # and "BM" at 0
    ("WEBP", 8, b"WEBP"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("TIFF", 0, b"II+\0"),
    ("TIFF", 0, b"MM\0+"),
    ("JPEG2000", 0, b"\0\0\0\x0cjP  \r\n\x87\n"),
    ("JPEG2000", 0, b"\xff\x4f\xff\x51"),
    ("PSD", 0, b"8BPS"),
    ("QOI", 0, b"qoif"),
    ("ICNS", 0, b"icns"),
)
PREFIXES = {"BMP": b"BM", "WEBP": b"RIFF"}
AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
SNIFF_BYTES = 64  # as many as `sniff` looks at

MISNAMED = "extension "  # how the repair of a file begins that is fine but for its name

# EXIF 2.32, tag 0x0112: what turns the stored picture upright.
ORIENTATION_TAG = 0x0112
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

BITS_PER_SAMPLE_TAG = 258  # TIFF 6.0


class UnreadableImage(Exception):
    """No image can be made of it; the text is a short reason for people ("truncated after 312 bytes")."""


@dataclass(frozen=True)
class Decoded:
    """An image as it is meant to be seen.

    Attributes:
        pixels: uint8 `(H, W, 3)`, upright RGB, transparency on white.
        format: what the content is ("JPEG", "PNG", "HEIF", ...), in Pillow's names.
        repairs: what keeps other decoders from reading the file like this ("EXIF orientation 6", "CMYK", ...); empty
            for an ordinary file: an 8-bit grey or RGB JPEG or PNG, upright, opaque, whole and rightly named.
        width: pixels, upright, of the whole image, also where `pixels` is a reduced reading of it.
        height: likewise.
    """

    pixels: Pixels
    format: str
    repairs: tuple[str, ...]
    width: int
    height: int


def read(source: str | Path | bytes, max_side_hint: int | None = None) -> Decoded:
    """Decode an image completely; the first one of an animation or a document.

    Args:
        source: a path, or the bytes of a file.
        max_side_hint: as many pixels as the caller needs on either side. A JPEG that is much larger may come back at
            1/2, 1/4 or 1/8 of its size with both sides at least this long, which is faster and takes less memory. It is
            still decoded to its end.

    Returns:
        The image and what is to be repaired about its file. Colour profiles are ignored, as TensorFlow does.

    Raises:
        UnreadableImage: for whatever reason.
    """
    data = source if isinstance(source, bytes) else _file_bytes(Path(source))
    kind = sniff(data)
    formats = _heic_formats() if kind == "HEIF" else FORMATS
    try:
        with _quiet_pillow, _quiet_libtiff if kind in ("TIFF", "") else nullcontext():
            decoded = _decode(data, formats, max_side_hint)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImage(TOO_MANY_PIXELS) from None
    except MemoryError:
        raise UnreadableImage("needs more memory than there is") from None
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into
        raise UnreadableImage(_reason(data, kind, error)) from None
    if isinstance(source, bytes):
        return decoded
    wrong = misnamed(source, decoded.format)
    repairs = (*decoded.repairs, wrong) if wrong else decoded.repairs
    return Decoded(decoded.pixels, decoded.format, repairs, decoded.width, decoded.height)


def load_for_model(source: str | Path | bytes, height: int, width: int, channels: int = 3) -> Floats:
    """Read an image as a model takes it: decoded, shrunk where it is very large, stretched.

    Args:
        source: a path, or the bytes of a file.
        height: pixels.
        width: pixels.
        channels: 3 for RGB, 1 for grey (ITU-R BT.601 luma).

    Returns:
        float32 `(height, width, channels)`, 0..255.

    Raises:
        UnreadableImage: for whatever reason.
    """
    pixels = stretch(read_shrunk(source, max(height, width)).pixels, height, width)
    return (pixels @ LUMA)[..., np.newaxis] if channels == 1 else pixels


def read_shrunk(source: str | Path | bytes, short_side: int) -> Decoded:
    """`read` and `shrink` in one, which lets a large JPEG be decoded at a fraction of its size."""
    # a reading at 1/2 still has to be over the limit of `shrink`, or it would be left without antialiasing
    decoded = read(source, SHRINK_FACTOR * short_side + 1)
    pixels = shrink(decoded.pixels, short_side)
    return Decoded(pixels, decoded.format, decoded.repairs, decoded.width, decoded.height)


def needs_shrinking(width: int, height: int, short_side: int) -> bool:
    """Whether `shrink` would change an image of this size."""
    return min(width, height) > SHRINK_FACTOR * short_side


def shrink(pixels: Pixels, short_side: int) -> Pixels:
    """Make a very large image smaller, antialiased, so that the stretch that follows does not skip pixels.

    Args:
        pixels: uint8 `(H, W, 3)`.
        short_side: the larger side of the model's input, in pixels.

    Returns:
        The same array if its short side is at most 4 times `short_side`; otherwise a smaller one, uint8, whose short
        side is twice `short_side` and which has the same proportions.
    """
    height, width = pixels.shape[:2]
    if not needs_shrinking(width, height, short_side):
        return pixels
    scale = SHRUNK_FACTOR * short_side / min(width, height)
    size = (round(width * scale), round(height * scale))
    # reducing by whole numbers first, to no less than twice the size, is several times faster and hardly differs
    small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(small)


def stretch(pixels: Pixels, height: int, width: int) -> Floats:
    """Resize by bilinear interpolation with half-pixel centres and without antialiasing.

    The same as `tf.image.resize(pixels, (height, width))`, as `keras.utils.image_dataset_from_directory` and
    MediaPipe's ImageClassifier do it.

    Args:
        pixels: uint8 `(H, W, C)`.
        height: pixels.
        width: pixels.

    Returns:
        float32 `(height, width, C)`, 0..255.
    """
    channels = pixels.shape[2]
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    top, bottom, down = _taps(pixels.shape[0], height)
    if 2 * height < len(rows):  # most rows are never looked at
        rows = rows[np.concatenate([top, bottom])]
        top, bottom = np.arange(height), np.arange(height, 2 * height)
    left, right, across = _taps(pixels.shape[1], width)
    # gathering single values along flat rows is 1.5 times faster than gathering pixels of 3
    each = np.arange(channels)
    left = (left[:, np.newaxis] * channels + each).ravel()
    right = (right[:, np.newaxis] * channels + each).ravel()
    columns = _between(rows.take(left, axis=1), rows.take(right, axis=1), np.repeat(across, channels))
    return _between(columns[top], columns[bottom], down[:, np.newaxis]).reshape(height, width, channels)


def _taps(size: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """For each output position: the two input positions beside it and how far it lies towards the second."""
    scale = np.float32(size / wanted)
    position = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    first = np.floor(position)
    second = np.minimum(np.ceil(position), size - 1)
    return np.maximum(first, 0).astype(np.intp), second.astype(np.intp), position - first


def _between(first: NDArray[np.generic], second: NDArray[np.generic], weight: Floats) -> Floats:
    start = first.astype(np.float32, copy=False)
    way = second.astype(np.float32, copy=False)  # a gathered copy already, so that it may be worked on in place
    way -= start
    way *= weight
    way += start
    return way


def sniff(head: bytes) -> str:
    """Tell the format from the first bytes (64 are enough): "JPEG", ..., or "" when it is none that is sure."""
    for name, offset, mark in MARKS:
        if head.startswith(mark, offset) and head.startswith(PREFIXES.get(name, b"")):
            return name
    if head[4:8] == b"ftyp":  # ISO base media: the major brand, then a version, then the compatible brands
        brands = [head[at : at + 4] for at in (8, *range(16, min(SNIFF_BYTES, int.from_bytes(head[:4], "big")), 4))]
        if any(brand in AVIF_BRANDS for brand in brands):
            return "AVIF"
        if any(brand in HEIC_BRANDS for brand in brands):
            return "HEIF"
    return ""


def misnamed(path: str | Path, content: str) -> str:
    """Say how the extension of a file contradicts the format of its content; "" if it does not."""
    suffix = Path(path).suffix.lower()
    if content in EXTENSIONS.get(suffix, ()):
        return ""
    return f"{MISNAMED}{suffix} but the content is {content}" if suffix else f"{MISNAMED}missing, it is {content}"


def _file_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableImage(f"larger than {MAX_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"cannot be opened ({error.strerror or error})") from None


def _decode(data: bytes, formats: tuple[str, ...], max_side_hint: int | None) -> Decoded:
    image, name, repairs, width, height = _upright(data, formats, max_side_hint)
    # every reading of the file but this one is gone by now: at 200 megapixels each of them takes 0.8 GB
    return Decoded(np.asarray(image), name, tuple(repairs), width, height)


def _upright(
    data: bytes, formats: tuple[str, ...], max_side_hint: int | None
) -> tuple[Image.Image, str, list[str], int, int]:
    with Image.open(io.BytesIO(data), formats=formats) as image:
        name = image.format or ""
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UnreadableImage(TOO_MANY_PIXELS)
        if width * height == 0:
            raise UnreadableImage("has no pixels")
        drafted = max_side_hint is not None and image.draft(None, (max_side_hint, max_side_hint))
        image.load()
        if not drafted:
            width, height = image.size  # Pillow turns TIFFs itself
        orientation = _orientation(image)
        checks = REPAIRS.get(name)
        repairs = checks(data) if checks else [f"{name} format"]
        upright = _to_rgb(image)
    if orientation in ORIENTATIONS:
        repairs.append(f"EXIF orientation {orientation}")
        upright = upright.transpose(ORIENTATIONS[orientation])
    if orientation >= 5:
        width, height = height, width
    return upright, name, repairs, width, height


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block says nothing about the picture
        return 1
    return value if value in ORIENTATIONS else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any of Pillow's modes to 8-bit RGB without clipping; transparency goes onto white."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_bytes(image)).convert("RGB")
    if image.has_transparency_data:
        seen = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", seen.size, "white")
        white.paste(seen, mask=seen)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_bytes(image: Image.Image) -> Pixels:
    """Scale deep grey values (modes I, I;16, F) to 0..255; Pillow's own conversion would clip them."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    low, high = float(values.min()), float(values.max())
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE_TAG, (16,))[0]
    tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (float(2 ** min(bits, 16) - 1),)
    # numbers beyond every usual range (elevations, counts, signed values) are shown from their least to their largest
    bottom, top = next(((0.0, top) for top in tops if low >= 0 and high <= top), (low, max(high, low + 1)))
    return ((values - bottom) * (255 / (top - bottom)) + 0.5).astype(np.uint8)


def _jpeg_repairs(data: bytes) -> list[str]:
    """What is unusual about a JPEG that Pillow could decode (ITU-T T.81, annex B)."""
    found, at, adobe_rgb = [], 2, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xEE and segment.startswith(b"Adobe") and len(segment) > 11:
            adobe_rgb = segment[11] == 0
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC) and len(segment) >= 6:
            precision, components = segment[0], segment[5]
            if marker not in (0xC0, 0xC1, 0xC2):
                found.append("unusual JPEG coding")  # arithmetic, lossless, hierarchical
            if precision != 8:
                found.append(f"{precision}-bit")
            if components == 4:
                found.append("CMYK")
            elif components == 2 or segment[6::3] == b"RGB" or (adobe_rgb and components == 3):
                found.append("unusual JPEG colours")
        if marker == 0xDA:
            break
        at += 2 + length
    else:
        found.append("unusual JPEG structure")
    if data.find(b"\xff\xd9", at) < 0:
        found.append("JPEG without its end")
    return found


def _png_repairs(data: bytes) -> list[str]:
    """What is unusual about a PNG that Pillow could decode (W3C PNG, third edition, sections 5 and 11)."""
    depth, colours = data[24], data[25]
    found = [name for name, holds in (
        (f"{depth}-bit", depth != 8),
        ("palette", colours == 3),
        ("transparency", colours in (4, 6)),
    ) if holds]  # fmt: skip
    unusual = {b"tRNS": "transparency", b"acTL": "animation"}
    at, kind = 8, b""
    while at + 12 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 4 : at + 8 + length]  # the checksum covers the name and the content
        if zlib.crc32(body) != int.from_bytes(data[at + 8 + length : at + 12 + length], "big"):
            found.append("damaged PNG chunk")
            break
        if kind in unusual and unusual[kind] not in found:
            found.append(unusual[kind])
        at += 12 + length
    else:
        if kind != b"IEND":
            found.append("PNG without its end")
    return found


# Formats that may be used as they are, and what to look for. Every other format is repaired.
REPAIRS: dict[str, Callable[[bytes], list[str]]] = {"JPEG": _jpeg_repairs, "PNG": _png_repairs}


def _reason(data: bytes, kind: str, error: Exception) -> str:
    """Say in people's words why Pillow gave up."""
    if not data:
        return "empty file"
    text = str(error).lower()
    if "truncated" in text or "not enough image data" in text or isinstance(error, EOFError):
        return f"truncated after {len(data)} bytes"
    if kind:
        return f"damaged {kind}"
    if not isinstance(error, UnidentifiedImageError):
        return "damaged image data"
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image"
    if b"<svg" in start:
        return "an SVG drawing, not a photo"
    return "not an image in a known format"


def _heic_formats() -> tuple[str, ...]:
    try:
        import pillow_heif
    except ImportError:
        raise UnreadableImage("HEIC needs the extra: pip install 'imgclf[heic]'") from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)


class _Shared:
    """A context that several threads may be in at once: the first to enter sets it up, the last to leave undoes it.

    For what is global to the process and must be found unchanged by the rest of the program.
    """

    def __init__(self, setting: Callable[[], AbstractContextManager[None]]) -> None:
        self.setting, self.lock, self.users = setting, threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if self.users == 0:
                self.current = self.setting()
                self.current.__enter__()
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.current.__exit__(None, None, None)


@contextmanager
def _pillow_settings() -> Iterator[None]:
    """No warnings, and our own limit on pixels."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises at twice its limit
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Keep what C code writes to stderr from the user: libtiff has dozens of lines to say about a damaged file."""
    try:
        kept = os.dup(2)
    except OSError:  # a windowed program on Windows has none
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


_quiet_pillow = _Shared(_pillow_settings)
_quiet_libtiff = _Shared(_no_stderr)
