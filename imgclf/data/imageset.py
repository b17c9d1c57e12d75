"""ImageFile and ImageSet: the values that every step of data/ takes and gives. Imports the standard library only.

`scan` fills path and label (and part, where the folder has parts), `inspect` fills everything else but part,
`assign_parts` fills part. No step changes its argument: each returns a new set.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from imgclf import notebook
from imgclf.progress import plural

Part = Literal["", "train", "val", "test"]
Verdict = Literal["unchecked", "fine", "repairable", "unreadable"]

PARTS: tuple[Part, ...] = ("train", "val", "test")

THUMBNAIL_SIDE = 64  # pixels; enough to tell two shirts on one table apart (docs/benchmarks.md)


@dataclass(frozen=True, slots=True)
class Looks:
    """What is measured of a picture, upright.

    Attributes:
        brightness: mean of the perceived brightness, 0..1.
        brightest: 99th percentile of the brightness, 0..1; low in a dark picture.
        darkest: 5th percentile, 0..1; high in an overexposed one.
        sharpness: 0..1; CleanVision's score, low in a blurred picture.
        entropy: of the grey values, 0..8 bits; low in a picture of nothing.
        colourfulness: 0 for grey, 30 for average photos, above 80 for very colourful ones (Hasler and Suesstrunk,
            "Measuring colourfulness in natural images", 2003).
        size: of the file, in bytes.
        pixels: hash of the decoded pixels, 16 hexadecimal digits; the same for files that look exactly alike.
        phash: perceptual hash, 64 bits (DCT, of the ImageHash library); 0 where the picture is not telling.
        inner: the same hash of the picture without its rim, which is what a cropped copy is.
        telling: whether the picture holds enough to be compared by its looks; otherwise only `pixels` tells.
    """

    brightness: float
    brightest: float
    darkest: float
    sharpness: float
    entropy: float
    colourfulness: float
    size: int
    pixels: str
    phash: int
    inner: int
    telling: bool


class Examined(NamedTuple):
    """What the content of a file is, whatever its name; the fields are those of `ImageFile`."""

    key: str
    format: str
    width: int
    height: int
    verdict: Verdict
    reason: str
    grey: bool = False
    looks: Looks | None = None


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file of the user's and what is known of it.

    Attributes:
        path: the user's own file; nothing ever writes to it.
        label: the class, NFC-normalized.
        part: "train", "val", "test", or "" while it has none.
        key: hash of the file's bytes, 32 hexadecimal digits; "" until inspected.
        format: what the content is ("JPEG", "PNG", ...), whatever the extension says; "" until inspected.
        width: pixels, upright; 0 until inspected or when unreadable.
        height: pixels, upright; 0 until inspected or when unreadable.
        verdict: "fine" goes to training as it is, "repairable" is rewritten upright 8-bit RGB when staged,
            "unreadable" is left out.
        grey: whether no pixel has a colour; False until inspected.
        reason: why it is repairable or unreadable, for people ("EXIF orientation 6", "truncated after 312 bytes").
        looks: what it looks like in a few numbers; None until inspected or when unreadable.
        group: images of one group (a patient, an object) always share a part; "" for none.
    """

    path: Path
    label: str
    part: Part = ""
    key: str = ""
    format: str = ""
    width: int = 0
    height: int = 0
    verdict: Verdict = "unchecked"
    reason: str = ""
    grey: bool = False
    looks: Looks | None = None
    group: str = ""

    @property
    def pixels(self) -> str:
        """What its decoded pixels are known by; "" where nothing is known of them."""
        return self.looks.pixels if self.looks is not None else ""

    @property
    def place(self) -> tuple[int, str, str]:
        """By what images are sorted: part (none, train, val, test), class, path."""
        return (PARTS.index(self.part) if self.part else -1, self.label, str(self.path))


def shown_path(path: Path, root: Path) -> str:
    """A path as tables have it: below the root, with forward slashes; the whole path where it lies elsewhere."""
    return (path.relative_to(root) if path.is_relative_to(root) else path.absolute()).as_posix()


@dataclass(frozen=True)
class ImageSet:
    """A folder of labelled images.

    Attributes:
        root: the folder as given.
        classes: sorted class names (NFC), also those without a readable image.
        images: every candidate file, sorted by part, class and path.
        ignored: what was counted but not read: kind ("hidden or system file", "not an image", ...) to sorted paths.
        has_parts: whether the folder came with train/ and val/ or test/ folders of its own.
        listed: whether a table names the images; the root is then only what their paths are shown below.
    """

    root: Path
    classes: tuple[str, ...]
    images: tuple[ImageFile, ...]
    ignored: dict[str, tuple[str, ...]] = field(default_factory=dict)
    has_parts: bool = False
    listed: bool = False

    @property
    def usable(self) -> tuple[ImageFile, ...]:
        """The images that can be trained on: all that are not unreadable."""
        return tuple(image for image in self.images if image.verdict != "unreadable")

    @property
    def unreadable(self) -> tuple[ImageFile, ...]:
        """The images that no reader made sense of, each with its reason."""
        return tuple(image for image in self.images if image.verdict == "unreadable")

    @property
    def ignored_counts(self) -> dict[str, int]:
        """How many files or folders of each kind were counted but not read."""
        return {kind: len(paths) for kind, paths in self.ignored.items()}

    def part(self, name: Part) -> tuple[ImageFile, ...]:
        """The usable images of one part."""
        return tuple(image for image in self.usable if image.part == name)

    def counts(self) -> dict[str, Counter[str]]:
        """Usable images by part, then class; classes without images count 0."""
        table: dict[str, Counter[str]] = {}
        for image in self.usable:
            table.setdefault(image.part, Counter(dict.fromkeys(self.classes, 0)))[image.label] += 1
        return table

    def shown(self, path: Path) -> str:
        """A path as it is written."""
        return shown_path(path, self.root)

    def name_of(self, image: ImageFile) -> str:
        """The path of an image as it is written."""
        return self.shown(image.path)

    def with_images(self, images: Iterable[ImageFile]) -> "ImageSet":
        """The same set with other images."""
        return replace(self, images=tuple(images))

    def __str__(self) -> str:
        verdicts = Counter(image.verdict for image in self.images)
        lines = [f"{self.root}: {len(self.images)} images, {len(self.classes)} classes"]
        lines += [f"  {verdict}: {number}" for verdict, number in sorted(verdicts.items()) if verdict != "unchecked"]
        lines += [f"  {kind}: {number} (ignored)" for kind, number in sorted(self.ignored_counts.items())]
        for part, classes in sorted(self.counts().items()):
            shown = ", ".join(f"{label} {number}" for label, number in classes.items())
            lines.append(f"  {part or 'all'}: {shown}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        lines: list[str] = []
        if self.unreadable:
            lines.append(f"{plural(len(self.unreadable), 'image')} cannot be read")
        if self.ignored:
            lines.append("ignored: " + ", ".join(f"{kind} {number}" for kind, number in self.ignored_counts.items()))
        headline = f"{self.root}: {plural(len(self.usable), 'image')} in {plural(len(self.classes), 'class')}"
        table = self.counts()
        parts = [part for part in ("", *PARTS) if part in table]
        total = len(parts) > 1
        rows = [
            [label, *(str(table[part][label]) for part in parts),
             *([str(sum(table[part][label] for part in parts))] if total else [])]
            for label in self.classes[: notebook.SHOWN_ROWS]
        ]  # fmt: skip
        more = len(self.classes) - len(rows)
        titles = [part or ("in no part" if total else "images") for part in parts]
        head = ["class", *titles, *(["all"] if total else [])]
        below = f"and {more} more classes" if more else ""
        return notebook.paragraph(headline, *lines) + notebook.table(head, rows, below)


@dataclass(frozen=True, slots=True)
class StagedImage:
    """One image as training reads it.

    Attributes:
        path: the staged file (a link to the user's file, or a repaired copy): an upright 8-bit JPEG or PNG.
        source: the user's own file.
        label: index of the class.
        key: hash of the user's file.
    """

    path: Path
    source: Path
    label: int
    key: str


@dataclass(frozen=True)
class StagedSet:
    """Parts and classes as folders that `keras.utils.image_dataset_from_directory` reads without surprise.

    A class folder is named by its index ("0000", "0001", ...), so that no class name can upset a file system; every
    part has a folder for every class, also an empty one.

    Attributes:
        root: the stage folder; `root / part / folder` holds the images.
        classes: class names in the order of their indices.
        parts: part ("train", "val", "test") to its images, sorted by staged path, which is the order in which
            `batches(..., shuffle=False)` gives them.
        side: longer side of the images that the model takes, which large photos were shrunk by; 0: none were.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, tuple[StagedImage, ...]]
    side: int = 0

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of the class folders, in the order of the classes."""
        return tuple(f"{index:04d}" for index in range(len(self.classes)))
