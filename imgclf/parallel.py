"""Per-image work over processes: progress, time limits, dying workers. May import errors and progress only.

The workers are plain child processes that talk over pipes, not `multiprocessing`: its spawned children import the
user's `__main__` again, which a notebook or a script without `if __name__ == "__main__"` does not survive. A file that
hangs or kills a decoder costs that file and nothing else.
"""

import builtins
import contextlib
import faulthandler
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, BinaryIO, Generic, TypeVar

from imgclf import progress
from imgclf.errors import ImgclfError, SetupError

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

ITEM_TIMEOUT = 60.0  # seconds; the slowest honest file (a 200-megapixel PNG) takes about 10
START_TIMEOUT = 120.0  # seconds for a worker to import its function, on a cold and busy disk
GRACE = 10.0  # seconds after which a worker that nobody ended ends itself: its parent is gone
TICK = 0.1  # seconds between two looks at the time limits
CHUNK_SECONDS = 0.15  # work sent at once: a round trip costs 0.1 ms, so that 1 ms items lose nothing to it
CHUNK_GROWTH = 4  # the first item pays for imports and tells little about the next ones
ITEMS_PER_WORKER = 4  # fewer than that are not worth the 0.2 s of another worker's start
WORKER_MEMORY = 3 << 30  # bytes of address space; a 200-megapixel image needs 0.6 to 1.4 GB

# sys.path is handed over before anything is imported: `-m` would put the working directory first, and a `types.py` or
# `numpy/` that a user keeps there would take the place of the real one.
BOOT = "import sys; sys.path[:] = sys.argv[1:]; from imgclf.parallel import _serve; _serve()"

HEADER = struct.Struct("<Q")


@dataclass(frozen=True)
class Result(Generic[R_co]):
    """What became of one item.

    Attributes:
        value: what the function returned; None if it did not return.
        error: None, or why there is no value: "took longer than 60 s", "the worker process died (signal 11)", or the
            text of the exception.
    """

    value: R_co | None
    error: str | None = None


class ChildFailed(SetupError):
    """A function that ran in a process of its own raised, died or took too long.

    Attributes:
        output: the end of what the process wrote to stdout and stderr.
    """

    output = ""


def cpu_count() -> int:
    """The number of processors that this process may use, 1 or more."""
    process_cpu_count = getattr(os, "process_cpu_count", None)  # Python 3.13
    if process_cpu_count is not None:
        return process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def map_items(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    title: str,
    unit: str = "images",
    workers: int | None = None,
    item_timeout: float = ITEM_TIMEOUT,
) -> list[Result[R]]:
    """Apply a function to every item, in worker processes, under a progress bar.

    Args:
        function: a function of an importable module, or a `functools.partial` of one.
        items: anything that pickles.
        title: what is being done, as `reading images`.
        unit: what the items are called.
        workers: the number of processes; None takes one per processor, 0 works in this process without time limits
            (for trusted items only: a crash is then a crash of this process).
        item_timeout: seconds that one item may take before its worker is killed and replaced.

    Returns:
        One result per item, in the order of the items. An item that fails does not raise.

    Raises:
        SetupError: when workers cannot be started.
        KeyboardInterrupt: after the workers have been killed.
    """
    with progress.step(title, len(items), unit) as bar:
        if workers == 0:
            replies = []
            for item in items:
                replies.append(_attempt(function, item))
                bar.update()
        else:
            most = max(1, -(-len(items) // ITEMS_PER_WORKER))
            size = min(workers or cpu_count(), most)
            # one thread each: the workers are the parallelism
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            setup = _Setup(pickle.dumps(function), item_timeout, WORKER_MEMORY)
            replies = _Crew(setup, items, environment, subprocess.DEVNULL).run(size, bar.update)
    return [Result(reply.value, reply.error) for reply in replies]


def run_isolated(function: Callable[..., R], *args: object, timeout: float = 600.0) -> R:
    """Call a function in a process of its own, which may import and print what it likes.

    Args:
        function: a function of an importable module.
        args: its arguments; they and the value must pickle.
        timeout: seconds.

    Returns:
        What the function returned.

    Raises:
        ImgclfError: the one that the function raised.
        ChildFailed: any other exception, with its type and text; or the process died, or took too long.
    """
    setup = _Setup(pickle.dumps(partial(_apply, function)), timeout, None)
    with tempfile.TemporaryFile() as output:
        reply = _Crew(setup, [args], dict(os.environ), output).run(1, lambda: None)[0]
        if not reply.failed:
            value: R = reply.value
            return value
        if reply.own is not None:
            raise reply.own
        name = getattr(function, "__name__", "the function")
        how = f"{reply.kind}: {reply.text}" if reply.kind else reply.text
        failure = ChildFailed(f"{name} failed in its process: {how}")
        output.seek(max(0, output.seek(0, os.SEEK_END) - 4000))
        failure.output = output.read().decode("utf-8", "replace")
        raise failure


def _apply(function: Callable[..., R], args: tuple[object, ...]) -> R:
    return function(*args)


@dataclass(frozen=True)
class _Setup:
    """What a worker is told first; the function stays pickled until the worker's memory is bounded."""

    function: bytes
    item_timeout: float  # seconds
    memory: int | None  # bytes of address space


@dataclass(frozen=True)
class _Reply:
    """The answer to one item: a value, or an exception (kind, text), or a fate of the worker (text only)."""

    value: Any = None
    failed: bool = False
    kind: str = ""
    text: str = ""
    own: ImgclfError | None = None

    @property
    def error(self) -> str | None:
        if not self.failed:
            return None
        # "KeyError: 'x'" needs its type to mean anything; the texts of other exceptions speak for themselves
        prefixed = self.kind and (hasattr(builtins, self.kind) or not self.text)
        return f"{self.kind}: {self.text}" if prefixed else self.text


def _attempt(function: Callable[[Any], Any], item: object) -> _Reply:
    try:
        return _Reply(function(item))
    except MemoryError:
        return _Reply(failed=True, kind="MemoryError", text="out of memory")
    except Exception as error:
        own = error if isinstance(error, ImgclfError) else None
        return _Reply(failed=True, kind=type(error).__name__, text=str(error), own=own)


# The parent's side. One thread tends one worker and blocks on its pipe; the calling thread collects, keeps the time
# limits (killing a worker is what wakes its thread) and takes Ctrl-C. Pipes cannot be polled on Windows, hence threads.


class _Worker:
    """One child process and the clock of what it is doing."""

    def __init__(self, setup: _Setup, environment: dict[str, str], stderr: int | IO[bytes]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BOOT, *map(str, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests: IO[bytes] = self.process.stdin
        self.replies: IO[bytes] = self.process.stdout
        self.clock = (0, time.monotonic() + START_TIMEOUT)  # turn, deadline: replaced as one, read by another thread
        self.expired = -1  # the turn that took too long
        with contextlib.suppress(OSError):  # it died; the missing reply tells
            _send(self.requests, setup)

    def start_clock(self, limit: float) -> None:
        """Begin a new turn, which may take `limit` seconds."""
        self.clock = (self.clock[0] + 1, time.monotonic() + limit)

    def keep_limit(self) -> None:
        """Kill the process if its turn has lasted too long."""
        turn, deadline = self.clock
        if time.monotonic() > deadline:
            self.expired = turn
            self.process.kill()

    def receive(self) -> _Reply | None:
        """The next reply, None when the process is dead."""
        try:
            reply: _Reply = _receive(self.replies)
            return reply
        except (OSError, EOFError):
            return None

    def end(self) -> int:
        """Kill the process, which keeps nothing that is worth a farewell; returns its exit code (-signal)."""
        self.process.kill()
        code = self.process.wait()
        for stream in (self.requests, self.replies):
            with contextlib.suppress(OSError):
                stream.close()
        return code


class _Crew:
    """The workers of one call."""

    def __init__(
        self, setup: _Setup, items: Sequence[Any], environment: dict[str, str], stderr: int | IO[bytes]
    ) -> None:
        self.setup, self.items, self.environment, self.stderr = setup, items, environment, stderr
        self.todo = deque(range(len(items)))
        self.lock = threading.Lock()
        self.workers: list[_Worker] = []
        self.size = 0
        self.stopping = False
        self.outcomes: queue.SimpleQueue[tuple[int, _Reply] | BaseException] = queue.SimpleQueue()

    def run(self, size: int, on_reply: Callable[[], object]) -> list[_Reply]:
        """Answer every item with `size` workers."""
        self.size = size
        replies: dict[int, _Reply] = {}
        threads = [threading.Thread(target=self._tend, daemon=True) for _ in range(size)]
        try:
            for thread in threads:
                thread.start()
            looked = time.monotonic()
            while len(replies) < len(self.items):
                with contextlib.suppress(queue.Empty):
                    outcome = self.outcomes.get(timeout=TICK)
                    if isinstance(outcome, BaseException):
                        raise outcome
                    replies[outcome[0]] = outcome[1]
                    on_reply()
                if time.monotonic() - looked > TICK:
                    looked = time.monotonic()
                    for worker in tuple(self.workers):
                        worker.keep_limit()
        finally:
            with self.lock:
                self.stopping = True
                self.todo.clear()
                for worker in self.workers:
                    worker.process.kill()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        return [replies[index] for index in range(len(self.items))]

    def _tend(self) -> None:
        worker, size = None, 1
        try:
            while chunk := self._take(size):
                worker = worker or self._hire()
                begun = time.monotonic()
                answered = self._work(worker, chunk)
                if answered == len(chunk):
                    fitting = int(CHUNK_SECONDS * len(chunk) / max(time.monotonic() - begun, 1e-6))
                    size = max(1, min(size * CHUNK_GROWTH, fitting))
                else:
                    self._blame(worker, chunk[answered], chunk[answered + 1 :])
                    worker, size = None, 1
        except BaseException as error:
            self.outcomes.put(error)
        finally:
            if worker is not None:
                self._dismiss(worker)

    def _take(self, size: int) -> list[int]:
        with self.lock:
            fair = max(1, len(self.todo) // (2 * self.size))  # no worker sits on the last items alone
            return [self.todo.popleft() for _ in range(min(size, fair, len(self.todo)))]

    def _hire(self) -> _Worker:
        worker = _Worker(self.setup, self.environment, self.stderr)
        with self.lock:
            self.workers.append(worker)
            if self.stopping:
                worker.process.kill()
        ready = worker.receive()
        if ready is None or ready.failed:
            code = self._dismiss(worker)
            why = ready.error if ready else "no answer in time" if worker.expired >= 0 else _fate(code)
            raise SetupError(f"a worker process could not start: {why}", f"check that {sys.executable} imports imgclf")
        return worker

    def _work(self, worker: _Worker, chunk: list[int]) -> int:
        """Have a chunk worked on; returns how many of its items were answered before the worker died."""
        worker.start_clock(self.setup.item_timeout)
        with contextlib.suppress(OSError):  # it died; the missing reply tells
            _send(worker.requests, [self.items[index] for index in chunk])
        for number, index in enumerate(chunk):
            reply = worker.receive()
            if reply is None:
                return number
            worker.start_clock(self.setup.item_timeout)
            self.outcomes.put((index, reply))
        worker.start_clock(float("inf"))  # idle until the next chunk
        return len(chunk)

    def _blame(self, worker: _Worker, guilty: int, rest: list[int]) -> None:
        """Bury a worker: the item it was at is answered, the others go to the next worker."""
        code = self._dismiss(worker)
        late = worker.expired == worker.clock[0]
        with self.lock:
            if not self.stopping:
                self.todo.extendleft(reversed(rest))
                if worker.expired >= 0 and not late:  # killed for an item whose answer arrived after all
                    self.todo.appendleft(guilty)
                    return
        text = f"took longer than {self.setup.item_timeout:g} s" if late else f"the worker process {_fate(code)}"
        self.outcomes.put((guilty, _Reply(failed=True, text=text)))

    def _dismiss(self, worker: _Worker) -> int:
        with self.lock:
            self.workers.remove(worker)
        return worker.end()


def _fate(code: int) -> str:
    if code >= 0:
        return f"died with exit code {code}"
    return f"died with signal {-code}" + (" (out of memory?)" if code == -9 else "")


# The worker's side.


def _serve() -> None:
    """The whole life of a worker: a setup, then chunks of items, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # what a library prints must not end up among the replies, nor may it read the requests
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, OSError):
        setup: _Setup = _receive(requests)
        _limit_memory(setup.memory)
        function = _attempt(pickle.loads, setup.function)
        _reply(replies, _Reply() if not function.failed else function)
        while not function.failed:
            for item in _watched(_receive(requests), setup.item_timeout + GRACE):
                _reply(replies, _attempt(function.value, item))


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


def _reply(stream: BinaryIO, reply: _Reply) -> None:
    try:
        data = pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        data = pickle.dumps(_Reply(failed=True, kind=type(error).__name__, text=f"the value cannot be sent: {error}"))
    _write(stream, data)


def _send(stream: IO[bytes], message: object) -> None:
    _write(stream, pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(HEADER.pack(len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        raise EOFError
    return pickle.loads(stream.read(HEADER.unpack(head)[0]))
