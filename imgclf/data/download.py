"""An archive at an address -> a file in the cache folder, which a broken connection or a kill only delays.

May import remote, bytecache and the ground modules.
"""

import contextlib
import tempfile
from pathlib import Path

from imgclf import bytecache, remote
from imgclf.errors import SetupError
from imgclf.places import Address
from imgclf.progress import Bar, step

PIECE = 8 << 20  # bytes of one request; what an interruption may lose


def download(address: Address) -> Path:
    """Copy an object into the cache folder, once for each version of it.

    Args:
        address: of an archive.

    Returns:
        The file, with the name that the object has.

    Raises:
        InputError: nothing is there.
        SetupError: it cannot be read, or the cache folder cannot be written.
    """
    found = remote.find(address)
    name = bytecache.name_of(str(address), *found)
    place = bytecache.folder() / bytecache.DOWNLOADS / name
    whole = place / address.name
    try:
        if found.size is not None and found.version and whole.is_file() and whole.stat().st_size == found.size:
            place.touch()  # it was used
            return whole
        bytecache.sweep(max(0, bytecache.limit_bytes() - (found.size or 0)))
        place.mkdir(parents=True, exist_ok=True)
        with step(f"downloading {address.name}", -(-(found.size or 0) // 10**6), "MB") as bar:
            if found.size is None or not found.version:
                _at_once(address, whole)
            else:
                _in_pieces(address, whole, found.size, bar)
        return whole
    except OSError as error:
        raise SetupError(f"{address} cannot be copied into the cache folder {place} ({error.strerror or error})",
                         "free some space there, or name another folder in IMGCLF_CACHE") from error  # fmt: skip


def _at_once(address: Address, whole: Path) -> None:
    """Where a server does not say how long it is or which version: in one piece, every time."""
    with tempfile.NamedTemporaryFile(dir=whole.parent, suffix=".part", delete=False) as file:
        temporary = Path(file.name)
        file.write(remote.call(address, "cat_file"))
    temporary.replace(whole)


def _in_pieces(address: Address, whole: Path, size: int, bar: Bar) -> None:
    """Go on where an earlier process stopped. Two at once write the same bytes to the same places."""
    part = whole.with_name(f"{whole.name}.part")
    part.touch()
    with part.open("r+b") as file:
        done = min(file.seek(0, 2), size)
        file.seek(done)
        shown = 0
        while done < size:
            end = min(done + PIECE, size)
            piece: bytes = remote.call(address, "cat_file", start=done, end=end, size=end - done)
            if len(piece) == size and end - done != size:  # a server that knows no ranges gives all of it
                piece = piece[done:]
                end = size
            if len(piece) != end - done:
                raise SetupError(f"{address} changed while it was read", "start again")
            file.write(piece)
            done = end
            bar.update(done // 10**6 - shown)
            shown = done // 10**6
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        part.replace(whole)
