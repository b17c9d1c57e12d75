"""Draw the two small picture sets of sample_data/. Needs NumPy and Pillow only.

`objects` has four classes (cup, fish, leaf, star), `cat_or_rabbit` has two. Colour, place, size, rotation, background,
light and clutter are random and say nothing of the class, so a linear model on raw pixels fails; shape tells all, so a
small network learns it in seconds. A few awkward files in each set are what any real folder has. The same seed and the
same Pillow give the same bytes:

    python scripts/make_sample_data.py [--out sample_data]
"""

import argparse
import colorsys
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Points = NDArray[np.float64]  # (n, 2), x to the right and y down; an object fills about -1..1
Color = tuple[int, int, int]  # RGB, 0..255
Rng = np.random.Generator

SEED = 2016
OVERSAMPLING = 3  # drawn this many times too large and then shrunk: smooth edges
SIDE = (104, 128)  # pixels, smallest and largest width and height
JPEG_QUALITY = 84
BORDER = 7  # drawn pixels, softness of the outline that the border follows; about its width
INK = (38, 34, 46)  # eyes, whiskers, smiles
PAPER = (250, 248, 240)  # the white border of a sticker: shape shows on any background
BLUSH = (240, 150, 160)  # noses, cheeks, the inside of ears


# Geometry


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, arc: tuple[float, float] = (0, 360)) -> Points:
    """Points on an ellipse around (x, y), turned by `turn` degrees, from and to the given angles (0 right, 90 down)."""
    angle = np.radians(np.linspace(*arc, 48))
    centred = rotated(np.stack([rx * np.cos(angle), ry * np.sin(angle)], axis=1), turn)
    return np.add(centred, (x, y), dtype=np.float64)


def rotated(points: Points, degrees: float) -> Points:
    """The points turned around the origin, clockwise as seen."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned: Points = points @ np.array([[c, s], [-s, c]])
    return turned


def mirrored(points: Points) -> Points:
    """The points seen in a mirror: x becomes -x."""
    return points * (-1, 1)


def rounded(corners: Sequence[tuple[float, float]] | Points, rounds: int = 2) -> Points:
    """A closed polygon with its corners cut `rounds` times (Chaikin 1974): the more, the rounder."""
    points = np.asarray(corners, dtype=np.float64)
    for _ in range(rounds):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(-1, 2)
    return points


def shade(color: Color, factor: float) -> Color:
    """The colour darker (factor below 1) or nearer to white (above 1, up to 2)."""
    base = np.asarray(color, dtype=np.float64)
    mixed = base * factor if factor <= 1 else base + (255 - base) * (factor - 1)
    red, green, blue = (int(v) for v in mixed.clip(0, 255))
    return red, green, blue


@dataclass(frozen=True)
class Pen:
    """Draws in an object's own coordinates onto a layer.

    Attributes:
        layer: RGBA, transparent where nothing was drawn.
        place: (x, y) of the object's origin, pixels.
        size: pixels of one unit.
        turn: degrees, clockwise.
        flip: -1 for a mirrored object, else 1.
        outline: width of outlines, units.
    """

    layer: Image.Image
    place: tuple[float, float]
    size: float
    turn: float
    flip: int
    outline: float

    def fill(self, points: Points, color: Color, edge: float = 0.55) -> None:
        """Fill a closed shape, outlined in a darker (`edge` below 1) shade of its colour; edge 1 for no outline."""
        pixels = self._pixels(points)
        draw = ImageDraw.Draw(self.layer)
        draw.polygon(pixels, fill=color)
        if edge != 1:
            width = max(1, round(self.outline * self.size))
            draw.line([*pixels, *pixels[:2]], fill=shade(color, edge), width=width, joint="curve")

    def stroke(self, points: Points, color: Color, width: float) -> None:
        """Draw an open line; `width` in units."""
        pixels = self._pixels(points)
        pen = max(1, round(width * self.size))
        draw = ImageDraw.Draw(self.layer)
        draw.line(pixels, fill=color, width=pen, joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=color)

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        placed = rotated(points * (self.flip, 1) * self.size, self.turn) + self.place
        return [(float(x), float(y)) for x, y in placed]


# The objects: each draws itself with a pen in its own colour and a second one


def cup(pen: Pen, color: Color, second: Color, rng: Rng) -> None:
    """A mug with a handle, a drink, a pattern and at times steam."""
    top, bottom, height = 0.62, rng.uniform(0.42, 0.6), rng.uniform(0.55, 0.75)
    handle = ellipse(top * 0.95, 0.05, rng.uniform(0.3, 0.4), height * rng.uniform(0.5, 0.62), arc=(-115, 115))
    pen.stroke(handle, shade(color, 0.5), 0.24)
    pen.stroke(handle, shade(color, 0.9), 0.14)
    lower = ellipse(0, height, bottom, 0.14, arc=(0, 180))
    pen.fill(np.concatenate([[(top, -height)], lower, [(-top, -height)]]), color)
    pattern = rng.integers(3)
    if pattern == 0:
        band = rng.uniform(-0.2, 0.3)
        half = top + (bottom - top) * (band + height) / (2 * height) - 0.03
        pen.fill(
            np.array([(-half, band - 0.1), (half, band - 0.1), (half, band + 0.12), (-half, band + 0.12)]), second, 1
        )
    elif pattern == 1:
        for x, y in ((-0.28, -0.2), (0.02, 0.02), (0.3, -0.2), (-0.25, 0.25), (0.27, 0.25)):
            pen.fill(ellipse(x, y, 0.09, 0.09), second, 1)
    else:
        heart = [(0, 0.34), (-0.34, 0), (-0.24, -0.26), (0, -0.1), (0.24, -0.26), (0.34, 0)]
        pen.fill(rounded(heart), second, 1)
    pen.fill(ellipse(0, -height, top, 0.16), shade(color, 1.45))
    pen.fill(ellipse(0, -height + 0.02, top * 0.83, 0.1), (96, 62, 40) if rng.random() < 0.7 else (170, 196, 120), 1)
    if rng.random() < 0.5:
        wave = np.linspace(0, 1, 12)
        for x in (-0.22, 0.18):
            curve = np.stack([x + 0.07 * np.sin(wave * 6), -height - 0.14 - 0.36 * wave], axis=1)
            pen.stroke(curve, (246, 246, 246), 0.06)


def fish(pen: Pen, color: Color, second: Color, rng: Rng) -> None:
    """A fish with fins, a tail, stripes or scales, and an eye."""
    high = rng.uniform(0.38, 0.56)
    spread = rng.uniform(0.34, 0.52)
    pen.fill(rounded([(-0.45, 0), (-0.98, -spread), (-0.84, 0), (-0.98, spread)], 2), second)
    pen.fill(rounded([(-0.35, -0.2), (-0.1, -high - 0.32), (0.35, -high - 0.1), (0.3, -0.2)]), second)
    pen.fill(rounded([(-0.15, 0.2), (-0.2, high + 0.24), (0.12, high + 0.06), (0.2, 0.2)]), second)
    pen.fill(rounded([(-0.68, 0), (-0.3, -high), (0.35, -high), (0.92, 0), (0.35, high), (-0.3, high)], 3), color)
    if rng.random() < 0.5:
        for x in (-0.25, 0.02, 0.27):
            half = high * (0.62 if x < 0 else 0.7)
            pen.fill(ellipse(x, 0, 0.055, half), second, 1)
    else:
        for x in (-0.32, -0.1, 0.12):
            for y in (-0.2, 0.0, 0.2):
                pen.stroke(ellipse(x - 0.1 * abs(y), y, 0.1, 0.1, arc=(-75, 75)), shade(color, 0.65), 0.04)
    pen.fill(ellipse(0.5, -0.1, 0.13, 0.13), (250, 250, 250), 0.6)
    pen.fill(ellipse(0.53, -0.1, 0.065, 0.065), INK, 1)
    pen.stroke(ellipse(0.72, 0.08, 0.13, 0.1, arc=(50, 150)), shade(color, 0.45), 0.045)


def leaf(pen: Pen, color: Color, second: Color, rng: Rng) -> None:
    """A leaf with a stem, a midrib and veins; smooth, or with a toothed margin."""
    broad, teeth, bend = rng.uniform(0.34, 0.55), rng.choice([0.0, 0.05, 0.07]), rng.uniform(-0.18, 0.18)
    along = np.linspace(0, 1, 49)
    half = broad * np.sin(np.pi * along ** rng.uniform(0.75, 1.1)) ** 0.85
    half = half + teeth * (np.arange(along.size) % 6 / 5) * (half > 0.08)
    x, curve = 1.75 * along - 0.8, bend * np.sin(np.pi * along)
    pen.stroke(np.array([(-1.05, 0.08), (-0.8, 0.0)]), shade(second, 0.6), 0.09)
    margin = np.concatenate([np.stack([x, curve - half], axis=1), np.stack([x, curve + half], axis=1)[::-1]])
    pen.fill(margin, color)
    rib = shade(color, rng.choice([0.6, 1.5]))
    pen.stroke(np.stack([x, curve], axis=1)[:46], rib, 0.055)
    for at in range(8, 38, 7):
        for side in (-1, 1):
            tip = (x[at] + 0.2, curve[at] + side * half[at + 5] * 0.72)
            pen.stroke(np.array([(x[at], curve[at]), tip]), rib, 0.035)


def star(pen: Pen, color: Color, second: Color, rng: Rng) -> None:
    """A plump five-pointed star, often with a face."""
    inner = rng.uniform(0.46, 0.56)
    angle = np.radians(np.arange(10) * 36 - 90)
    radius = np.where(np.arange(10) % 2 == 0, 1.05, inner)
    tips = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    pen.fill(rounded(tips, int(rng.integers(1, 3))), color)
    if rng.random() < 0.6:
        pen.fill(rounded(tips * 0.72, 1), shade(color, 1.22), 1)
    if rng.random() < 0.7:
        for x in (-0.19, 0.19):
            pen.fill(ellipse(x, -0.08, 0.065, 0.09), INK, 1)
            pen.fill(ellipse(x * 1.75, 0.12, 0.09, 0.06), second, 1)
        pen.stroke(ellipse(0, 0.08, 0.13, 0.12, arc=(20, 160)), INK, 0.05)


def cat(pen: Pen, color: Color, second: Color, rng: Rng) -> None:
    """A cat's face: short pointed ears."""
    wide, lean = rng.uniform(0.72, 0.85), rng.uniform(-0.06, 0.08)
    for side in (1, -1):
        tip = (0.66 + lean, rng.uniform(-1.02, -0.88))
        ear = np.array([(0.12, -0.45), tip, (0.78, -0.05)])
        inside = np.array([(0.3, -0.48), (tip[0] - 0.03, tip[1] + 0.18), (0.66, -0.25)])
        for part, paint in ((ear, color), (inside, BLUSH)):
            pen.fill(rounded(part if side == 1 else mirrored(part), 1), paint, 0.55 if paint == color else 1)
    pen.fill(ellipse(0, 0.12, wide, 0.66), color)
    if rng.random() < 0.5:
        for x in (-0.16, 0.0, 0.16):
            pen.stroke(np.array([(x, -0.5), (x * 0.8, -0.28)]), shade(color, 0.55), 0.07)
    face(pen, color, rng)


def rabbit(pen: Pen, color: Color, second: Color, rng: Rng) -> None:
    """A rabbit's face: long ears, at times one of them folded."""
    folded, root = rng.choice([-1, 0, 0, 1]), np.array([0.28, -0.3])
    for side in (1, -1):
        lean, long = rng.uniform(4, 22), rng.uniform(0.36, 0.44)
        for width, length, paint in ((0.2, long, color), (0.1, long * 0.72, BLUSH)):
            ear = rotated(ellipse(0, -long, width, length), lean) + root
            pen.fill(ear if side == 1 else mirrored(ear), paint, 0.55 if paint == color else 1)
        if side == folded:
            flap = rotated(ellipse(0.2, -long * 1.75, 0.3, 0.17, 25), lean) + root
            pen.fill(flap if side == 1 else mirrored(flap), shade(color, 0.9))
    pen.fill(ellipse(0, 0.28, rng.uniform(0.6, 0.7), rng.uniform(0.56, 0.64)), color)
    face(pen, color, rng)
    pen.fill(np.array([(-0.08, 0.58), (0.08, 0.58), (0.07, 0.72), (-0.07, 0.72)]), (250, 250, 250), 0.6)


def face(pen: Pen, color: Color, rng: Rng) -> None:
    """Eyes, cheeks, nose, mouth and whiskers: the same for cats and rabbits, so that only ears tell them apart."""
    apart, sleepy = rng.uniform(0.27, 0.34), rng.random() < 0.2
    for side in (1, -1):
        if sleepy:
            pen.stroke(ellipse(side * apart, 0.1, 0.12, 0.1, arc=(20, 160)), INK, 0.055)
        else:
            pen.fill(ellipse(side * apart, 0.12, 0.11, 0.14), INK, 1)
            pen.fill(ellipse(side * apart + 0.035, 0.06, 0.04, 0.045), (255, 255, 255), 1)
        pen.fill(ellipse(side * (apart + 0.16), 0.38, 0.11, 0.07), BLUSH, 1)
        for tilt in (-0.06, 0.06):
            whisker = np.array([(0.3, 0.42 + tilt), (0.86, 0.4 + 3 * tilt)])
            pen.stroke(whisker if side == 1 else mirrored(whisker), shade(color, 0.35), 0.03)
        pen.stroke(ellipse(side * 0.09, 0.46, 0.09, 0.09, arc=(10, 170)), INK, 0.045)
    pen.fill(rounded([(-0.12, 0.32), (0.12, 0.32), (0, 0.46)], 1), shade(BLUSH, 0.85))


# Background, light and the finished picture


def hue_color(rng: Rng, saturation: tuple[float, float], value: tuple[float, float]) -> Color:
    """A colour of random hue, its saturation and value (0..1) within the ranges given."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return round(red * 255), round(green * 255), round(blue * 255)


def unlike(rng: Rng, others: Sequence[Color], distance: float) -> Color:
    """A strong colour, at least `distance` (Euclidean, 0..441) from the others, so that an object stands out."""
    while True:
        color = hue_color(rng, (0.3, 0.8), (0.5, 0.95))
        if all(np.linalg.norm(np.subtract(color, other)) >= distance for other in others):
            return color


def background(width: int, height: int, color: Color, rng: Rng) -> Image.Image:
    """An RGB ground of one of six patterns in two shades of one colour, with a few blobs of other colours on it."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    turn, period = rng.uniform(0, np.pi), rng.uniform(30, 75)
    u, v = across * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - across * np.sin(turn)
    cloud = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    patterns: tuple[Callable[[], NDArray[np.float64]], ...] = (
        lambda: np.asarray(cloud) / 255.0,  # clouds
        lambda: (np.sin(2 * np.pi * u / period) > 0.2) * 1.0,  # stripes
        lambda: ((u % period - period / 2) ** 2 + (v % period - period / 2) ** 2 < (period / 4) ** 2) * 1.0,  # dots
        lambda: ((u % period > period / 2) * 1.0 + (v % period > period / 2)) / 2,  # gingham
        lambda: (np.sin(2 * np.pi * (u + 12 * np.sin(v / 22)) / period) + 1) / 2,  # waves
        lambda: (np.sin(u / 9 + np.asarray(cloud) / 24.0) + 1) / 2,  # wood
    )
    weight = patterns[rng.integers(len(patterns))]()[..., None] * rng.uniform(0.15, 0.4)
    second = shade(color, rng.choice([0.72, 1.45]))
    ground = Image.fromarray((np.asarray(color) * (1 - weight) + np.asarray(second) * weight).astype(np.uint8))
    for _ in range(rng.integers(0, 5)):
        spread = rng.uniform(0.03, 0.11) * min(width, height)
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        corners = spread * np.stack([np.cos(angle), rng.uniform(0.4, 1.0) * np.sin(angle)], axis=1)
        placed = rotated(corners, rng.uniform(0, 360)) + rng.uniform(0, 1, 2) * (width, height)
        blob = [(float(x), float(y)) for x, y in rounded(placed, int(rng.integers(0, 3)))]
        ImageDraw.Draw(ground).polygon(blob, fill=hue_color(rng, (0.15, 0.7), (0.45, 0.95)))
    return ground


def lit(picture: Image.Image, rng: Rng, strength: float) -> Image.Image:
    """The picture under light from a random side; `strength` is the share gained on one side and lost on the other."""
    across, down = np.meshgrid(np.linspace(-1, 1, picture.width), np.linspace(-1, 1, picture.height))
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + strength * (across * np.cos(angle) + down * np.sin(angle)) / np.sqrt(2)
    pixels = np.array(picture, dtype=np.float64)
    pixels[..., :3] *= light[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Subject:
    """One class: how it is drawn, and how far it may be turned from upright (degrees)."""

    draw: Callable[[Pen, Color, Color, Rng], None]
    turn: float


def draw_layer(subject: Subject, width: int, height: int, ground: Color, rng: Rng) -> Image.Image:
    """The object alone, RGBA of the given size in pixels, in colours that stand out from the ground."""
    layer = Image.new("RGBA", (width, height))
    color = unlike(rng, [ground], 130)
    second = unlike(rng, [color], 110)
    size = rng.uniform(0.38, 0.45) * min(width, height)
    place = (rng.uniform(size, width - size), rng.uniform(size, height - size))
    turn = rng.uniform(-subject.turn, subject.turn)
    pen = Pen(layer, place, size, turn, int(rng.choice([-1, 1])), rng.uniform(0.045, 0.075))
    subject.draw(pen, color, second, rng)
    return lit(layer, rng, 0.3)


def draw_picture(subject: Subject, rng: Rng, *, transparent: bool = False) -> Image.Image:
    """One finished picture of a class, RGB, sides of SIDE pixels; RGBA without a ground when `transparent`."""
    width, height = (int(v) for v in rng.integers(SIDE[0], SIDE[1] + 1, 2))
    large = (width * OVERSAMPLING, height * OVERSAMPLING)
    ground = hue_color(rng, (0.1, 0.6), (0.35, 0.85))
    picture = background(*large, ground, rng)
    layer = draw_layer(subject, *large, ground, rng)
    if transparent:
        return layer.resize((width, height), Image.Resampling.BOX)
    alpha = layer.getchannel("A")
    border = alpha.filter(ImageFilter.GaussianBlur(BORDER)).point(lambda value: min(255, max(0, (value - 24) * 12)))
    darkness = border.filter(ImageFilter.GaussianBlur(8)).point(lambda value: value * 2 // 5)
    offset = tuple(int(v) for v in rng.integers(-14, 15, 2))
    picture.paste((20, 18, 28), (offset[0], offset[1]), darkness)
    picture.paste(PAPER, (0, 0), border)
    picture.paste(layer, (0, 0), layer)
    return lit(picture, rng, rng.uniform(0.0, 0.3)).resize((width, height), Image.Resampling.BOX)


# The sets


@dataclass(frozen=True)
class SampleSet:
    """One folder of sample_data/: its classes by name, and the number of drawn pictures in each."""

    classes: dict[str, Subject]
    per_class: int


SETS = {
    "objects": SampleSet(
        {"cup": Subject(cup, 20), "fish": Subject(fish, 25), "leaf": Subject(leaf, 50), "star": Subject(star, 36)}, 100
    ),
    "cat_or_rabbit": SampleSet({"cat": Subject(cat, 30), "rabbit": Subject(rabbit, 30)}, 90),
}


def jpeg(picture: Image.Image) -> bytes:
    """The picture as an ordinary JPEG file."""
    return encoded(picture, "JPEG", quality=JPEG_QUALITY)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    """The picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def sideways(picture: Image.Image) -> bytes:
    """A JPEG stored turned by 90 degrees, with the EXIF orientation (6) that turns it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    return encoded(stored, "JPEG", quality=JPEG_QUALITY, exif=exif)


def truncated(picture: Image.Image) -> bytes:
    """A JPEG whose second half is missing, as after a broken download."""
    whole = jpeg(picture)
    return whole[: len(whole) // 2]


# Awkward pictures, by name: the file's name ({} is the class) and how it is written. They come on top of `per_class`.
AWKWARD: dict[str, tuple[str, Callable[[Image.Image], bytes]]] = {
    "sideways": ("{}_sideways.jpg", sideways),
    "misnamed": ("{}_really_a_png.jpg", lambda picture: encoded(picture.quantize(64), "PNG", optimize=True)),
    "truncated": ("{}_truncated.jpg", truncated),
    "transparent": ("{}_transparent.png", lambda picture: encoded(picture.quantize(48), "PNG", optimize=True)),
    "cmyk": ("{}_cmyk.jpg", lambda picture: encoded(picture.convert("CMYK"), "JPEG", quality=JPEG_QUALITY)),
    "unicode": ("ein schönes Bild ☕ {} (1).jpg", jpeg),
}

# Which class holds which awkward picture; then the exact copies (from, to) and the files that are no pictures at all.
PLACES = {
    "objects": {
        "sideways": "cup", "misnamed": "fish", "truncated": "leaf", "transparent": "star", "cmyk": "leaf",
        "unicode": "cup",
    },
    "cat_or_rabbit": {
        "sideways": "rabbit", "misnamed": "cat", "truncated": "cat", "transparent": "rabbit", "cmyk": "cat",
        "unicode": "rabbit",
    },
}  # fmt: skip
COPIES = {
    "objects": ("fish/fish_007.jpg", "fish/fish_007 - copy.jpg"),
    "cat_or_rabbit": ("rabbit/rabbit_012.jpg", "rabbit/rabbit_012 - copy.jpg"),
}
JUNK = {"objects": "star/Thumbs.db", "cat_or_rabbit": "cat/.DS_Store"}


def make_set(name: str, out: Path) -> None:
    """Write one set into `out / name`, replacing what is there.

    Args:
        name: a key of SETS.
        out: the folder of all sets.
    """
    folder, number = out / name, list(SETS).index(name)
    shutil.rmtree(folder, ignore_errors=True)
    for index, (label, subject) in enumerate(SETS[name].classes.items()):
        (folder / label).mkdir(parents=True)
        for at in range(1, SETS[name].per_class + 1):
            # a generator for each picture: another one more or less changes none of the others
            picture = draw_picture(subject, np.random.default_rng((SEED, number, index, at)))
            (folder / label / f"{label}_{at:03d}.jpg").write_bytes(jpeg(picture))
    for at, (kind, label) in enumerate(PLACES[name].items()):
        file, write = AWKWARD[kind]
        rng = np.random.default_rng((SEED, number, 100, at))
        picture = draw_picture(SETS[name].classes[label], rng, transparent=kind == "transparent")
        (folder / label / file.format(label)).write_bytes(write(picture))
    original, copy = COPIES[name]
    shutil.copyfile(folder / original, folder / copy)
    (folder / JUNK[name]).write_bytes(b"not a picture\n")


def main() -> None:
    """Draw both sets."""
    parser = argparse.ArgumentParser(description="Draw the picture sets of sample_data/.")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "sample_data", help="folder of the sets"
    )
    out = parser.parse_args().out
    for name in SETS:
        make_set(name, out)
        files = [path for path in (out / name).rglob("*") if path.is_file()]
        print(f"{out / name}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
