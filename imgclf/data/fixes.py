"""Corrected labels applied to a set of images; the user's folder stays as it is. May import suspects and imageset."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.data.suspects import Suspect
from imgclf.errors import InputError
from imgclf.progress import plural


@dataclass(frozen=True)
class Fixed:
    """Images after the corrections.

    Attributes:
        images: with new labels, without what was excluded.
        relabelled: how many have another label.
        excluded: how many are left out.
        unknown: corrections that name no image of the set.
    """

    images: ImageSet
    relabelled: int
    excluded: int
    unknown: int

    def __str__(self) -> str:
        done = f"{plural(self.relabelled, 'image')} relabelled, {self.excluded} left out"
        return done + (f"; {self.unknown} corrections name no image here" if self.unknown else "")


def apply_decided(images: ImageSet, fixes: Sequence[Suspect]) -> Fixed:
    """Relabel and leave out what a person has decided, in every part.

    An image is known by its path and content; where the folder was moved, by its content and label.

    Args:
        images: inspected.
        fixes: rows of the file; those that nobody has decided change nothing here.

    Raises:
        InputError: a new label that is no class, or none of the rows is an image of the set.
    """
    chosen, unknown = _matched(images, fixes)
    if fixes and not chosen:
        raise InputError(f"none of the {plural(len(fixes), 'correction')} names an image of {images.root}",
                         "expected the suspects of the same images")  # fmt: skip
    return _applied(images, {index: fix for index, fix in chosen.items() if fix.action}, unknown)


def apply_undecided(images: ImageSet, fixes: Sequence[Suspect]) -> Fixed:
    """Follow sure suggestions and leave out unsure ones where nobody has decided, in the training part only.

    Validation and test keep their labels: without the images that a network doubts, any accuracy looks better.

    Args:
        images: inspected, with parts.
        fixes: rows of the file; those that are decided change nothing here.
    """
    chosen, _ = _matched(images, [fix for fix in fixes if not fix.action])
    return _applied(images, {index: fix for index, fix in chosen.items() if images.images[index].part == "train"}, 0)


def _matched(images: ImageSet, fixes: Sequence[Suspect]) -> tuple[dict[int, Suspect], int]:
    """The correction of each image that has one, by index; and how many corrections name no image."""
    places = {os.path.abspath(image.path): index for index, image in enumerate(images.images)}  # noqa: PTH100
    contents: dict[tuple[str, str], list[int]] = {}
    for index, image in enumerate(images.images):
        contents.setdefault((image.key, image.label), []).append(index)
    chosen: dict[int, Suspect] = {}
    moved: dict[int, Suspect] = {}
    unknown = 0
    for fix in fixes:
        place = places.get(os.path.abspath(fix.path))  # noqa: PTH100
        if place is not None and fix.key in ("", images.images[place].key):
            chosen[place] = fix
            continue
        found = contents.get((fix.key, fix.label), []) if fix.key else []
        unknown += not found
        moved.update(dict.fromkeys(found, fix))
    return {**moved, **chosen}, unknown  # a row that names the very file goes before one that only has its content


def _applied(images: ImageSet, chosen: dict[int, Suspect], unknown: int) -> Fixed:
    kept: list[ImageFile] = []
    relabelled = excluded = 0
    for index, image in enumerate(images.images):
        action, label = chosen[index].outcome if index in chosen else ("keep", "")
        if action == "exclude":
            excluded += 1
        elif action == "relabel" and label not in images.classes and not chosen[index].action:
            excluded += 1  # a suggestion among classes that are left out
        elif action == "relabel":
            _require_meant(label, images)
            relabelled += label != image.label
            kept.append(replace(image, label=label))
        else:
            kept.append(image)
    classes = tuple(sorted({*images.classes, *(image.label for image in kept)}))
    return Fixed(replace(images.with_images(kept), classes=classes), relabelled, excluded, unknown)


def _require_meant(label: str, images: ImageSet) -> None:
    """A new class is welcome, a slip of the pen is not."""
    near = [] if label in images.classes else difflib.get_close_matches(label, images.classes, n=1, cutoff=0.8)
    if near:
        raise InputError(f"a correction names the class {label!r}, which {images.root} does not have",
                         f"did you mean {near[0]!r}?")  # fmt: skip
