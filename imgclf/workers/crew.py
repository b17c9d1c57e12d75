"""The processes of one parallel call, seen from their parent: hiring, time limits. May import worker and errors.

One thread tends one worker and blocks on its pipe; the calling thread collects, keeps the time limits (killing a worker
is what wakes its thread) and takes Ctrl-C. Pipes cannot be polled on Windows, hence threads.
"""

import contextlib
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, Any

from imgclf.errors import SetupError
from imgclf.workers.worker import Reply, Setup, receive, send

START_TIMEOUT = 120.0  # seconds for a worker to import its function, on a cold and busy disk
TICK = 0.1  # seconds between two looks at the time limits
CHUNK_SECONDS = 0.15  # work sent at once: a round trip costs 0.1 ms, so that 1 ms items lose nothing to it
CHUNK_GROWTH = 4  # the first item pays for imports and tells little about the next ones

# sys.path is handed over before anything is imported: `-m` would put the working directory first, and a `types.py` or
# `numpy/` that a user keeps there would take the place of the real one.
BOOT = "import sys; sys.path[:] = sys.argv[1:]; from imgclf.workers.worker import serve; serve()"


class Worker:
    """One child process and the clock of what it is doing."""

    def __init__(self, setup: Setup, environment: dict[str, str], stderr: int | IO[bytes]) -> None:
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
        self.clock: tuple[int, float]  # turn, deadline: replaced as one, read by another thread
        self.expired = -1  # the turn that took too long
        self.ready: bool  # whether it has said that it is
        self.give(setup)

    def give(self, setup: Setup) -> None:
        """Set it up, or anew for another function; it says when it is ready."""
        self.expect()
        self.ready = False
        with contextlib.suppress(OSError):  # it died; the missing reply tells
            send(self.requests, setup)

    def expect(self) -> None:
        """Begin to wait for a start, which may take START_TIMEOUT from now."""
        self.clock = (0, time.monotonic() + START_TIMEOUT)

    def start_clock(self, limit: float) -> None:
        """Begin a new turn, which may take `limit` seconds."""
        self.clock = (self.clock[0] + 1, time.monotonic() + limit)

    def keep_limit(self) -> None:
        """Kill the process if its turn has lasted too long."""
        turn, deadline = self.clock
        if time.monotonic() > deadline:
            self.expired = turn
            self.process.kill()

    def receive(self) -> Reply | None:
        """The next reply, None when the process is dead."""
        try:
            reply: Reply = receive(self.replies)
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


class Crew:
    """The workers of one call."""

    def __init__(
        self, setup: Setup, items: Sequence[Any], environment: dict[str, str], stderr: int | IO[bytes],
        hired: Worker | None = None, *, keep: bool = False,
    ) -> None:  # fmt: skip
        self.hired = hired  # the first worker, where it was started before there was anything to do
        self.keep = keep  # whether the last worker stays, for the next crew to hire
        self.setup, self.items, self.environment, self.stderr = setup, items, environment, stderr
        self.todo = deque(range(len(items)))
        self.lock = threading.Lock()
        self.workers: list[Worker] = []
        self.size = 0
        self.stopping = False
        self.outcomes: queue.SimpleQueue[tuple[int, Reply] | BaseException] = queue.SimpleQueue()

    def run(self, size: int) -> Iterator[tuple[int, Reply]]:
        """Answer every item with `size` workers, in the order in which the answers come: (index, reply)."""
        self.size = size
        missing = len(self.items)
        threads = [threading.Thread(target=self._tend, daemon=True) for _ in range(size)]
        try:
            for thread in threads:
                thread.start()
            looked = time.monotonic()
            while missing:
                try:
                    outcome = self.outcomes.get(timeout=TICK)
                except queue.Empty:
                    pass
                else:
                    if isinstance(outcome, BaseException):
                        raise outcome
                    missing -= 1
                    yield outcome
                if time.monotonic() - looked > TICK:
                    looked = time.monotonic()
                    for worker in tuple(self.workers):
                        worker.keep_limit()
        finally:
            with self.lock:
                self.stopping = True
                self.todo.clear()
                self.keep = self.keep and not missing
                for worker in () if self.keep else self.workers:
                    worker.process.kill()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

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
            if worker is not None and self.keep:
                self._release(worker)
                worker = None
        except BaseException as error:
            self.outcomes.put(error)
        finally:
            if worker is not None:
                self._dismiss(worker)

    def _release(self, worker: Worker) -> None:
        with self.lock:
            if self.keep and self.hired is None:
                self.workers.remove(worker)
                self.hired = worker
                return
        self._dismiss(worker)

    def _take(self, size: int) -> list[int]:
        with self.lock:
            fair = max(1, len(self.todo) // (2 * self.size))  # no worker sits on the last items alone
            return [self.todo.popleft() for _ in range(min(size, fair, len(self.todo)))]

    def _hire(self) -> Worker:
        worker, self.hired = self.hired or Worker(self.setup, self.environment, self.stderr), None
        with self.lock:
            self.workers.append(worker)
            if self.stopping:
                worker.process.kill()
        if worker.ready:
            return worker
        ready = worker.receive()
        if ready is None or ready.failed:
            code = self._dismiss(worker)
            why = ready.error if ready else "no answer in time" if worker.expired >= 0 else _fate(code)
            raise SetupError(f"a worker process could not start: {why}", f"check that {sys.executable} imports imgclf")
        worker.ready = True
        return worker

    def _work(self, worker: Worker, chunk: list[int]) -> int:
        """Have a chunk worked on; returns how many of its items were answered before the worker died."""
        worker.start_clock(self.setup.item_timeout)
        with contextlib.suppress(OSError):  # it died; the missing reply tells
            send(worker.requests, [self.items[index] for index in chunk])
        for number, index in enumerate(chunk):
            reply = worker.receive()
            if reply is None:
                return number
            worker.start_clock(self.setup.item_timeout)
            self.outcomes.put((index, reply))
        worker.start_clock(float("inf"))  # idle until the next chunk
        return len(chunk)

    def _blame(self, worker: Worker, guilty: int, rest: list[int]) -> None:
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
        self.outcomes.put((guilty, Reply(failed=True, text=text)))

    def _dismiss(self, worker: Worker) -> int:
        with self.lock:
            self.workers.remove(worker)
        return worker.end()


def _fate(code: int) -> str:
    if code >= 0:
        return f"died with exit code {code}"
    return f"died with signal {-code}" + (" (out of memory?)" if code == -9 else "")
