"""The findings of the dataset doctor: one function per finding, from `Facts` to items. May import what data/ found out.

`checks` has the list of them. Thresholds on looks are CleanVision's defaults
(https://github.com/cleanlab/cleanvision, 0.3.7), also the rule that what most images have is no problem of theirs.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imgclf import formats
from imgclf.data import samples, scan
from imgclf.data.bonds import contradictions
from imgclf.data.diagnosis import Item
from imgclf.data.imageset import ImageFile, ImageSet, Looks
from imgclf.data.shortcuts import Shortcut
from imgclf.data.similar import Pair, star_groups
from imgclf.data.split import leaks, torn_groups
from imgclf.progress import plural

TINY_CLASS = 20  # images; below that a test part holds 3
IMBALANCE = (3.0, 10.0)  # largest class to smallest: from here a note, from here a warning
SMALL_SIDE, USUAL_SIDE = 32, 64  # pixels; short sides below the first stand out where most are above the second
LARGE_PIXELS = 50_000_000
ODD_SIZE = 3.0  # interquartile ranges beyond the quartiles (CleanVision: odd_size)
ASPECT = 0.35  # short side to long side (odd_aspect_ratio)
DARK, BRIGHT, BLURRED = 0.32, 0.05, 0.29  # (dark, light, blurry)
PLAIN = 1.4  # bits of grey (low_information: 0.3 of 10 bits over the three channels, which is log2 3 more)
PLAIN_SHARE = 0.5  # and of the median of all images
MISSING = "no image in "
PREVALENT = 0.5  # (max_prevalence)

UNSUPPORTED = ("HEIC needs", "an SVG drawing")  # how the reasons of pixels.py begin
RAW = {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".svg", ".pdf"}
ROTATED = "EXIF orientation"


@dataclass(frozen=True)
class Facts:
    """All that the findings are made of.

    Attributes:
        images: inspected.
        pairs: of nearly the same pictures.
        shortcuts: properties that tell a class.
    """

    images: ImageSet
    pairs: tuple[Pair, ...] = ()
    shortcuts: tuple[Shortcut, ...] = ()

    @cached_property
    def contradictions(self) -> list[tuple[int, ...]]:
        """Indices of the usable images of each picture that lies in several classes."""
        return contradictions(self.images.usable, self.pairs)

    @cached_property
    def plain_pairs(self) -> list[Pair]:
        """The pairs that are no contradiction."""
        usable = self.images.usable
        unit_of = {usable[index].pixels: number for number, unit in enumerate(self.contradictions) for index in unit}
        return [pair for pair in self.pairs
                if pair.first not in unit_of or unit_of[pair.first] != unit_of.get(pair.second)]  # fmt: skip


# Labels and parts


def contradictory(facts: Facts) -> list[Item]:
    usable = facts.images.usable
    return [Item(tuple(usable[index].path for index in unit), _classes_of(usable, unit))
            for unit in facts.contradictions]  # fmt: skip


def scenes_across_classes(facts: Facts) -> list[Item]:
    """Nearly the same pictures in two classes that differ somewhere: perhaps in just what the label means."""
    files = _first_files(facts.images.usable)
    items = []
    for pair in facts.plain_pairs:
        firsts, seconds = files.get(pair.first, {}), files.get(pair.second, {})
        across = [(firsts[one], seconds[other]) for one in firsts for other in seconds
                  if one.part == other.part and one.label != other.label]  # fmt: skip
        if across and not firsts.keys() & seconds.keys():
            first, second = sorted(across[0], key=lambda image: (image.label, image.path))
            items.append(Item((first.path, second.path), f"{first.label} and {second.label}"))
    return items


def leaking(facts: Facts) -> list[Item]:
    if not facts.images.has_parts:
        return []
    return [Item((first.path, second.path), f"{first.part} and {second.part}")
            for first, second in leaks(facts.images, facts.pairs)]  # fmt: skip


def torn(facts: Facts) -> list[Item]:
    if not facts.images.has_parts:
        return []
    return [Item(tuple(image.path for image in members),
                 f"{group} is in {' and '.join(image.part for image in members)}")
            for group, members in torn_groups(facts.images).items()]  # fmt: skip


def copies(facts: Facts) -> list[Item]:
    """Within a part, because across parts they are leaks; and where the class is sure."""
    classes: dict[str, set[str]] = defaultdict(set)
    groups: dict[tuple[str, str], list[ImageFile]] = defaultdict(list)
    for image in facts.images.usable:
        if image.looks is not None:
            classes[image.looks.pixels].add(image.label)
            groups[image.looks.pixels, image.part].append(image)
    return [Item(tuple(image.path for image in files), files[0].label)
            for (pixels, _), files in groups.items() if len(files) > 1 and len(classes[pixels]) == 1]  # fmt: skip


def near_copies(facts: Facts) -> list[Item]:
    files = _first_files(facts.images.usable)
    pairs: dict[_Place, list[Pair]] = defaultdict(list)
    for pair in facts.plain_pairs:
        for place in files.get(pair.first, {}).keys() & files.get(pair.second, {}).keys():
            pairs[place].append(pair)
    groups = [(place, group) for place, inner in pairs.items() for group in star_groups(inner)]
    return [Item(tuple(files[name][place].path for name in group), place.label)
            for place, group in sorted(groups, key=lambda entry: (-len(entry[1]), entry))]  # fmt: skip


def shortcuts(facts: Facts) -> list[Item]:
    return [Item((), f"{each.name} tells it from the others with a balanced accuracy of {each.accuracy:.2f} "
                     f"(0.5 is chance): {each.inside}, elsewhere {each.outside}", each.label)
            for each in facts.shortcuts]  # fmt: skip


# Classes


def empty_classes(facts: Facts) -> list[Item]:
    counts = _class_counts(facts.images)
    unread = Counter(image.label for image in facts.images.unreadable)
    missing = {(item.label, part) for item in (*untrained(facts), *unmeasured(facts))
               for part in item.note.removeprefix(MISSING).split(" and ")}  # fmt: skip
    folders = [Path(path) for path in facts.images.ignored.get(scan.EMPTY, ())]
    return [
        *(Item((), f"{plural(unread[label], 'file')}, none readable", label)
          for label in facts.images.classes if not counts[label]),
        *(Item((path,), "an empty folder", path.name) for path in folders if _as_missing(path) not in missing),
    ]  # fmt: skip


def _as_missing(folder: Path) -> tuple[str, str]:
    """The class and the part of an empty folder in a part."""
    return unicodedata.normalize("NFC", folder.name), scan.PART_NAMES.get(folder.parent.name.casefold(), "")


def untrained(facts: Facts) -> list[Item]:
    return _missing_in(facts, ("train",))


def unmeasured(facts: Facts) -> list[Item]:
    return _missing_in(facts, ("val", "test"))


def _missing_in(facts: Facts, parts: Sequence[str]) -> list[Item]:
    if not facts.images.has_parts:
        return []
    counts = facts.images.counts()
    present = _class_counts(facts.images)
    items = []
    for label in facts.images.classes:
        lacking = [part for part in parts if part in counts and present[label] and not counts[part][label]]
        if lacking:
            items.append(Item((), f"{MISSING}{' and '.join(lacking)}", label))
    return items


def single(facts: Facts) -> list[Item]:
    return [Item((), "1 image", label) for label, number in _sizes(facts) if number == 1]


def tiny(facts: Facts) -> list[Item]:
    return [Item((), f"{number} images", label) for label, number in _sizes(facts) if 1 < number < TINY_CLASS]


def imbalance(low: float, high: float, facts: Facts) -> list[Item]:
    sizes = [(label, number) for label, number in _sizes(facts) if number]
    if len(sizes) < 2:
        return []
    (least, few), (most, many) = sizes[0], sizes[-1]
    if not low <= many / few < high:
        return []
    return [Item((), f"{plural(few, 'image')}, but {many} of {most} ({many / few:.1f} times as many)", least)]


def clashing_names(facts: Facts) -> list[Item]:
    alike: dict[str, list[str]] = defaultdict(list)
    for label in facts.images.classes:
        alike[re.sub(r"[\s_-]+", " ", label).strip().casefold()].append(label)
    items = [Item((), "differ only in case, spaces or hyphens", " / ".join(map(repr, labels)))
             for labels in alike.values() if len(labels) > 1]  # fmt: skip
    forms: dict[str, set[str]] = defaultdict(set)
    for image in facts.images.images:
        below = facts.images.name_of(image).split("/")
        forms[image.label].update(name for name in below if unicodedata.normalize("NFC", name) == image.label)
    items += [Item((), "two folders whose names are the same letters in two Unicode forms; taken as one class", label)
              for label, names in forms.items() if len(names) > 1]  # fmt: skip
    return items


def classes_like_parts(facts: Facts) -> list[Item]:
    return [Item((), "the name of a part, but used as a class", label)
            for label in facts.images.classes if label.casefold() in scan.PART_NAMES]  # fmt: skip


# Files


def unreadable(facts: Facts) -> list[Item]:
    return [Item((image.path,), image.reason) for image in facts.images.unreadable if not _is_unsupported(image)]


def unsupported(facts: Facts) -> list[Item]:
    raw = [path for path in facts.images.ignored.get(scan.NO_IMAGE, ()) if os.path.splitext(path)[1].lower() in RAW]  # noqa: PTH122 (strings)
    return [
        *(Item((image.path,), image.reason) for image in facts.images.unreadable if _is_unsupported(image)),
        *(Item((Path(path),), "not a format that is read") for path in raw),
    ]


def _is_unsupported(image: ImageFile) -> bool:
    return image.reason.startswith(UNSUPPORTED)


def left_out(facts: Facts) -> list[Item]:
    kinds = (scan.OUTSIDE, scan.BESIDE_PARTS, scan.BROKEN_LINK, samples.UNLABELLED, samples.NO_PICTURE)
    return [Item((Path(path),), kind) for kind in kinds for path in facts.images.ignored.get(kind, ())]


def ignored(facts: Facts) -> list[Item]:
    raw = {item.paths[0] for item in unsupported(facts)}
    return [Item((Path(path),), kind) for kind in (scan.HIDDEN, scan.NO_IMAGE)
            for path in facts.images.ignored.get(kind, ()) if Path(path) not in raw]  # fmt: skip


def repaired(wanted: Callable[[str], bool], facts: Facts) -> list[Item]:
    items = []
    for image in facts.images.usable:
        reasons = [reason for reason in image.reason.split("; ") if reason and wanted(reason)]
        if reasons:
            items.append(Item((image.path,), "; ".join(reasons)))
    return items


def is_rotated(reason: str) -> bool:
    return reason.startswith(ROTATED)


def is_misnamed(reason: str) -> bool:
    return reason.startswith(formats.MISNAMED)


def is_unusual(reason: str) -> bool:
    return not is_rotated(reason) and not is_misnamed(reason)


# Looks


def by_looks(holds: Callable[[ImageFile, Looks], str], facts: Facts) -> list[Item]:
    """The images of which something is said; nothing where it is said of most."""
    seen = [(image, image.looks) for image in facts.images.usable if image.looks is not None]
    items = [Item((image.path,), note) for image, looks in seen if (note := holds(image, looks))]
    return items if len(items) <= PREVALENT * len(seen) else []


def dark(image: ImageFile, looks: Looks) -> str:
    return f"lightest parts: {100 * looks.brightest:.0f} % of white" if looks.brightest < DARK else ""


def bright(image: ImageFile, looks: Looks) -> str:
    return f"darkest parts: {100 * looks.darkest:.0f} % of white" if 1 - looks.darkest < BRIGHT else ""


def blurred(image: ImageFile, looks: Looks) -> str:
    return f"sharpness {looks.sharpness:.2f}" if looks.sharpness < BLURRED else ""


def plain(facts: Facts) -> list[Item]:
    """Images with little in them, where most hold more: digits on black are no finding."""
    entropies = [image.looks.entropy for image in facts.images.usable if image.looks is not None]
    least = min(PLAIN, PLAIN_SHARE * float(np.median(entropies))) if entropies else 0.0

    def holds(image: ImageFile, looks: Looks) -> str:
        return f"{looks.entropy:.1f} of 8 bits of grey" if looks.entropy < least else ""

    return by_looks(holds, facts)


def stretched(image: ImageFile, looks: Looks) -> str:
    ratio = min(image.width, image.height) / max(image.width, image.height)
    return f"{image.width} x {image.height} pixels" if ratio < ASPECT else ""


def large(image: ImageFile, looks: Looks) -> str:
    pixels = image.width * image.height
    return f"{image.width} x {image.height} pixels" if pixels > LARGE_PIXELS else ""


def small(facts: Facts) -> list[Item]:
    sides = [min(image.width, image.height) for image in facts.images.usable]
    if not sides or float(np.median(sides)) < USUAL_SIDE:
        return []
    return [Item((image.path,), f"{image.width} x {image.height} pixels")
            for image, side in zip(facts.images.usable, sides, strict=True) if side < SMALL_SIDE]  # fmt: skip


def odd_size(facts: Facts) -> list[Item]:
    usable = facts.images.usable
    if not usable:
        return []
    sizes = np.sqrt([float(image.width * image.height) for image in usable])
    low, high = np.percentile(sizes, (25, 75))
    reach = ODD_SIZE * max(high - low, 0.1 * high)  # where nearly all have one size, a few pixels are no finding
    odd = np.flatnonzero((sizes < low - reach) | (sizes > high + reach))
    if len(odd) > PREVALENT * len(usable):
        return []
    said = {item.paths[0] for item in (*small(facts), *by_looks(large, facts))}
    return [Item((usable[index].path,), f"{usable[index].width} x {usable[index].height} pixels")
            for index in odd.tolist() if usable[index].path not in said]  # fmt: skip


def other_colours(facts: Facts) -> list[Item]:
    usable = facts.images.usable
    grey = [image for image in usable if image.grey]
    colour = [image for image in usable if not image.grey]
    few, note = (grey, "grey, most are in colour") if len(grey) <= len(colour) else (colour, "in colour, most are grey")
    return [Item((image.path,), note) for image in few]


# Helpers


class _Place(NamedTuple):
    part: str
    label: str


def _first_files(images: Iterable[ImageFile]) -> dict[str, dict[_Place, ImageFile]]:
    """Picture (its `looks.pixels`) -> part and class -> its first file there."""
    files: dict[str, dict[_Place, ImageFile]] = defaultdict(dict)
    for image in images:
        if image.looks is not None:
            files[image.looks.pixels].setdefault(_Place(image.part, image.label), image)
    return files


def _classes_of(images: Sequence[ImageFile], unit: Sequence[int]) -> str:
    return " and ".join(sorted({images[index].label for index in unit}))


def _class_counts(images: ImageSet) -> Counter[str]:
    return Counter(image.label for image in images.usable)


def _sizes(facts: Facts) -> list[tuple[str, int]]:
    """Classes with their numbers of images, the smallest first."""
    counts = _class_counts(facts.images)
    return sorted(((label, counts[label]) for label in facts.images.classes), key=lambda entry: (entry[1], entry[0]))
