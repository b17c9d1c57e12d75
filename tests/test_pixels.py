import io
import os
import struct
import sys
import tarfile
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from imgclf import pixels

SHARED = Path(os.environ.get("IMGCLF_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def scene(height=48, width=64):
    """A smooth colourful picture without symmetry, so that no turn and no swap of channels goes unseen."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / (width - 1), 255 * y / (height - 1)
    blue = 127 + 120 * np.sin(x / width * 5 + y / height * 2)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def encode(image, format, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def difference(first, second):
    return float(np.abs(first.astype(np.float32) - second.astype(np.float32)).mean())


@pytest.mark.parametrize(
    "format, options",
    [("JPEG", {"quality": 95}), ("JPEG", {"progressive": True, "quality": 95}), ("PNG", {})],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_files_need_no_repair(format, options, mode):
    image = Image.fromarray(scene()).convert(mode)
    decoded = pixels.read(encode(image, format, **options))
    assert (decoded.format, decoded.repairs, decoded.width, decoded.height) == (format, (), 64, 48)
    assert decoded.pixels.shape == (48, 64, 3)
    assert decoded.pixels.dtype == np.uint8
    assert difference(decoded.pixels, np.asarray(image.convert("RGB"))) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_comes_out_upright(orientation, format):
    # how a camera stores the scene so that the tag turns it back (EXIF 2.32: rows and columns of the stored picture)
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](scene())
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(format, {})
    decoded = pixels.read(encode(np.ascontiguousarray(stored), format, exif=exif, **options))
    assert (decoded.width, decoded.height) == (64, 48)
    assert difference(decoded.pixels, scene()) < 3
    named = f"EXIF orientation {orientation}" in decoded.repairs
    assert named == (orientation > 1 and format != "TIFF")  # Pillow turns TIFFs itself, and they are repaired anyway


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        decoded = pixels.read(encode(values, format))
        assert difference(decoded.pixels[..., 0], values / 257) < 1
        assert decoded.repairs
    assert pixels.read(encode(values, "PNG")).repairs == ("16-bit",)


def test_deep_and_float_tiffs_are_scaled():
    ramp = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64)
    for values in (ramp, ramp * 255, ramp * 65535, ramp * 4000 - 2000, (ramp * 1e6).astype(np.int32)):
        assert difference(pixels.read(encode(values, "TIFF")).pixels[..., 1], ramp * 255) < 1
    with_nan = ramp.copy()
    with_nan[0, 0] = np.nan
    assert difference(pixels.read(encode(with_nan, "TIFF")).pixels[..., 1], ramp * 255) < 1


def png(depth, colours, row_bytes):
    """A PNG of 4 x 4 pixels made by hand: Pillow cannot write 16-bit RGB."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row_bytes for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, depth, colours, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bit_colour_is_named_and_scaled():
    decoded = pixels.read(png(16, 2, struct.pack(">3H", 65535, 32768, 0) * 4))
    assert decoded.repairs == ("16-bit",)
    assert decoded.pixels[0, 0].tolist() == [255, 128, 0]


def test_transparency_goes_onto_white():
    rgba = np.dstack([scene(), np.zeros((48, 64), np.uint8)])
    rgba[:, :32, 3] = 255
    expected = scene()
    expected[:, 32:] = 255
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        decoded = pixels.read(encode(rgba, format, **options))
        assert difference(decoded.pixels, expected) < 1
        assert decoded.repairs
    assert pixels.read(encode(rgba, "PNG")).repairs == ("transparency",)
    grey = Image.fromarray(rgba).convert("LA")
    assert pixels.read(encode(grey, "PNG")).pixels[0, 40].tolist() == [255, 255, 255]


def test_a_transparent_colour_of_a_grey_or_palette_png_becomes_white():
    black = Image.new("L", (4, 4), 0)
    decoded = pixels.read(encode(black, "PNG", transparency=0))
    assert (decoded.repairs, decoded.pixels.min()) == (("transparency",), 255)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 10, 20])
    assert pixels.read(encode(palette, "PNG")).pixels[0, 0].tolist() == [200, 10, 20]
    assert pixels.read(encode(palette, "PNG", transparency=1)).pixels[0, 0].tolist() == [255, 255, 255]


def test_cmyk_one_bit_and_animations():
    cmyk = Image.fromarray(scene()).convert("CMYK")
    decoded = pixels.read(encode(cmyk, "JPEG", quality=95))
    assert decoded.repairs == ("CMYK",)
    assert difference(decoded.pixels, scene()) < 4
    bits = Image.fromarray(scene()).convert("1")
    assert set(np.unique(pixels.read(encode(bits, "PNG")).pixels)) == {0, 255}
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encode(first, format, save_all=True, append_images=[second])
        decoded = pixels.read(data)
        assert decoded.repairs, format
        assert difference(decoded.pixels[0, 0], np.array([254, 0, 0])) < 3, format


def test_rgb_jpegs_and_jpegs_without_end_are_repaired():
    assert pixels.read(encode(scene(), "JPEG", keep_rgb=True)).repairs == ("unusual JPEG colours",)
    whole = encode(scene(), "JPEG")
    assert whole.endswith(b"\xff\xd9")
    assert pixels.read(whole + b"a trailer that phones append").repairs == ()


def test_a_damaged_checksum_is_noticed():
    data = bytearray(png(8, 2, bytes(12)))
    assert pixels.read(bytes(data)).repairs == ()
    data[-13] ^= 1  # the last byte before IEND: the checksum of the pixels, which Pillow does not look at
    assert pixels.read(bytes(data)).repairs == ("damaged PNG chunk",)


def test_the_extension_is_checked_against_the_content(tmp_path):
    for name, expected in (
        ("a.jpg", ()),
        ("a.JPEG", ()),
        ("a.png", ("extension .png but the content is JPEG",)),
        ("a", ("extension missing, it is JPEG",)),
    ):
        (tmp_path / name).write_bytes(encode(scene(), "JPEG"))
        assert pixels.read(tmp_path / name).repairs == expected


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"hello world, this is no image", "not an image in a known format"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page, not an image"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>', "an SVG drawing, not a photo"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "damaged PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a known format"),
    ],
)
def test_what_is_no_image_is_named_in_words(data, reason):
    with pytest.raises(pixels.UnreadableImage) as caught:
        pixels.read(data)
    assert str(caught.value) == reason


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_truncated_files_are_unreadable(format):
    rng = np.random.default_rng(0)
    whole = encode(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), format)
    with pytest.raises(pixels.UnreadableImage, match=r"truncated after|damaged"):
        pixels.read(whole[: len(whole) // 2])
    assert pixels.read(whole).format == format


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(pixels.UnreadableImage, match="cannot be opened"):
        pixels.read(tmp_path / "absent.jpg")
    with pytest.raises(pixels.UnreadableImage, match="cannot be opened"):
        pixels.read(tmp_path)


def test_bombs_are_refused_before_they_are_decoded():
    header = struct.pack(">IIBBBBB", 20_000, 10_001, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(pixels.UnreadableImage, match="larger than 200 million pixels"):
        pixels.read(b"\x89PNG\r\n\x1a\n" + chunk + png(8, 2, bytes(12))[33:])


def test_heic_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(pixels.UnreadableImage, match=r"pip install 'imgclf\[heic\]'"):
        pixels.read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))


def test_avif_is_read():
    decoded = pixels.read(encode(scene(), "AVIF", quality=95))
    assert (decoded.format, decoded.repairs) == ("AVIF", ("AVIF format",))
    assert difference(decoded.pixels, scene()) < 4


def test_reading_leaves_pillow_and_the_warnings_as_they_were():
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    data = encode(scene(), "JPEG")
    with ThreadPoolExecutor(4) as pool:
        shapes = {decoded.pixels.shape for decoded in pool.map(pixels.read, [data] * 40)}
    assert shapes == {(48, 64, 3)}
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_a_hint_reads_large_jpegs_smaller_but_not_too_small():
    data = encode(scene(800, 1200), "JPEG", quality=95)
    decoded = pixels.read(data, max_side_hint=190)
    assert decoded.pixels.shape == (200, 300, 3)
    assert (decoded.width, decoded.height) == (1200, 800)
    with pytest.raises(pixels.UnreadableImage, match="truncated"):
        pixels.read(data[:-3000], max_side_hint=190)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_files_give_pixels_or_a_reason(data):
    format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO"]))
    broken = bytearray(encode(scene(16, 24), format))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(broken) - 1), st.integers(0, 255)), max_size=4)):
        broken[at] = value
    broken = bytes(broken[: data.draw(st.integers(0, len(broken)))])
    try:
        decoded = pixels.read(broken)
    except pixels.UnreadableImage as error:
        assert 0 < len(str(error)) < 80
        assert "\n" not in str(error)
    else:
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.shape[2] == 3


@pytest.mark.parametrize(
    "size, wanted",
    [((240, 320), (224, 224)), ((32, 32), (224, 224)), ((501, 333), (96, 160)), ((1, 1), (5, 7)), ((900, 1), (64, 64))],
)
def test_stretch_is_tensorflow_s_bilinear_resize(size, wanted):
    import tensorflow as tf

    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = tf.image.resize(image, wanted, method="bilinear").numpy()
    result = pixels.stretch(image, *wanted)
    assert (result.dtype, result.shape) == (np.float32, (*wanted, 3))
    assert np.abs(result - expected).max() < 1e-3


def test_stretch_by_hand():
    row = np.array([[[0], [100]]], np.uint8)
    # centres of the 4 outputs lie at -0.25, 0.25, 0.75 and 1.25 of the inputs
    assert pixels.stretch(row, 1, 4).ravel().tolist() == [0.0, 25.0, 75.0, 100.0]
    assert pixels.stretch(row, 1, 1).ravel().tolist() == [50.0]


@settings(max_examples=50, deadline=None)
@given(
    image=hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
)
def test_stretch_stays_within_the_values_and_keeps_flips(image, height, width):
    result = pixels.stretch(image, height, width)
    assert image.min() - 1e-3 <= result.min() and result.max() <= image.max() + 1e-3
    flipped = pixels.stretch(image[::-1, ::-1], height, width)
    assert np.abs(flipped[::-1, ::-1] - result).max() < 0.05
    assert np.array_equal(pixels.stretch(image, *image.shape[:2]), image.astype(np.float32))


def test_shrink_touches_only_what_is_over_four_times_the_input():
    at_limit = scene(4 * 32, 300)
    assert pixels.shrink(at_limit, 32) is at_limit
    large = scene(4 * 32 + 1, 300)
    small = pixels.shrink(large, 32)
    assert small.shape == (64, round(300 * 64 / 129), 3)
    assert difference(pixels.stretch(small, 32, 32), pixels.stretch(large, 32, 32)) < 3


def test_shrink_averages_what_the_stretch_would_skip():
    checkered = np.zeros((512, 512, 3), np.uint8)
    checkered[::2, 1::2] = checkered[1::2, ::2] = 255
    assert np.abs(pixels.load_for_model(encode(checkered, "PNG"), 32, 32) - 127.5).max() < 3


def test_load_for_model(tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(encode(scene(600, 900), "JPEG", quality=95))
    result = pixels.load_for_model(path, 32, 64)
    assert (result.shape, result.dtype) == ((32, 64, 3), np.float32)
    assert difference(result, pixels.stretch(scene(600, 900), 32, 64)) < 3
    grey = pixels.load_for_model(path, 32, 64, channels=1)
    assert grey.shape == (32, 64, 1)
    assert difference(grey[..., 0], result @ np.array([0.299, 0.587, 0.114])) < 0.01


@pytest.mark.shared
def test_phone_photos_in_all_orientations_look_the_same(tmp_path):
    with tarfile.open(SHARED / "data/exif_orient.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    for name in ("Landscape", "Portrait"):
        reference = pixels.read(tmp_path / f"exif_orient/{name}_1.jpg")
        for orientation in range(1, 9):
            decoded = pixels.read(tmp_path / f"exif_orient/{name}_{orientation}.jpg")
            assert decoded.pixels.shape == reference.pixels.shape
            small = [pixels.stretch(pixels.shrink(each.pixels, 56), 224, 224) for each in (decoded, reference)]
            assert difference(*small) < 6, (name, orientation)


@pytest.mark.shared
def test_damaged_files_are_silent(tmp_path, capfd):
    with tarfile.open(SHARED / "data/odd_images.tar") as tar:
        tar.extractall(tmp_path, filter="data")

    def outcome(path):
        try:
            return pixels.read(path).format
        except pixels.UnreadableImage as error:
            return str(error)

    paths = sorted((tmp_path / "odd_images").glob("*.tif*"))
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(outcome, paths))) == len(paths) > 80
    assert capfd.readouterr() == ("", "")
    os.write(2, b"still open")
    assert capfd.readouterr().err == "still open"
