"""ImageSet -> ImageSet with parts. May import bonds, split_file (its rows) and errors.

The split depends on the content of the files and the seed, on nothing else: renaming, moving or re-dating files changes
nothing. Copies, near-copies and groups of the user's cannot end up on both sides.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import cast

from imgclf.data.bonds import doubted, identity, kin
from imgclf.data.draw import Draw
from imgclf.data.imageset import PARTS, ImageFile, ImageSet, Part
from imgclf.data.similar import Pair
from imgclf.data.split_file import SplitRow
from imgclf.errors import InputError

SHARE = 0.15
ENOUGH = 5000  # images that measure an accuracy of 0.9 to within 0.008; more teach more in training

Counts = Mapping[str, Counter[str]]  # part to class to number of images


def default_share(count: int) -> float:
    """The share of validation images, and of test images, of a set of `count` images."""
    return min(SHARE, ENOUGH / max(count, 1))


def with_groups(images: ImageSet, pattern: str) -> ImageSet:
    r"""Give every image the group that its path tells.

    Args:
        images: any.
        pattern: a regular expression, searched for in the path below the folder of images, with forward slashes. What
            its parentheses catch names the group (without any: all that it matches): `(patient\d+)`.

    Returns:
        The same set with groups; an image whose path does not match keeps the group it has.

    Raises:
        InputError: no regular expression, or no path matches.
    """
    try:
        search = re.compile(pattern).search
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"--group-by {pattern!r} is no regular expression ({error})", "try it on one path") from None
    grouped, hits = [], 0
    for image in images.images:
        match = search(images.name_of(image))
        caught = match.groups(default="") or (match.group(),) if match is not None else ()
        if not any(caught):  # also what matches without catching anything: that names no group
            grouped.append(image)
            continue
        hits += 1
        grouped.append(replace(image, group="/".join(caught)))
    if images.images and not hits:
        example = images.name_of(images.images[0])
        raise InputError(
            f"--group-by {pattern!r} matches no path, or catches nothing", f"a path is, for example, {example}"
        )
    return images.with_images(grouped)


def assign_parts(
    images: ImageSet,
    val_share: float = SHARE,
    test_share: float = SHARE,
    seed: int = 0,
    pairs: Sequence[Pair] = (),
    earlier: Sequence[SplitRow] = (),
    keep: bool = False,
) -> ImageSet:
    """Give every usable image its part.

    Stratified: of each class the given shares, to within one image wherever units allow. A class of three or more has
    at least one image in each part, smaller ones fill train, then test, then val. What belongs together (`bonds`)
    shares a part; a picture that occurs in several classes goes to train, because no label of it could be measured
    against. Ready-made parts are kept; a missing val or test part is taken from train. Images of an earlier split keep
    their parts, and new ones are placed so that the shares come out right.

    Args:
        images: inspected images.
        val_share: share of validation images, 0 or more and below 1; 0 makes no such part.
        test_share: likewise for the test part; both together below 1.
        seed: another seed, another split.
        pairs: of nearly the same pictures.
        earlier: the rows of a split.csv; ready-made parts go before it, unless `keep`.
        keep: whether the earlier split goes before ready-made parts, which then hold for images that it does not know.

    Returns:
        The same set with parts; unreadable files keep the one they have.

    Raises:
        InputError: a share out of range, a class without a training image, or too few images for a part.
    """
    if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
        raise InputError(
            f"the shares of validation ({val_share:g}) and test ({test_share:g}) leave nothing to train on",
            "expected two numbers from 0 whose sum is below 1, as 0.15 and 0.15",
        )
    usable = images.usable
    if any(not image.key for image in usable):
        raise ValueError("assign_parts needs inspected images (every usable image has a key)")
    own: dict[int, Part] = {}
    if earlier and keep:  # the user has named the parts; those of the folder hold for what the split does not know
        own = {index: image.part for index, image in enumerate(usable) if image.part}
        images = images.with_images(replace(image, part="") for image in images.images)
        usable = images.usable
    ready = {image.part for image in usable} & {"val", "test"}
    shares = {"test": test_share, "val": val_share}
    shares = {part: 0.0 if part in ready else share for part, share in shares.items()}
    fixed: dict[int, Part] = {index: image.part for index, image in enumerate(usable) if image.part in ready}
    if not ready:
        fixed = {**own, **earlier_parts(images, earlier)}
    drawing = Draw.of(usable, pairs, shares, seed)
    free = [image for image in usable if image.part not in ready]
    parts = drawing.parts(fixed, Counter(image.label for image in free), follow=not ready)
    drawn = iter(cast(list[Part], parts))
    parted = [image if image.verdict == "unreadable" else replace(image, part=next(drawn)) for image in images.images]
    result = images.with_images(sorted(parted, key=lambda image: image.place))
    require_parts(result, {part for part, share in shares.items() if share > 0})
    return result


def assign_folds(images: ImageSet, count: int, seed: int = 0, pairs: Sequence[Pair] = ()) -> list[ImageSet]:
    """Parts for cross-validation: every image is tested in one fold and validates in the one before.

    A picture in several classes only ever trains.

    Args:
        images: inspected images; ready-made parts are not looked at.
        count: number of folds, 3 or more.
        seed: another seed, other folds.
        pairs: of nearly the same pictures.

    Returns:
        `count` sets with parts. What belongs together is in one fold.

    Raises:
        InputError: fewer than 3 folds, or a class with fewer images than folds.
    """
    if count < 3:
        raise InputError(f"{count} folds leave nothing to train on", "expected 3 or more: one tests, one validates")
    unsure = set(chain.from_iterable(doubted(images.usable, pairs)))
    drawn = [image for index, image in enumerate(images.usable) if index not in unsure]
    sizes = Counter(image.label for image in drawn)
    small = [label for label in images.classes if sizes[label] < count]
    if small:
        raise InputError(f"the class {small[0]!r} has {sizes[small[0]]} images, too few for {count} folds",
                         "use fewer folds, or leave the class out with --exclude-classes")  # fmt: skip
    names = [str(number) for number in range(count)]
    drawing = Draw.of(drawn, pairs, dict.fromkeys(names[1:], 1 / count), seed, rest=names[0])
    fold_of = {image.path: int(name) for image, name in zip(drawn, drawing.parts({}, sizes), strict=True)}
    folds = []
    for number in range(count):
        roles: dict[int | None, Part] = {number: "test", (number + 1) % count: "val"}
        parted = [image if image.verdict == "unreadable"
                  else replace(image, part=roles.get(fold_of.get(image.path), "train"))
                  for image in images.images]  # fmt: skip
        folds.append(images.with_images(sorted(parted, key=lambda image: image.place)))
        require_parts(folds[-1], {"val", "test"})
    return folds


def earlier_parts(images: ImageSet, rows: Sequence[SplitRow]) -> dict[int, Part]:
    """The part that an earlier split gave to each usable image that it knows, by index.

    A file is known by path and content, else by its content, else by its path.
    """
    ordered = sorted(rows, key=lambda row: PARTS.index(row.part))  # of several parts the last counts
    both = {(row.path, row.key): row.part for row in ordered}
    keys = {row.key: row.part for row in ordered if row.key}
    paths = {row.path: row.part for row in ordered}
    found: dict[int, Part] = {}
    for index, image in enumerate(images.usable):
        name = images.name_of(image)
        part = both.get((name, image.key)) or keys.get(image.key) or paths.get(name)
        if part:
            found[index] = part
    return found


def leaks(images: ImageSet, pairs: Sequence[Pair] = ()) -> list[tuple[ImageFile, ImageFile]]:
    """Copies and near-copies across parts: of ready-made or edited parts, or of a chain too long for one part.

    Args:
        images: inspected images with parts.
        pairs: of nearly the same pictures.

    Returns:
        One pair per image that has its like in an earlier part (train, val, test): that one, and it.
    """
    usable = sorted(images.usable, key=lambda image: image.place)
    first: dict[str, ImageFile] = {}
    for image in usable:
        first.setdefault(identity(image), image)
    related = kin(usable, pairs)
    found = []
    for image in usable:
        earliest = min((first[name] for name in related[identity(image)]), key=lambda other: other.place)
        if PARTS.index(earliest.part or "train") < PARTS.index(image.part or "train"):
            found.append((earliest, image))
    return found


def torn_groups(images: ImageSet) -> dict[str, list[ImageFile]]:
    """The groups of the user's that lie in several parts, with an image of each part."""
    members: dict[str, dict[Part, ImageFile]] = {}
    for image in sorted(images.usable, key=lambda image: image.place):
        if image.group:
            members.setdefault(image.group, {}).setdefault(image.part, image)
    return {group: list(parts.values()) for group, parts in members.items() if len(parts) > 1}


def without_leaks(images: ImageSet, pairs: Sequence[Pair] = ()) -> ImageSet:
    """Leave out what a later part holds too: of train and test the training copy."""
    last: dict[str, int] = {}
    for image in images.usable:
        name = identity(image)
        last[name] = max(last.get(name, 0), PARTS.index(image.part or "train"))
    related = kin(images.usable, pairs)

    def stays(image: ImageFile) -> bool:
        return image.verdict == "unreadable" or PARTS.index(image.part or "train") == max(
            last[name] for name in related[identity(image)]
        )

    return images.with_images(image for image in images.images if stays(image))


def require_parts(images: ImageSet, wanted: set[str]) -> None:
    """Check that every class has a training image, and that the wanted parts are there.

    Args:
        images: with parts.
        wanted: of "val" and "test", those that must hold an image.

    Raises:
        InputError: otherwise, with the numbers.
    """
    counts = images.counts()
    per_class = Counter(image.label for image in images.usable)
    numbers = ", ".join(f"{label} {per_class[label]}" for label in images.classes)
    untrained = [label for label in images.classes if not counts.get("train", Counter())[label]]
    if untrained:
        raise InputError(
            f"the class {untrained[0]!r} in {images.root} has no training image ({numbers})",
            "every class needs at least one; add images or remove the class",
        )
    for part, name in (("val", "validation"), ("test", "test")):
        if part in wanted and part not in counts:
            raise InputError(
                f"{images.root} has too few images to set a {name} part aside ({numbers})",
                "expected a class with at least 3 pictures that lie in no other class, better 20 or more in each",
            )
