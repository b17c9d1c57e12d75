"""Reading ahead: several objects at once, in threads that never hold up the end of the program. May import places."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from imgclf.storage.patience import AT_ONCE, Damaged, Missing
from imgclf.storage.places import Address

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4 * AT_ONCE  # objects that wait to be used, or are being read
AHEAD_BYTES = 256 << 20  # and so many bytes of them
USUAL_BYTES = 1 << 20  # of an object of unknown size
MOST_BYTES = 1 << 30  # larger objects are no images; they are not read ahead


class _Readers:
    """A few threads that work on what they are given until they are sent away."""

    def __init__(self) -> None:
        self._todo: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        self._todo.put((future, work))
        if len(self._threads) < AT_ONCE:
            thread = threading.Thread(target=self._serve, daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        for _ in self._threads:
            self._todo.put(None)

    def _serve(self) -> None:
        while job := self._todo.get():
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)


def side_by_side(function: Callable[[T], R], items: Sequence[T], ahead: int = AHEAD) -> Iterator[R]:
    """Apply a function to items, several at once, and give the results in their order."""
    readers = _Readers()
    futures: list[Future[R]] = []
    try:
        for index in range(len(items)):
            while len(futures) < min(index + ahead, len(items)):
                item = items[len(futures)]
                futures.append(readers.submit(lambda item=item: function(item)))  # type: ignore[misc]
            yield futures[index].result()
            futures[index] = Future()  # the result may be large
    finally:
        for future in futures:
            future.cancel()
        readers.close()


class Contents(Sequence["str | bytes | Path"]):
    """Files as worker processes are given them: a path as text; of an address its bytes, read ahead in the order.

    An object that is gone or damaged is given as its address; whoever reads it says so.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._readers, self._lock = _Readers(), threading.Lock()
        self._waiting: dict[int, tuple[Future[bytes], int]] = {}
        self._next, self._bytes = 0, 0

    def __len__(self) -> int:
        return len(self.paths)

    def close(self) -> None:
        """Read no further."""
        with self._lock:
            self._next = len(self.paths)
            for future, _size in self._waiting.values():
                future.cancel()
            self._waiting.clear()
        self._readers.close()

    def __getitem__(self, index: Any) -> Any:
        path = self.paths[index]
        if not isinstance(path, Address):
            return str(path)
        if _size(path) > MOST_BYTES:
            return path
        with self._lock:
            while self._next < len(self.paths) and (
                self._next <= index or (self._next <= index + AHEAD and self._bytes < AHEAD_BYTES)
            ):
                self._submit(self._next)
                self._next += 1
            future, size = self._waiting.pop(index, (None, 0))
        try:
            return future.result() if future is not None else path.read_bytes()
        except (Missing, Damaged):
            return path
        finally:
            with self._lock:
                self._bytes -= size

    def _submit(self, index: int) -> None:
        path = self.paths[index]
        if isinstance(path, Address) and _size(path) <= MOST_BYTES:
            self._waiting[index] = (self._readers.submit(path.read_bytes), _size(path))
            self._bytes += _size(path)


def _size(address: Address) -> int:
    return USUAL_BYTES if address.found is None or address.found.size is None else address.found.size
