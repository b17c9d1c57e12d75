"""The fsspec file systems of addresses: shared by all threads, or lent to one at a time where their connection is for
one. May import places, patience and errors; fsspec (extra `remote`) when the first address is looked at.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from imgclf.storage.patience import connection_limits, patiently, within
from imgclf.storage.places import CHAIN, Address

LENT = 4  # connections to a server of which each is for one thread at a time (sftp, ftp, smb)
LENT_OF = {"zip": 1, "tar": 1}  # opening an archive a second time would read its list again
NOISY = ("azure", "gcsfs", "google", "paramiko")  # log what they also raise; without any handler it goes to stderr
FOR_ALL = ("memory",)  # not asynchronous, and yet for all threads


@dataclass
class _Shelf:
    """The file systems of one server that are for one thread at a time."""

    turns: threading.Semaphore
    idle: list[Any] = field(default_factory=list)


for library in NOISY:
    logging.getLogger(library).addHandler(logging.NullHandler())

_systems: dict[str, Any] = {}
_shelves: dict[str, _Shelf] = {}
_lock = threading.Lock()


def system(address: Address) -> Any:
    """The fsspec file system of an address; what it does goes through `lent`.

    Raises:
        SetupError: a library is missing (which `pip install` would bring), or the server does not answer.
        InputError: nobody knows such addresses.
    """
    key = address.anchor_text
    found = _systems.get(key)
    if found is None:
        with _lock:
            found = _systems.get(key) or patiently(address, lambda seconds: within(lambda: _opened(address), seconds),
                                                       answers=False)  # fmt: skip
            if key not in _systems and not _is_for_all(found):
                _shelves[key] = _Shelf(threading.Semaphore(LENT_OF.get(address.scheme, LENT)), [found])
            _systems[key] = found
    return found


def path_of(address: Address) -> Any:
    """What the file system of an address calls it."""
    return system(address)._strip_protocol(address.full.split(CHAIN, 1)[0])


@contextmanager
def lent(address: Address, seconds: float) -> Iterator[Any]:
    """A file system for one piece of work on a server. One that fails is not used again: its connection may be broken,
    or it is still at what nobody waits for.

    Args:
        address: what it is about.
        seconds: to wait for a turn.

    Raises:
        TimeoutError: all were in use for so long.
    """
    shared = system(address)
    shelf = _shelves.get(address.anchor_text)
    if shelf is None:
        yield shared
        return
    if not shelf.turns.acquire(timeout=max(0.0, seconds)):
        raise TimeoutError
    try:
        try:
            files = shelf.idle.pop()
        except IndexError:
            files = within(lambda: _opened(address), seconds)
        try:
            yield files
        except FileNotFoundError:
            shelf.idle.append(files)
            raise
        shelf.idle.append(files)
    finally:
        shelf.turns.release()


def _is_for_all(files: Any) -> bool:
    names = (files.protocol,) if isinstance(files.protocol, str) else files.protocol
    return files.async_impl or any(name in FOR_ALL for name in names)


def _opened(address: Address) -> Any:
    import fsspec.core

    names = {part.partition("://")[0] for part in str(address).split(CHAIN)}
    # fsspec would give the same one again
    options = {name: {**connection_limits(name), "skip_instance_cache": True} for name in names}
    found, _ = fsspec.core.url_to_fs(address.full, **options)
    if hasattr(found, "retries"):
        found.retries = 1  # `patiently` does that, within one limit
    if hasattr(found, "max_concurrency"):
        found.max_concurrency = 1  # otherwise s3fs asks for the size of every object before it reads it
    return found
