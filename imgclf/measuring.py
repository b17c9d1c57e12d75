"""Which images a run, or any labelled folder, is measured on. May import data/, runs and the ground modules."""

from collections.abc import Sequence
from pathlib import Path

from imgclf import runs
from imgclf.data.imageset import ImageFile, Part
from imgclf.data.overlap import overlap
from imgclf.data.sources import open_source
from imgclf.data.split_file import images_in, read_rows
from imgclf.errors import InputError
from imgclf.progress import plural
from imgclf.storage.places import below, place
from imgclf.storage.remote import look_up

TRAINED: tuple[Part, ...] = ("train", "val")  # what a training looks at


def labelled_images(data: Path) -> tuple[ImageFile, ...]:
    """The images of a labelled folder, table or archive to measure on: its test part where it has one, else all."""
    images = open_source(data)
    return images.part("test") or images.images


def trained_on(run: runs.Run, images: Sequence[ImageFile]) -> str:
    """A sentence on images to measure on that were in the training of a run, or look like it; "" if there are none."""
    folder = place(runs.read_json(run / runs.CONFIG)["data"]["folder"])
    rows = [row for row in read_rows(run / runs.SPLIT) if row.part != "test"]
    found = overlap(images, [ImageFile(below(folder, row.path), row.label, row.part, row.key) for row in rows])
    seen = (*found.copies, *found.near)
    if not seen:
        return ""
    return (f"{len(seen)} of {plural(found.total, 'image')} were trained on by {run.root}, or look like one that was "
            f"({seen[0]}): the accuracy will look better than it is")  # fmt: skip


def test_images(run: runs.Run) -> tuple[ImageFile, ...]:
    """The test part of a run, from the user's folder, as split.csv has it.

    Raises:
        InputError: the folder is gone, or the run was cross-validated.
    """
    found = images_of_part(run, "test")
    if not found:
        raise InputError(f"{run.root} was measured by cross-validation and has no test part",
                         "metrics.json has its measures; or name a folder of labelled images to evaluate")  # fmt: skip
    return found


def proof_images(run: runs.Run) -> tuple[ImageFile, ...]:
    """The images on which an exported file is compared with the model: the test part, or the validation part."""
    return images_of_part(run, "test") or images_of_part(run, "val")


def images_of_part(run: runs.Run, part: Part) -> tuple[ImageFile, ...]:
    """The images of a part of a run, from the user's folder, as split.csv has it.

    Raises:
        InputError: the folder is gone.
    """
    images = images_in(run / runs.SPLIT, image_folder(run), part)
    look_up(image.path for image in images)  # of images at an address, so that the cache has them
    return images


def image_folder(run: runs.Run) -> Path:
    """The folder that the images of a run are in.

    Raises:
        InputError: it is gone.
    """
    folder = place(runs.read_json(run / runs.CONFIG)["data"]["folder"])
    if not folder.is_dir():
        raise InputError(
            f"the images of this run are gone from {folder}", "name a folder of labelled images to evaluate"
        )
    return folder
