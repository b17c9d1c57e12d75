"""A worker process: what it is told, what it answers, its whole life. May import errors only.

Messages are pickles with their length in front, over the pipes between a process and its own child; nothing else ever
writes to them.
"""

import builtins
import contextlib
import faulthandler
import os
import pickle
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from imgclf.errors import ImgclfError

GRACE = 10.0  # seconds after which a worker that nobody ended ends itself: its parent is gone
HEADER = struct.Struct("<Q")


@dataclass(frozen=True)
class Setup:
    """What a worker is told first; the function stays pickled until the worker's memory is bounded."""

    function: bytes
    item_timeout: float  # seconds
    memory: int | None  # bytes of address space
    prepare: Callable[[], None] | None = None  # called before the function is unpickled


@dataclass(frozen=True)
class Reply:
    """The answer to one item: a value, or an exception (kind, text), or a fate of the worker (text only)."""

    value: Any = None
    failed: bool = False
    kind: str = ""
    text: str = ""
    own: ImgclfError | None = None

    @property
    def error(self) -> str | None:
        """Why there is no value, in people's words; None if there is one."""
        if not self.failed:
            return None
        # "KeyError: 'x'" needs its type to mean anything; the texts of other exceptions speak for themselves
        prefixed = self.kind and (hasattr(builtins, self.kind) or not self.text)
        return f"{self.kind}: {self.text}" if prefixed else self.text


@dataclass(frozen=True)
class Sealed:
    """An item, or the value of one, that only who needs it unpickles: others on its way need not import what it is
    made of, nor spend time on it.
    """

    content: bytes


def attempt(function: Callable[[Any], Any], item: object) -> Reply:
    """Call a function; what it raises becomes part of the reply."""
    try:
        if isinstance(item, Sealed):
            return Reply(Sealed(pickle.dumps(function(pickle.loads(item.content)), pickle.HIGHEST_PROTOCOL)))
        return Reply(function(item))
    except MemoryError:
        return Reply(failed=True, kind="MemoryError", text="out of memory")
    except Exception as error:
        own = error if isinstance(error, ImgclfError) else None
        return Reply(failed=True, kind=type(error).__name__, text=str(error), own=own)


def serve() -> None:
    """The whole life of a worker: a setup, then chunks of items (or another setup), until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # what a library prints must not end up among the replies, nor may it read the requests
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, OSError):
        setup: Setup = receive(requests)
        while True:
            function = _prepared(setup)
            _reply(replies, Reply() if not function.failed else function)
            if function.failed:
                return
            while not isinstance(message := receive(requests), Setup):
                for item in _watched(message, setup.item_timeout + GRACE):
                    _reply(replies, attempt(function.value, item))
            setup = message


def _prepared(setup: Setup) -> Reply:
    """The function of a setup, as the value of a reply."""
    _limit_memory(setup.memory)
    if setup.prepare is not None:
        setup.prepare()
    return attempt(pickle.loads, setup.function)


def _watched(items: list[object], limit: float) -> Iterator[object]:
    """Iterate over items; the process ends itself when one takes longer than `limit` seconds.

    A killed parent cannot kill a worker that hangs, and such a worker does not look at stdin. The timer of
    faulthandler runs outside of Python, so it also ends a decoder that never returns.
    """
    armed = float("-inf")
    for item in items:
        now = time.monotonic()
        if now - armed > GRACE / 10:  # arming starts a thread: not for every 1 ms item
            faulthandler.dump_traceback_later(limit, exit=True)
            armed = now
        yield item
    faulthandler.cancel_dump_traceback_later()


def _limit_memory(size: int | None) -> None:
    if size is not None and sys.platform == "linux":  # macOS does not enforce it, Windows has no such call
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (size if hard < 0 else min(size, hard), hard))


def _reply(stream: BinaryIO, reply: Reply) -> None:
    try:
        data = pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        data = pickle.dumps(Reply(failed=True, kind=type(error).__name__, text=f"the value cannot be sent: {error}"))
    _write(stream, data)


def send(stream: IO[bytes], message: object) -> None:
    """Write one message."""
    _write(stream, pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(HEADER.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message; EOFError when the other side is gone."""
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        raise EOFError
    return pickle.loads(stream.read(HEADER.unpack(head)[0]))
