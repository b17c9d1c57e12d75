"""Bytes -> upright uint8 RGB; the one resize. May import NumPy, Pillow, formats, noise, places and errors only.

Training, prediction and the exported files must see the same pixels, so everything that turns a file into an array does
it here. `read` decodes what people have and says what keeps a file from being read as it is by every other decoder;
`shrink` and `stretch` bring it to the size of a model.
"""

import io
import logging
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from imgclf.errors import InputError
from imgclf.formats import FORMATS, REPAIRS, misnamed, sniff
from imgclf.noise import hushed
from imgclf.storage.places import Address, place

logging.getLogger("PIL").addHandler(logging.NullHandler())  # it logs errors; without any handler they go to stderr

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

MAX_PIXELS = 200_000_000  # the largest phone sensors have this many; as RGB that is 0.6 GB
MAX_BYTES = 1 << 30
TOO_MANY_PIXELS = f"larger than {MAX_PIXELS // 1_000_000} million pixels"

SHRINK_FACTOR = 4  # bilinear sampling without antialiasing skips pixels above 2x and shows it clearly above 4x
SHRUNK_FACTOR = 2  # what is left for the stretch after shrinking: no pixel skipped, room for crops

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in JPEG

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

    @property
    def is_grey(self) -> bool:
        """Whether no pixel has a colour: red, green and blue are the same everywhere."""
        for pixels in (self.pixels[::16, ::16], self.pixels):  # a coloured photo shows itself in a few pixels
            if not (np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])):
                return False
        return True


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
    data = source if isinstance(source, bytes) else file_bytes(place(source))
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
    return fitted(read_shrunk(source, max(height, width)).pixels, height, width, channels)


def fitted(pixels: Pixels, height: int, width: int, channels: int = 3) -> Floats:
    """Bring what `read_shrunk` gave to the form that a model takes: `load_for_model` without the reading."""
    stretched = stretch(pixels, height, width)
    return (stretched @ LUMA)[..., np.newaxis] if channels == 1 else stretched


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


def file_bytes(path: Path) -> bytes:
    """The bytes of a file, or of an object at an address, that may be an image.

    Raises:
        UnreadableImage: it cannot be opened, is larger than MAX_BYTES, or is no file but a pipe or a device.
        SetupError: there is no permission to read an address, or its server does not answer.
    """
    if isinstance(path, Address):
        return _object_bytes(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableImage("cannot be opened (not a file)")
        if found.st_size > MAX_BYTES:
            raise UnreadableImage(f"larger than {MAX_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"cannot be opened ({error.strerror or error})") from None


def _object_bytes(address: Address) -> bytes:
    if address.found is not None and (address.found.size or 0) > MAX_BYTES:
        raise UnreadableImage(f"larger than {MAX_BYTES >> 20} MB")
    try:
        return address.read_bytes()
    except InputError as error:  # another one says that nothing can be read
        raise UnreadableImage(f"cannot be opened ({error.what})") from None


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


_quiet_pillow = _Shared(_pillow_settings)
# libtiff has dozens of lines to say about a damaged file; stdout carries the results of other threads
_quiet_libtiff = _Shared(partial(hushed, 2))
