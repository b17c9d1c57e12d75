"""Zip and tar archives of class folders -> a folder. May import members, filenames, scan, the ground modules.

Only images are written, by names that are safe here, and never over one another. A folder that has its real name is
complete: it is filled under a temporary name.
"""

import hashlib
import os
import shutil
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from imgclf.cachedir import cache_folder
from imgclf.data.filenames import numbered, safe_name, within_depth
from imgclf.data.members import Member, bomb, is_archive, most_bytes, open_archive, reading
from imgclf.data.scan import is_image_name, is_junk
from imgclf.errors import InputError, SetupError
from imgclf.formats import SNIFF_BYTES, sniff
from imgclf.progress import Bar, step, warn

FOLDER = "bundles"  # in the cache folder
KEEP_FREE = 1_000_000_000  # bytes of the disk that are left for everything else
STALE_SECONDS = 24 * 3600.0  # a temporary folder that has not been touched for so long was left by a kill
MAX_FOLDERS = 1_000_000  # a hundred times as many as a large set has; a long name makes several at once
CHUNK = 1 << 20  # bytes copied at once
TOUCH_EVERY = 1000  # files; so that a long extraction never looks stale


def is_bundle(path: Path) -> bool:
    """Whether a file is an archive: a zip, a tar, or a tar packed by gzip, bzip2 or xz; by its name or its content."""
    return is_archive(path)


def holds_images(path: Path) -> bool:
    """Whether an archive holds an image file that `extract` would write.

    Raises:
        InputError: it is damaged, encrypted or no archive before one has been found.
    """
    with open_archive(path) as found:
        return any(image_pieces(path, member) is not None for member in found)


def open_bundle(path: Path, cache: Path | None = None) -> Path:
    """Unpack an archive of class folders into the cache folder, once.

    Args:
        path: the archive; it is known by its place, size and time of change.
        cache: the cache folder; by default that of `cache_folder`.

    Returns:
        The folder with its images.

    Raises:
        InputError: there is no such file, it is damaged, encrypted, a bomb, or holds no images.
        SetupError: the cache folder cannot be written, or its disk has too little room.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", "expected a zip or tar archive of class folders")
    place = (cache or cache_folder()) / FOLDER
    folder = place / cached_name(path)
    if folder.is_dir():
        return folder
    try:
        place.mkdir(parents=True, exist_ok=True)
        remove_stale(place)
        extract(path, folder)
    except OSError as error:
        raise SetupError(f"{path} cannot be unpacked in the cache folder {place} ({error.strerror or error})",
                         "free some space there, or name another folder in IMGCLF_CACHE") from error  # fmt: skip
    return folder


def extract(path: Path, folder: Path) -> int:
    """Write the images of an archive into a new folder, which appears when it is complete, or not at all.

    Names are kept as far as this system can have them. Names that are one here (`A.jpg` and `a.jpg` on macOS) get a
    number; folders whose names differ in their Unicode form alone are one folder, as they are one class. Links and
    devices are left out with a warning, other files silently. Archives within the archive are not opened.

    Args:
        path: the archive.
        folder: the folder to make; its parent is there.

    Returns:
        The number of images.

    Raises:
        InputError: it is damaged, encrypted or no archive, a bomb, or holds no images.
        SetupError: the disk has too little room.
        OSError: the folder cannot be written.
    """
    with whole_folder(folder) as inner:
        return _write(path, inner)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when the block ends well; otherwise nothing is left of it."""
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:60]}.", suffix=".part"))
    try:
        inner = temporary / "images"  # mkdtemp is for secrets, and what is within has usual rights
        inner.mkdir()
        yield inner
        try:
            inner.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise  # otherwise another process was faster
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(path: Path, folder: Path) -> int:
    tree, room, others = Tree(path, folder), Room(path, folder), 0
    total = -(-path.stat().st_size // 10**6)
    with open_archive(path) as found, step(f"unpacking {path.name}", total, "MB") as bar:
        shown = 0
        for member in found:
            shown = _show(bar, shown, member.position)
            others += not member.plain and not is_left_out(member)
            pieces = image_pieces(path, member)
            if pieces is None:
                continue
            with tree.create(member.parts) as file:
                for piece in pieces:
                    room.take(len(piece))
                    file.write(piece)
            if tree.files % TOUCH_EVERY == 0:
                os.utime(folder.parent)
        bar.update(total - shown)
    if not tree.files:
        raise InputError(f"{path} holds no images", "expected class folders of JPEG or PNG files; for MNIST, CIFAR and "
                         "the like use `imgclf data unpack`")  # fmt: skip
    if others:
        warn(f"{path}: links and devices are left out ({others})")
    return tree.files


def _show(bar: Bar, shown: int, position: int) -> int:
    """Bring the bar to a position within the archive; the megabytes that it shows."""
    reached = max(shown, position // 10**6)
    if reached > shown:
        bar.update(reached - shown)
    return reached


def is_left_out(member: Member) -> bool:
    """Whether a member is hidden, or left behind by an operating system or a tool."""
    return any(is_junk(part) for part in member.parts)


def image_pieces(path: Path, member: Member) -> Iterator[bytes] | None:
    """The content of a member that `scan` would take, piece by piece; None for any other."""
    named = is_image_name(member.parts[-1])
    if not member.plain or named is False or is_left_out(member):
        return None
    with reading(path):  # opened once: going back in a packed tar means unpacking it again from its start
        file = member.open()
        head = file.read(SNIFF_BYTES)
    return _pieces(path, file, head) if named or sniff(head) else None


def _pieces(path: Path, file: IO[bytes], piece: bytes) -> Iterator[bytes]:
    while piece:
        yield piece
        with reading(path):
            piece = file.read(CHUNK)


class Room:
    """Counts the bytes that are really written; what an archive says of itself is not asked."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._written = path, 0
        self._most = most_bytes(path.stat().st_size)
        self._free = shutil.disk_usage(folder).free - KEEP_FREE

    def take(self, size: int) -> None:
        """Count bytes that are about to be written."""
        self._written += size
        if self._written > self._most:
            raise bomb(self._path)
        if self._written > self._free:
            left = f"{max(self._free, 0) / 1e9:.1f} GB"
            raise SetupError(f"the disk has too little room to unpack {self._path} ({left})",
                             "free some space, or use another disk (--out; IMGCLF_CACHE for the cache)")  # fmt: skip


class Tree:
    """A folder that is filled by names of an archive, none over another."""

    def __init__(self, path: Path, root: Path) -> None:
        self.files = 0
        self._path = path
        self._folders: dict[tuple[str, ...], Path] = {(): root}
        self._taken: Counter[Path] = Counter()

    def create(self, parts: tuple[str, ...]) -> IO[bytes]:
        """A new file, in the folders that belong to it."""
        *above, name = within_depth(parts)
        folder = self._folder(tuple(unicodedata.normalize("NFC", part) for part in above))
        file = self._unused(folder / safe_name(name)).open("xb")
        self.files += 1
        return file

    def _folder(self, parts: tuple[str, ...]) -> Path:
        folder = self._folders.get(parts)
        if folder is None:
            folder = self._unused(self._folder(parts[:-1]) / safe_name(parts[-1]))
            folder.mkdir()
            self._folders[parts] = folder
            if len(self._folders) > MAX_FOLDERS:
                raise InputError(f"{self._path} holds more than {MAX_FOLDERS} folders", "expected a set of images")
        return folder

    def _unused(self, path: Path) -> Path:
        """The path, or with a number where the file system has it already; it knows which names are one to it."""
        free = path
        while os.path.lexists(free):
            self._taken[path] += 1
            free = path.with_name(numbered(path.name, self._taken[path] + 1))
        return free


def unpacked(path: Path, cache: Path | None = None) -> bool:
    """Whether an archive is in the cache folder already, as one of class folders."""
    return ((cache or cache_folder()) / FOLDER / cached_name(path)).is_dir()


def cached_name(path: Path) -> str:
    """The folder of an archive: its own name, and what tells it from every other and from its earlier self."""
    status = path.stat()
    known = b"\0".join([os.fsencode(path.resolve()), b"%d" % status.st_size, b"%d" % status.st_mtime_ns])
    stem = safe_name(path.name.split(".")[0] or "archive")[:60]
    return f"{stem}-{hashlib.blake2b(known, digest_size=8).hexdigest()}"


def remove_stale(place: Path) -> None:
    """Remove the temporary folders that a kill has left."""
    for left in place.glob(".*.part"):
        try:
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:  # its owner is done with it
            continue
