"""Image formats: how their files are named and begin, and what keeps one from being read alike by every decoder.

Imports the standard library only.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

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
    suffix = (path if isinstance(path, Path) else Path(path)).suffix.lower()
    if content in EXTENSIONS.get(suffix, ()):
        return ""
    return f"{MISNAMED}{suffix} but the content is {content}" if suffix else f"{MISNAMED}missing, it is {content}"


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
