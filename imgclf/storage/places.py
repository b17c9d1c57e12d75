"""Where images live: paths, and addresses (`s3://bucket/photos`) that are handled like paths. May import errors only;
`remote`, and through it fsspec (extra `remote`), when an address is looked at.

An `Address` is a `Path`, so that names, parents, sorting, `relative_to` and every message work as they do for files.
What asks the file system is answered by `remote`. Nothing is written through an `Address`; runs go to theirs by
`mirror`.
"""

import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

from imgclf.errors import InputError

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:::[^/]*)?://")  # a drive of Windows has one letter
COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:)/(?=[^/])")  # what pathlib makes of one
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
# Those that a collapsed address may have; others could be the name of a folder.
USUAL = {f"{name}:" for name in (
    "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "http", "https", "ftp", "sftp", "hf", "hdfs", "memory",
    "zip", "tar", "github", "oci", "oss", "webdav", "smb",
)}  # fmt: skip
WITHIN = ("zip:", "tar:")  # within a file at another address: zip://photos::s3://bucket/photos.zip
CHAIN = "::"
COLUMNS = re.compile(r"::[a-z]+=[^/]*$")  # what may follow a Parquet file, see `data.shards`; no chain
HAS_QUERY = ("http:", "https:", "webdav:")

_asked: dict[str, str] = {}  # an address as it is shown -> with its query and password; never leaves the process


class Found(NamedTuple):
    """What a listing says of an object: its size in bytes, and what changes when its content does; "" if unknown."""

    size: int | None
    version: str = ""


class Entry(NamedTuple):
    """What lies in a folder: its name, whether it is a folder, and of an object what is known of it."""

    name: str
    folder: bool
    found: Found | None


if TYPE_CHECKING:
    _Base = Path
else:
    _Base = type(Path())


class Address(_Base):
    """An address; `place` makes one of a text. Within, it is a path without the second slash: `s3:/bucket/photos`.

    Attributes:
        found: what a listing said of it; None where none has.
    """

    found: Found | None = None

    def __str__(self) -> str:
        parts = self.parts
        if not parts or not SCHEME.fullmatch(parts[0]):
            return "/".join(parts) or "."  # relative to another address
        scheme, *below = parts
        if below and below[0].startswith(CHAIN):
            return f"{scheme}//{'/'.join(below[1:])}{CHAIN}{unquote(below[0][len(CHAIN) :])}"
        return f"{scheme}//{'/'.join(below)}"

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> Any:
        return _restored, (type(self), self.parts, self.__dict__.get("found"))

    @property
    def scheme(self) -> str:
        """`s3`, `https`, ..."""
        return self.parts[0].rstrip(":") if self.parts else ""

    @property
    def anchor_text(self) -> str:
        """What is the same for all addresses of one server or archive: `s3://bucket`."""
        return str(type(self)(*self.parts[:2]))

    @property
    def full(self) -> str:
        """The address with what is never shown: the query and the password it was given with."""
        return _asked.get(str(self), str(self))

    def as_posix(self) -> str:
        """The address itself."""
        return str(self)

    def as_uri(self) -> str:
        """The address itself."""
        return str(self)

    def is_absolute(self) -> bool:
        """Whether it says where it is, as it does unless it is relative to another address."""
        return bool(self.parts) and SCHEME.fullmatch(self.parts[0]) is not None

    def resolve(self, strict: bool = False) -> "Address":
        """The address itself: it does not depend on where the program runs."""
        return self

    def absolute(self) -> "Address":
        """The address itself."""
        return self

    def expanduser(self) -> "Address":
        """The address itself."""
        return self

    def is_symlink(self) -> bool:
        """There are no links."""
        return False

    def exists(self, **_: Any) -> bool:
        """Whether there is an object or a folder."""
        return self._kind() != ""

    def is_file(self, **_: Any) -> bool:
        """Whether there is an object."""
        return self.found is not None or self._kind() == "file"

    def is_dir(self, **_: Any) -> bool:
        """Whether anything lies below it."""
        return self.found is None and self._kind() == "folder"

    def stat(self, **_: Any) -> os.stat_result:
        """The size of an object; times are unknown."""
        from imgclf.storage import remote

        size = remote.find(self).size or 0
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def iterdir(self) -> Iterator["Address"]:  # type: ignore[override]
        """What lies directly below it."""
        from imgclf.storage import remote

        for entry in remote.entries(str(self)):
            below = self / entry.name
            below.found = entry.found
            yield below

    def read_bytes(self) -> bytes:
        """The content of an object, from the cache where it is there."""
        from imgclf.storage import remote

        return remote.read(self)

    def read_text(self, encoding: str | None = None, errors: str | None = None, *_: Any) -> str:
        """Its content as text."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(self, mode: str = "r", *_: Any, encoding: str | None = None, **__: Any) -> IO[Any]:  # type: ignore[override]
        """Its content to be read; it cannot be written."""
        if set(mode) & set("wax+"):
            raise InputError(f"{self} cannot be written", "choose a place on this computer")
        return io.BytesIO(self.read_bytes()) if "b" in mode else io.StringIO(self.read_text(encoding))

    def _kind(self) -> str:
        from imgclf.storage import remote

        return remote.kind(self)


def _restored(kind: type[Address], parts: tuple[str, ...], found: Found | None) -> Address:
    address = kind(*parts)
    address.found = found
    return address


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether a text is an address: a scheme, then `://`."""
    return isinstance(text, Address) or ADDRESS.match(os.fspath(text)) is not None


def place(text: str | os.PathLike[str]) -> Path:
    """The path or address that a text means. Also of an address that pathlib has taken for a path.

    Raises:
        InputError: a chain of addresses that leads nowhere.
    """
    if isinstance(text, Address):
        return text
    given = os.fspath(text)
    if not ADDRESS.match(given):
        collapsed = COLLAPSED.match(given)
        if collapsed is None or collapsed[1].lower() not in USUAL or os.path.lexists(given):
            return Path(given)
        given = f"{collapsed[1]}//{given[collapsed.end() :]}"
    columns = COLUMNS.search(given)
    if columns is not None:
        file = place(given[: columns.start()])
        return file.with_name(f"{file.name}{columns[0]}")
    first, _, rest = given.partition(CHAIN)
    if rest:
        return _chained(given, first, rest)
    scheme, _, below = given.partition("//")
    if scheme.lower() in ("file:", "local:"):
        return Path(below)
    if scheme.lower() in WITHIN:
        raise InputError(
            f"{given} does not say in which file", f"write {scheme}//FOLDER::s3://BUCKET/FILE{scheme[:-1]}"
        )
    safe = _without_secrets(scheme, below)
    address = Address(f"{scheme.lower()}/{safe}")
    if safe != below:
        _asked[str(address)] = f"{scheme.lower()}//{below}"
    return address


def below(folder: Path, path: str) -> Path:
    """What a table names: an address as it is; a path from the folder of the images."""
    return place(path) if is_address(path) else folder / path


def shown(text: str) -> str:
    """A text of the command line as it may be written down: an address without its query and password."""
    if not ADDRESS.match(text):
        return text
    try:
        return str(place(text))
    except InputError:
        return ADDRESS.match(text)[0] + "..."  # type: ignore[index]


def require_here(path: Path, what: str) -> None:
    """Check that a path is on this computer.

    Raises:
        InputError: it is an address.
    """
    if isinstance(place(path), Address):
        raise InputError(f"{what} {place(path)} is an address", "name a place on this computer")


def _without_secrets(scheme: str, below: str) -> str:
    if scheme.lower() in HAS_QUERY:
        below = re.split(r"[?#]", below, maxsplit=1)[0]
    host, slash, rest = below.partition("/")
    user, at, server = host.rpartition("@")
    return f"{server if at and ':' in user else host}{slash}{rest}"


def _chained(given: str, first: str, rest: str) -> Address:
    scheme, _, inner = first.partition("//")
    if scheme.rstrip(":").lower() + ":" not in WITHIN:
        raise InputError(f"{given} goes through {scheme.rstrip(':')}", "expected zip:// or tar:// before ::")
    outer = place(rest)
    chain = f"{CHAIN}{quote(str(outer if isinstance(outer, Address) else outer.absolute()), safe='')}"
    return Address(f"{scheme.rstrip(':').lower()}:/{chain}/{inner}")
