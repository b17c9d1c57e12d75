"""ImageSet -> StagedSet: a folder that any loader reads without surprise. May import the ground modules.

Fine files are linked, everything else is rewritten once as an upright 8-bit RGB JPEG or PNG. The user's files are only
read. Images at an address are not staged until something needs them as files (`complete`): what is computed once and
kept, as the features of a head are, reads them one by one.
"""

import contextlib
import errno
import io
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from imgclf import formats, pixels, runs
from imgclf.data.imageset import PARTS, ImageFile, ImageSet, Part, StagedImage, StagedSet
from imgclf.errors import ImgclfError, InputError, SetupError
from imgclf.progress import step
from imgclf.storage.patience import limit_seconds
from imgclf.storage.places import Address
from imgclf.storage.readers import side_by_side
from imgclf.workers import parallel

LOSSY = {
    "JPEG",
    "MPO",
    "WEBP",
    "HEIF",
    "AVIF",
}  # their artefacts are there already; as PNG they would be 5 times larger
JPEG_OPTIONS = {"quality": 95, "subsampling": 0}  # 4:4:4: keeps the colour of fine edges
PNG_OPTIONS = {"compress_level": 1}  # the fastest; these files live as long as the training

MARKER = "stage.txt"  # names the input size that large photos were shrunk for
SHOWN = 5  # files named in an error


class Late(Address):
    """An image at an address that is staged when it is read.

    Attributes:
        target: the staged file, where there is one.
        jpeg: whether that is a JPEG, where it is rewritten.
        side: of the images that the model takes, where it is rewritten; 0 where it is taken as it is.
    """

    target: Path
    jpeg: bool
    side: int

    @classmethod
    def of(cls, source: Address, target: Path, jpeg: bool, side: int) -> "Late":
        """The address with how it is staged."""
        late = cls(*source.parts)
        late.found, late.target, late.jpeg, late.side = source.found, target, jpeg, side
        return late

    def contents(self) -> bytes:
        """The bytes that the staged file has.

        Raises:
            InputError: it could be read before and cannot be read any more.
            SetupError: its server does not answer.
        """
        if self.target.is_file():
            return self.target.read_bytes()
        try:
            return _encoded(self, self.side, self.jpeg)
        except pixels.UnreadableImage as error:
            raise _gone([f"{self}: {error}"]) from None


@dataclass(frozen=True)
class _Job:
    """One staged file to be made."""

    target: Path
    source: Path
    jpeg: bool
    rewrite: bool


class _Failure(NamedTuple):
    """Why a file could not be written: the fault of its source, or the errno of the disk."""

    reason: str
    number: int = 0


def stage(images: ImageSet, folder: Path, image_size: tuple[int, int], workers: int | None = None) -> StagedSet:
    """Fill `folder/PART/CLASS INDEX/` with a link or a repaired copy of every usable image, named by its key.

    What an earlier, interrupted call has left is kept where it is right; what does not belong is removed.

    Args:
        images: inspected images with parts.
        folder: the stage folder, imgclf's own; made if it is missing.
        image_size: (height, width) of the model's input in pixels; photos whose short side is more than 4 times the
            larger of the two are shrunk, antialiased, to twice of it.
        workers: the number of processes; None takes one per processor.

    Returns:
        The staged images of all three parts, sorted by staged path.

    Raises:
        InputError: files that could be read before cannot be read any more; or the folder overlaps the user's.
        SetupError: the disk is full or cannot be written.
    """
    if any(not image.key or not image.part for image in images.usable):
        raise ValueError("stage needs inspected images with parts")
    short_side = max(image_size)
    staged = StagedSet(folder, images.classes, _plan(images, folder), short_side)
    sources = {image.path: image for image in images.usable}
    jobs = [_job(item, sources[item.source], short_side) for part in PARTS for item in staged.parts[part]]
    late = {job.target: job for job in jobs if isinstance(job.source, Address)}
    jobs = [job for job in jobs if job.target not in late]
    if not images.listed:
        _require_apart(folder, images.root)
    try:
        _prepare(staged, image_size)
        jobs = [job for job in jobs if not _is_done(job)]
        _link_all([job for job in jobs if not job.rewrite])
    except OSError as error:
        raise _disk_error(error, folder, jobs) from error
    _rewrite_all([job for job in jobs if job.rewrite], folder, short_side, workers)
    return _with_late(staged, late) if late else staged


def _with_late(staged: StagedSet, late: dict[Path, "_Job"]) -> StagedSet:
    def named(item: StagedImage) -> StagedImage:
        job = late.get(item.path)
        if job is None or not isinstance(job.source, Address):
            return item
        return replace(item, path=Late.of(job.source, job.target, job.jpeg, staged.side if job.rewrite else 0))

    parts = {part: tuple(map(named, items)) for part, items in staged.parts.items()}
    return replace(staged, parts=parts)


def complete(staged: StagedSet, part: Part) -> StagedSet:
    """Copy the images of a part that lie at addresses into the stage, for what reads a folder again and again.

    Args:
        staged: as `stage` gives it.
        part: the part.

    Returns:
        The set with files only, in that part.

    Raises:
        InputError, SetupError: as `stage`; an image cannot be read any more.
    """
    late = [item.path for item in staged.parts[part] if isinstance(item.path, Late)]
    if not late:
        return staged
    missing = [path for path in late if not path.target.is_file()]
    jobs = [_Job(path.target, path, path.jpeg, True) for path in missing if path.side]
    try:
        with step("copying images to train on", len(missing) - len(jobs), "images") as bar:
            plain = [path for path in missing if not path.side]
            for path, data in zip(plain, side_by_side(Late.contents, plain), strict=True):
                with _completed(path.target) as unfinished:
                    unfinished.write_bytes(data)
                bar.update()
    except OSError as error:
        raise _disk_error(error, staged.root, []) from error
    _rewrite_all(jobs, staged.root, staged.side, None, limit_seconds())
    items = tuple(
        replace(item, path=item.path.target) if isinstance(item.path, Late) else item for item in staged.parts[part]
    )
    return replace(staged, parts={**staged.parts, part: items})


def _plan(images: ImageSet, folder: Path) -> dict[str, tuple[StagedImage, ...]]:
    """Name the staged file of every usable image; the n-th copy of a picture in a class gets a number."""
    index = {label: number for number, label in enumerate(images.classes)}
    copies: Counter[tuple[str, str, str]] = Counter()
    parts: dict[str, list[StagedImage]] = {part: [] for part in PARTS}
    for image in images.usable:
        number = copies[image.part, image.label, image.key]
        copies[image.part, image.label, image.key] += 1
        name = f"{image.key}-{number}" if number else image.key
        suffix = ".jpg" if image.format in LOSSY else ".png"
        path = folder / image.part / f"{index[image.label]:04d}" / f"{name}{suffix}"
        parts[image.part].append(StagedImage(path, image.path, index[image.label], image.key))
    return {part: tuple(sorted(items, key=lambda item: (item.label, item.path.name))) for part, items in parts.items()}


def _job(item: StagedImage, image: ImageFile, short_side: int) -> _Job:
    as_it_is = image.verdict == "fine" or (
        image.reason.startswith(formats.MISNAMED) and image.format in formats.REPAIRS
    )
    rewrite = not as_it_is or pixels.needs_shrinking(image.width, image.height, short_side)
    # absolute but not resolved: if the user's own file is a link, it stays one
    return _Job(item.path, image.path.absolute(), image.format in LOSSY, rewrite)


def _require_apart(folder: Path, root: Path) -> None:
    ours, theirs = folder.resolve(), root.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise InputError(f"{folder} and the image folder {root} lie in each other", "choose a run folder elsewhere")


def _prepare(staged: StagedSet, image_size: tuple[int, int]) -> None:
    """Make the folders, and remove what an earlier call left there that does not belong."""
    marker, size = staged.root / MARKER, "{} x {}\n".format(*image_size)
    if not marker.is_file() or marker.read_text(encoding="utf-8") != size:
        for part in PARTS:
            shutil.rmtree(staged.root / part, ignore_errors=True)
        runs.write_text(marker, size)
    wanted = {item.path for items in staged.parts.values() for item in items}
    for part in PARTS:
        for name in staged.folders:
            (staged.root / part / name).mkdir(parents=True, exist_ok=True)
        _remove_stale(staged.root / part, set(staged.folders), wanted)


def _remove_stale(folder: Path, classes: set[str], wanted: set[Path]) -> None:
    for inner in list(folder.iterdir()):
        if inner.name not in classes:
            _remove(inner)
            continue
        for path in list(inner.iterdir()):
            if path not in wanted:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _is_done(job: _Job) -> bool:
    """Whether the file is there; it never has its name before it is complete."""
    if not job.target.is_file():
        return False
    return not job.target.is_symlink() or (not job.rewrite and job.target.readlink() == job.source)


def _link_all(jobs: list[_Job]) -> None:
    """Link files, or copy them where the platform or the file system has no links."""
    _require_none([f"{job.source}: it is not there any more" for job in jobs if not job.source.is_file()])
    for job in jobs:
        job.target.unlink(missing_ok=True)
        try:
            job.target.symlink_to(job.source)
        except (OSError, NotImplementedError):
            with _completed(job.target) as unfinished:
                shutil.copyfile(job.source, unfinished)


@contextlib.contextmanager
def _completed(target: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes the target when the block ends well."""
    unfinished = target.with_name(f"{target.name}.part")
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _rewrite_all(
    jobs: list[_Job], folder: Path, short_side: int, workers: int | None, patience: float = 0.0
) -> None:  # fmt: skip
    results = parallel.map_items(partial(_rewrite, short_side), jobs, title="preparing images", workers=workers,
                                 item_timeout=parallel.ITEM_TIMEOUT + patience)  # fmt: skip
    failed = []
    for job, result in zip(jobs, results, strict=True):
        failure = _Failure(result.error) if result.error else result.value
        if failure is None:
            continue
        if failure.number:
            raise _disk_error(OSError(failure.number, failure.reason), folder, jobs)
        failed.append(f"{job.source}: {failure.reason}")
    _require_none(failed)


def _rewrite(short_side: int, job: _Job) -> _Failure | None:
    """Write one repaired copy; returns why it failed, or None."""
    try:
        encoded = _encoded(job.source, short_side, job.jpeg)
    except pixels.UnreadableImage as error:
        return _Failure(str(error))
    try:
        with _completed(job.target) as unfinished:
            unfinished.write_bytes(encoded)
    except OSError as error:
        return _Failure(error.strerror or str(error), error.errno or errno.EIO)
    return None


def _encoded(source: Path, short_side: int, jpeg: bool) -> bytes:
    """The bytes of a staged file; of side 0, the file as it is."""
    if not short_side:
        return pixels.file_bytes(source)
    decoded = pixels.read_shrunk(source, short_side)
    encoded = io.BytesIO()
    name, options = ("JPEG", JPEG_OPTIONS) if jpeg else ("PNG", PNG_OPTIONS)
    Image.fromarray(decoded.pixels).save(encoded, name, **options)
    return encoded.getvalue()


def _require_none(failed: list[str]) -> None:
    if failed:
        raise _gone(failed)


def _gone(failed: list[str]) -> InputError:
    more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return InputError(
        f"{len(failed)} images could be read at first but not now ({'; '.join(failed[:SHOWN])}{more})",
        "leave the folder alone while imgclf works, and start again",
    )


def _disk_error(error: OSError, folder: Path, jobs: list[_Job]) -> ImgclfError:
    """One line on a disk that does not take the files; a full one with the space that is still needed."""
    if error.errno != errno.ENOSPC:
        return runs.disk_error(error, folder)
    todo = [job.source for job in jobs if not _is_done(job)]
    needed = sum(source.stat().st_size for source in todo if source.is_file())
    return SetupError(
        f"the disk is full: {len(todo)} images could not be prepared in {folder}",
        f"free about {max(1, needed >> 20)} MB there or choose another --out",
    )
