"""A connection that is for one thread is used by one thread; one that broke is replaced."""

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgclf.storage import remote, systems
from imgclf.storage.patience import Damaged, Denied
from imgclf.storage.places import Address, place
from imgclf.storage.readers import Contents, side_by_side

fsspec = pytest.importorskip("fsspec")
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402


class Connection(MemoryFileSystem):  # type: ignore[misc]
    """As those of sftp and ftp: an instance has one connection, which two threads would confuse."""

    protocol = "oneatatime"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    made: list["Connection"] = []
    meeting: threading.Barrier | None = None
    broken = ""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.in_use = threading.Lock()
        self.made.append(self)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("oneatatime://").strip("/")

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        if not self.in_use.acquire(blocking=False):
            raise ValueError("two threads")
        try:
            if self.meeting is not None:
                self.meeting.wait(30)
            if self.broken:
                raise ConnectionResetError(self.broken)
            return bytes(super().cat_file(path))
        finally:
            self.in_use.release()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Address]]:
    fsspec.register_implementation("oneatatime", Connection, clobber=True)
    monkeypatch.setattr(systems, "_systems", {})
    monkeypatch.setattr(systems, "_shelves", {})
    monkeypatch.setattr(Connection, "made", [])
    filled = Connection()
    Connection.made.clear()
    found = []
    for number in range(2 * systems.LENT):
        filled.pipe_file(f"/server/{number}", bytes([number]))
        address = place(f"oneatatime://server/{number}")
        assert isinstance(address, Address)
        found.append(address)
    yield found
    Connection.store.clear()


def test_each_thread_has_a_connection_of_its_own(files: list[Address], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "meeting", threading.Barrier(systems.LENT))  # so many at once, no fewer
    assert list(side_by_side(remote.read, files)) == [bytes([number]) for number in range(len(files))]
    assert len(Connection.made) == systems.LENT


def test_a_broken_connection_is_replaced(files: list[Address]) -> None:
    assert remote.read(files[0]) == b"\x00"
    Connection.made[0].broken = "closed by the server"
    assert remote.read(files[1]) == b"\x01"
    assert len(Connection.made) == 2


def test_a_missing_file_breaks_no_connection(files: list[Address]) -> None:
    assert remote.kind(files[0].with_name("nothing")) == ""
    assert remote.read(files[0]) == b"\x00" and len(Connection.made) == 1


def test_a_connection_without_credentials_is_no_bad_address(
    files: list[Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object, **__: object) -> None:
        raise ValueError("unable to connect to account for Must provide either a connection_string or ...")

    monkeypatch.setattr(Connection, "__init__", refused)
    with pytest.raises(Denied, match="no permission to read oneatatime://server/0"):
        remote.read(files[0])


def test_a_damaged_file_of_an_archive_is_named_at_once_and_the_others_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in "abc":
            archive.writestr(f"{name}.jpg", name * 100)
        begin = archive.getinfo("b.jpg").header_offset
    content = bytearray((tmp_path / "photos.zip").read_bytes())
    content[begin + 60] ^= 1  # within its bytes: the checksum says so
    (tmp_path / "photos.zip").write_bytes(content)

    files = [place(f"zip://{name}.jpg::file://{tmp_path}/photos.zip") for name in "abc"]
    assert isinstance(files[1], Address)
    with pytest.raises(Damaged, match="CRC"):
        remote.read(files[1])
    contents = Contents(files)
    assert list(contents) == [b"a" * 100, files[1], b"c" * 100], "whoever reads it says what is wrong"
    contents.close()
