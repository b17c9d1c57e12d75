"""An archive or a shard at an address -> a file in the cache folder, which a broken connection or a kill only delays.

May import remote, bytecache and the ground modules.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imgclf.errors import InputError, SetupError
from imgclf.progress import step
from imgclf.storage import bytecache, remote
from imgclf.storage.places import Address, Found

PIECE = 8 << 20  # bytes of one request; what an interruption may lose


def download(address: Address) -> Path:
    """Copy an object into the cache folder, once for each version of it, under a bar; see `fetch`."""
    whole, found = _place_of(address), remote.find(address)
    if _is_whole(whole, found):
        return fetch(address, lambda _: None)
    with step(f"downloading {address.name}", -(-(found.size or 0) // 10**6), "MB") as bar:
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            bar.update((done + count) // 10**6 - done // 10**6)
            done += count

        return fetch(address, tell)


def fetch(address: Address, tell: Callable[[int], None]) -> Path:
    """Copy an object into the cache folder, once for each version of it.

    Args:
        address: of an archive or a shard.
        tell: called with the number of bytes that have come, piece by piece.

    Returns:
        The file, with the name that the object has.

    Raises:
        InputError: nothing is there.
        SetupError: it cannot be read, or the cache folder cannot be written.
    """
    found, whole = remote.find(address), _place_of(address)
    place = whole.parent
    try:
        if _is_whole(whole, found):
            place.touch()  # it was used
            tell(found.size or 0)
            return whole
        bytecache.sweep(max(0, bytecache.limit_bytes() - (found.size or 0)))
        place.mkdir(parents=True, exist_ok=True)
        if found.size is None or not found.version:
            _at_once(address, whole)
            tell(found.size or 0)
        else:
            _in_pieces(address, whole, found.size, tell)
        return whole
    except OSError as error:
        raise SetupError(f"{address} cannot be copied into the cache folder {place} ({error.strerror or error})",
                         "free some space there, or name another folder in IMGCLF_CACHE") from error  # fmt: skip


@contextmanager
def called(path: Path, *copies: Path) -> Iterator[None]:
    """Within the block, errors about a copy, or what was unpacked from it, name what the user knows."""
    try:
        yield
    except InputError as error:
        what = error.what
        for copy in copies:
            what = what.replace(str(copy), str(path))
        raise InputError(what, error.fix) from None


def forget(address: Address) -> None:
    """Remove the copy of an object, of which everything has been taken."""
    whole = _place_of(address)
    with contextlib.suppress(OSError):  # another process was faster, or reads it (Windows)
        whole.unlink()
        whole.parent.rmdir()


def _place_of(address: Address) -> Path:
    name = bytecache.name_of(str(address), *remote.find(address))
    return bytecache.folder() / bytecache.DOWNLOADS / name / address.name


def _is_whole(whole: Path, found: Found) -> bool:
    """Whether it is there already; of one without a version nobody knows."""
    return bool(found.version) and whole.is_file() and whole.stat().st_size == found.size


def _at_once(address: Address, whole: Path) -> None:
    """Where a server does not say how long it is or which version: in one piece, every time."""
    with tempfile.NamedTemporaryFile(dir=whole.parent, suffix=".part", delete=False) as file:
        temporary = Path(file.name)
        file.write(remote.call(address, "cat_file"))
    temporary.replace(whole)


def _in_pieces(address: Address, whole: Path, size: int, tell: Callable[[int], None]) -> None:
    """Go on where an earlier process stopped. Two at once write the same bytes to the same places."""
    part = whole.with_name(f"{whole.name}.part")
    part.touch()
    before = remote.asked(address) if size > PIECE else None
    with part.open("r+b") as file:
        done = min(file.seek(0, 2), size)
        file.seek(done)
        tell(done)
        while done < size:
            end = min(done + PIECE, size)
            piece: bytes = remote.call(address, "cat_file", start=done, end=end, size=end - done)
            if len(piece) == size and end - done != size:  # a server that knows no ranges gives all of it
                piece = piece[done:]
                end = size
            if len(piece) != end - done:
                raise _changed(address)
            file.write(piece)
            tell(end - done)
            done = end
    if before is not None and remote.asked(address) != before:  # pieces of two objects
        part.unlink(missing_ok=True)
        raise _changed(address)
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        part.replace(whole)


def _changed(address: Address) -> SetupError:
    return SetupError(f"{address} changed while it was read", "start again")
