import hashlib
from dataclasses import astuple

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageFilter

from imgclf import pixels
from imgclf.data.inspect import examine
from imgclf.data.looks import look
from tests.data.drawing import save, texture


def plain(colour, side=64):
    return np.full((side, side, 3), colour, np.uint8)


def seen(picture, size=1000):
    return look(picture, size)[0]


# What CleanVision 0.3.7 measures, written down once more.


def perceived(picture):
    red, green, blue = np.moveaxis(picture.astype(np.float64), 2, 0)
    return np.sqrt(0.241 * red**2 + 0.691 * green**2 + 0.068 * blue**2) / 255


def grey_of(picture):
    luma = picture.astype(np.float64) @ [0.299, 0.587, 0.114]
    return np.floor(luma + 0.5 + 1e-6).astype(np.uint8)


def entropy_of(grey):
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    return -sum(share * np.log2(share) for share in shares if share)


def sharpness_of(grey):
    """On a picture of at most 64 pixels: each pixel against its 8 neighbours; the border stays as it is."""
    padded = grey.astype(int)
    edges = padded.copy()
    around = sum(np.roll(padded, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1))
    edges[1:-1, 1:-1] = np.clip(9 * padded - around, 0, 255)[1:-1, 1:-1]
    histogram = np.bincount(grey.ravel(), minlength=256)
    spread = 1 - np.exp(-0.01 * histogram.std())
    return min(1 - np.exp(-0.01 * edges.std()) + (spread if spread > 0.18 else 0), 1)


PICTURES = {
    "texture": texture(1, 64),
    "grey": texture(2, 64, colour=False),
    "tall": texture(3, 40, 60),
    "noise": np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8),
    "dim noise": np.random.default_rng(1).integers(0, 80, (64, 64, 3), np.uint8),
    "red": plain((255, 0, 0)),
    "half": np.repeat(plain(0)[:1], 64, 0) + np.where(np.arange(64)[:, None, None] < 32, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_measures_are_those_of_cleanvision(name):
    picture = PICTURES[name]
    found, grey, bright = seen(picture), grey_of(picture), perceived(picture)
    assert found.brightness == pytest.approx(bright.mean(), abs=1e-4)
    ordered = np.sort(bright.ravel())  # the measures round to 1/255
    assert found.darkest == pytest.approx(ordered[int(np.ceil(0.05 * len(ordered))) - 1], abs=0.0021)
    assert found.brightest == pytest.approx(ordered[int(np.ceil(0.99 * len(ordered))) - 1], abs=0.0021)
    assert found.entropy == pytest.approx(entropy_of(grey), abs=1e-3)
    assert found.sharpness == pytest.approx(sharpness_of(grey), abs=1e-3)


def test_black_white_and_half():
    black, white, half = seen(plain(0)), seen(plain(255)), seen(PICTURES["half"])
    assert (black.brightness, black.brightest, black.entropy, black.colourfulness) == (0, 0, 0, 0)
    assert (white.brightness, white.darkest, white.entropy, white.colourfulness) == (1, 1, 0, 0)
    assert (half.brightness, half.darkest, half.brightest, half.entropy) == (0.5, 0, 1, 1)


def test_a_gradient_of_every_grey_has_eight_bits():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 30, 0).repeat(3, 2)
    found = seen(ramp)
    assert (found.entropy, found.colourfulness) == (8, 0)
    assert found.brightness == pytest.approx(0.5, abs=1e-4)


def test_colourfulness_by_hand():
    assert seen(plain((255, 0, 0))).colourfulness == pytest.approx(0.3 * np.hypot(255, 127.5), abs=1e-3)
    two = plain((255, 0, 0))
    two[:32] = (0, 0, 255)  # rg: 255 and 0; yb: 127.5 and -255
    expected = np.hypot(127.5, 191.25) + 0.3 * np.hypot(127.5, -63.75)
    assert seen(two).colourfulness == pytest.approx(expected, abs=1e-3)


def test_blur_lowers_sharpness_and_nothing_of_the_light():
    grain = np.random.default_rng(0).integers(-40, 41, (48, 48, 1)).repeat(2, 0).repeat(2, 1)
    sharp = Image.fromarray(np.clip(texture(0, fastest=1.5) + grain, 0, 255).astype(np.uint8))
    found = [seen(np.asarray(sharp.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, 1, 2, 4)]
    sharpness = [each.sharpness for each in found]
    assert sharpness[0] > 1.4 * sharpness[1] and sharpness[1] > 1.1 * sharpness[2]
    assert sharpness[0] > 0.45 and max(sharpness[2:]) < 0.29
    assert found[3].brightness == pytest.approx(found[0].brightness, abs=0.01)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2000, 3), (600, 700)])
def test_any_shape_can_be_looked_at(shape):
    found, thumbnail = look(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8), 7)
    assert all(np.isfinite(value) for value in astuple(found) if not isinstance(value, str))
    assert (found.size, found.telling, found.phash, thumbnail) == (7, False, 0, None)


LARGE = texture(1, 1024, waves=3)


def test_large_pictures_are_measured_like_their_reduction():
    large, small = seen(LARGE), seen(np.asarray(Image.fromarray(LARGE).reduce(8)))
    measured = ("brightness", "brightest", "darkest", "sharpness", "entropy", "colourfulness", "phash")
    assert [getattr(large, name) for name in measured] == [getattr(small, name) for name in measured]
    assert large.pixels != small.pixels


def test_the_same_pixels_in_other_files_have_the_same_name(tmp_path):
    picture = texture(1, 70, 50)
    files = [save(picture, tmp_path / name) for name in ("a.png", "b.bmp", "c.tiff", "d.ppm")]
    files.append(save(picture, tmp_path / "turned.png"))
    exif = Image.Exif()
    exif[0x0112] = 6
    files[-1] = save(np.rot90(picture).copy(), files[-1], exif=exif)
    examined = [examine(str(path)).examined for path in files]
    assert len({each.looks.pixels for each in examined}) == 1
    assert len({each.key for each in examined}) == 5
    assert [each.looks.size for each in examined] == [path.stat().st_size for path in files]
    other = picture.copy()
    other[3, 3, 0] ^= 1
    assert seen(other).pixels != examined[0].looks.pixels
    assert seen(picture.reshape(70, 50, 3)).pixels != examined[0].looks.pixels  # the same bytes in another shape


def test_the_hash_is_that_of_imagehash():
    for seed in range(5):
        picture = texture(seed, 90, 70)
        expected = imagehash.phash(Image.fromarray(grey_of(picture)))
        assert f"{seen(picture).phash:016x}" == str(expected)
    assert any(seen(texture(seed)).phash >= 2**63 for seed in range(5))


def digit(seed):
    """Strokes of light on black, blurred a little, enlarged: as MNIST is often kept."""
    rng = np.random.default_rng(seed)
    small = np.zeros((28, 28), np.uint8)
    row, column = 6, rng.integers(8, 20)
    for _ in range(18):
        small[row : row + 2, column : column + 2] = 255
        row, column = min(row + 1, 22), int(np.clip(column + rng.integers(-2, 3), 4, 22))
    image = Image.fromarray(small).filter(ImageFilter.GaussianBlur(0.6))
    return np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR).convert("RGB"))


def test_textures_are_telling_and_digits_and_plain_walls_are_not():
    assert all(seen(texture(seed)).telling for seed in range(10))
    assert not any(seen(digit(seed)).telling for seed in range(10))
    assert not seen(plain(200)).telling and not seen(PICTURES["half"]).telling
    assert not seen(texture(1, 31)).telling
    assert seen(texture(1, 32)).telling


def test_only_telling_pictures_have_a_thumbnail(tmp_path):
    reading = examine(str(save(texture(1), tmp_path / "a.png")))
    assert reading.thumbnail.shape == (64, 64)
    assert reading.examined.key == hashlib.blake2b((tmp_path / "a.png").read_bytes(), digest_size=16).hexdigest()
    assert np.array_equal(reading.thumbnail, look(pixels.read(tmp_path / "a.png").pixels, 0)[1])
    assert examine(str(save(digit(1), tmp_path / "b.png"))).thumbnail is None
