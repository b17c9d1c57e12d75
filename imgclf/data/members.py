"""What a zip or tar archive holds, file by file, read with distrust. May import errors only.

Nothing is written here. The content decides what an archive is. Whatever goes wrong while one is read comes out as one
InputError that names it; a name that leads out of the archive's own folder is never handed on.
"""

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from imgclf.errors import ImgclfError, InputError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")

# A bomb unpacks to far more than anyone's photos. JPEG and PNG hardly shrink; drawings as BMP shrink to a hundredth.
MAX_BYTES = 200_000_000_000  # ImageNet, the largest of the usual sets, has 150 GB
MAX_RATIO = 200  # unpacked to packed; deflate reaches 1032, bzip2 and xz many thousands
RATIO_FROM = 1_000_000_000  # bytes that anything may unpack to: what a laptop can bear
MAX_MEMBERS = 5_000_000  # files and folders; five times as many as a large set has images
MAX_READ = 1 << 24  # bytes asked for at once; a tar's header claims its own length, and would be read in one piece

_STARTS = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
_BLOCK = 512  # bytes of a tar's header
_TAR_MARK = b"ustar"  # at byte 257 of it
_DRIVE = re.compile(r"[A-Za-z]:$|[A-Za-z]:/")


@dataclass(frozen=True)
class Member:
    """One file of an archive.

    Attributes:
        parts: the components of its name, the folders first; none is "", "." or "..".
        plain: whether it is an ordinary file; False for links, devices and pipes.
        position: how far into the archive file it lies, in bytes, for showing progress.
        open: gives its content; to be read before the next member is asked for.
    """

    parts: tuple[str, ...]
    plain: bool
    position: int
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, packed or not: by its name, or else by its content."""
    if not path.is_file():
        return False
    if path.name.casefold().endswith(SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            kind = _kind(file)
            unpacked = _OPENERS[kind](file) if kind in _OPENERS else file
            return kind == "zip" or unpacked.read(_BLOCK)[257:262] == _TAR_MARK
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


def most_bytes(packed: int) -> int:
    """How many bytes an archive of `packed` bytes may unpack to before it is taken for a bomb."""
    return min(MAX_BYTES, max(RATIO_FROM, MAX_RATIO * packed))


def bomb(path: Path) -> InputError:
    """The error for an archive that unpacks to more than it should."""
    size = most_bytes(path.stat().st_size)
    return InputError(f"{path} unpacks to more than {size / 1e9:.3g} GB, more than is taken on trust",
                      "if you know what is in it, unpack it yourself and give the folder")  # fmt: skip


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while an archive is read into one InputError that names it.

    Not for a block that writes: the disk's errors would be laid to the archive's charge.
    """
    try:
        yield
    except ImgclfError:
        raise
    except NotImplementedError as error:
        raise InputError(f"{path} is packed in a way that cannot be read ({error})",
                         "pack it again as an ordinary zip, or unpack it and give the folder") from None  # fmt: skip
    except Exception as error:  # what is damaged fails in whatever its reader runs into
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} is damaged or no archive ({reason})", "download or copy it again") from None


@contextmanager
def open_archive(path: Path) -> Iterator[Iterator[Member]]:
    """Open a zip or tar archive and give its files in the order in which they lie in it.

    Raises:
        InputError: (also while the members are gone through) it is damaged, encrypted or no archive, holds a name that
            leads out of it, or more files or bytes than any data set.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error})", "expected a zip or tar archive"
        ) from None
    with file:
        yield _guarded(path, _zip_members(path, file) if _kind(file) == "zip" else _tar_members(path, file))


def _guarded(path: Path, members: Iterator[Member | None]) -> Iterator[Member]:
    """The files alone, counted together with what is no file (None)."""
    number = 0
    while True:
        with reading(path):
            try:
                member = next(members)
            except StopIteration:
                return
        number += 1
        if number > MAX_MEMBERS:
            raise InputError(f"{path} holds more than {MAX_MEMBERS} files and folders", "expected a set of images")
        if member is not None:
            yield member


def _kind(file: IO[bytes]) -> str:
    """What the content is: "zip", "gzip", "bzip2", "xz", or "" for what may be a plain tar."""
    file.seek(0)
    head = file.read(_BLOCK)
    if head[257:262] == _TAR_MARK:  # first, because a tar begins with a name, and that may be BZhang
        kind = ""
    else:
        kind = next((kind for start, kind in _STARTS.items() if head.startswith(start)), "")
        if not kind and zipfile.is_zipfile(file):
            kind = "zip"  # with something before it, as a self-extracting one
    file.seek(0)
    return kind


def _parts(path: Path, name: str) -> tuple[str, ...]:
    """The components of a member's name. Zips of Windows may have backslashes."""
    plain = name.replace("\\", "/")
    parts = tuple(part for part in plain.split("/") if part not in ("", "."))
    if plain.startswith("/") or ".." in parts or "\0" in plain or not parts or _DRIVE.match(plain):
        raise InputError(f"{path} holds the name {name[:100]!r}, which leads out of the archive",
                         "pack the class folders again from within the folder that holds them")  # fmt: skip
    return parts


def _zip_members(path: Path, file: IO[bytes]) -> Iterator[Member | None]:
    with zipfile.ZipFile(file) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            if info.is_dir():
                yield None
                continue
            if info.flag_bits & 0x1:
                raise InputError(f"{path} is encrypted", "unpack it with its password and give the folder")
            mode = info.external_attr >> 16
            plain = stat.S_ISREG(mode) or not stat.S_IFMT(mode)
            yield Member(_parts(path, _zip_name(info)), plain, info.header_offset, _opener(archive.open, info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The whole name: `filename` ends at a NUL. macOS writes UTF-8 and does not say so."""
    name = info.orig_filename
    if info.flag_bits & 0x800:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _tar_members(path: Path, file: IO[bytes]) -> Iterator[Member | None]:
    kind = _kind(file)
    stream = _Stream(_OPENERS[kind](file) if kind else file, path)
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload, unused-ignore]
        while (info := archive.next()) is not None:
            archive.members.clear()  # it remembers every one
            stream.require(archive.offset)
            if info.isdir():
                yield None
                continue
            yield Member(_parts(path, info.name), info.isreg(), file.tell(), _opener(archive.extractfile, info))
        # a damaged header ends a tar as quietly as its end mark, a block of zeros
        stream.seek(archive.offset)
        if stream.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError(f"no archive goes on at byte {archive.offset}")
        while kind and stream.read(1 << 16):  # the checksum of what was packed comes last
            pass


def _opener(open_: Callable[[Any], IO[bytes] | None], info: Any) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        file = open_(info)
        assert file is not None, "only plain files are opened"
        return file

    return opened


class _Stream:
    """The unpacked bytes of a tar, which may be asked for up to a limit only."""

    def __init__(self, inner: Any, path: Path) -> None:
        self._inner, self._path = inner, path
        self._most = most_bytes(path.stat().st_size)

    def require(self, position: int) -> None:
        """Raise InputError where a position is beyond the limit."""
        if position > self._most:
            raise bomb(self._path)

    def read(self, size: int = -1) -> bytes:
        """The next bytes; all of them at once (-1) is too many."""
        if not 0 <= size <= MAX_READ:
            raise tarfile.ReadError(f"a piece of {size} bytes")
        self.require(self.tell() + size)
        data: bytes = self._inner.read(size)
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        """Go on to a position, which is unpacked up to there."""
        self.require(position)
        reached: int = self._inner.seek(position, whence)
        return reached

    def seekable(self) -> bool:
        """Forwards, which is all that is asked for."""
        return True

    def tell(self) -> int:
        """How many bytes have been unpacked, or passed over."""
        position: int = self._inner.tell()
        return position
