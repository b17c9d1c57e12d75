"""The dataset doctor: images in, a diagnosis out. May import everything else in data/ that finds something out."""

from dataclasses import dataclass

from imgclf.data.checks import diagnose
from imgclf.data.diagnosis import Diagnosis
from imgclf.data.findings import Facts
from imgclf.data.imageset import ImageSet
from imgclf.data.inspect import inspect
from imgclf.data.known import Known
from imgclf.data.shortcuts import find_shortcuts
from imgclf.data.similar import Pair, find_pairs


@dataclass(frozen=True)
class Checkup:
    """Inspected images and what else was found out about them.

    Attributes:
        images: every file, inspected.
        pairs: of nearly the same pictures.
        diagnosis: the findings.
    """

    images: ImageSet
    pairs: tuple[Pair, ...]
    diagnosis: Diagnosis


def check(images: ImageSet, workers: int | None = None) -> Checkup:
    """Look at every image of a set; what earlier checks found out is not worked out again.

    Args:
        images: as `scan` gives them; nothing of the user's is touched.
        workers: the number of processes; None takes one per processor.
    """
    with Known.open() as known:
        inspected = inspect(images, workers, known)
        return examine_set(inspected, find_pairs(inspected.usable, known), known)


def examine_set(images: ImageSet, pairs: tuple[Pair, ...], known: Known) -> Checkup:
    """The findings of inspected images of which the pairs are known."""
    return Checkup(images, pairs, diagnose(Facts(images, pairs, find_shortcuts(images.usable, known))))
