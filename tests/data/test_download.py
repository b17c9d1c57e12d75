"""What is copied from an address is whole, and of one version."""

from collections.abc import Iterator

import pytest

from imgclf.data import download
from imgclf.errors import SetupError
from imgclf.storage.places import Address, place

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    monkeypatch.setattr(download, "PIECE", 10)
    files = fsspec.filesystem("memory")
    files.pipe("/downloads/a.tar", b"a" * 25)
    found = place("memory://downloads/a.tar")
    assert isinstance(found, Address)
    yield found
    files.rm("/downloads", recursive=True)


def test_it_comes_in_pieces(address: Address) -> None:
    told: list[int] = []
    assert download.fetch(address, told.append).read_bytes() == b"a" * 25
    assert told == [0, 10, 10, 5]


def test_an_object_that_is_replaced_on_the_way_is_no_mixture(address: Address) -> None:
    def replace_it(come: int) -> None:
        if come:
            fsspec.filesystem("memory").pipe("/downloads/a.tar", b"b" * 25)

    with pytest.raises(SetupError, match=r"a\.tar changed while it was read"):
        download.fetch(address, replace_it)
    again = place("memory://downloads/a.tar")
    assert isinstance(again, Address)
    assert download.fetch(again, lambda _: None).read_bytes() == b"b" * 25
