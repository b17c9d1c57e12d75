"""Per-image work over processes: progress, time limits, dying workers. May import crew, worker, progress, errors.

The workers are plain child processes that talk over pipes, not `multiprocessing`: its spawned children import the
user's `__main__` again, which a notebook or a script without `if __name__ == "__main__"` does not survive. A file that
hangs or kills a decoder costs that file and nothing else.
"""

import os
import pickle
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from imgclf import progress
from imgclf.errors import SetupError
from imgclf.workers.crew import Crew, Worker
from imgclf.workers.worker import Reply, Setup, attempt

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

ITEM_TIMEOUT = 60.0  # seconds; the slowest honest file (a 200-megapixel PNG) takes about 10
ITEMS_PER_WORKER = 4  # fewer than that are not worth the 0.2 s of another worker's start
WORKER_MEMORY = 3 << 30  # bytes of address space; a 200-megapixel image needs 0.6 to 1.4 GB


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


@dataclass(frozen=True)
class News:
    """What has been heard of a long job on another machine.

    Attributes:
        job: its number.
        said: what it has said since the last news, in order.
        reply: what `worker.attempt` gives of it; None while it goes on, and where it is lost.
        lost: whether its machine or its process went away.
    """

    job: int
    said: tuple[Any, ...] = ()
    reply: Reply | None = None
    lost: bool = False


class Jobs(Protocol):
    """Long jobs on other machines, one a machine at a time; `ray_jobs.RayJobs` are some."""

    def free(self) -> tuple[str, ...]:
        """The names of the machines that have none."""

    def begin(self, job: int, machine: str, function: Callable[..., Any], *args: Any) -> None:
        """Have a machine call `function(say, shared, *args)`; where a job is stopped, `say(value)` raises there."""

    def news(self, seconds: float) -> list[News]:
        """What has been heard; waits for the first end of a job, so long at most."""

    def stop(self, job: int) -> None:
        """Have a job end when it says something next; nothing more is heard of it."""


class Elsewhere(Protocol):
    """Other machines that take items; `on_ray.Cluster` is one."""

    def replies(self, setup: Setup, items: Sequence[Any], workers: int | None) -> Iterator[tuple[int, Reply]]:
        """Answer every item once, in any order: its index, and what `worker.attempt` gives of it."""

    def prepare(self, function: Callable[[], None], workers: int) -> None:
        """Have so many workers at most call a function ahead, for work whose `prepare` it is; returns at once."""

    def jobs(self, shared: Any, needed: Sequence[Path]) -> AbstractContextManager[Jobs]:
        """Take long jobs for a block: all are given `shared`, and all machines must see the paths."""


_ELSEWHERE: ContextVar[Elsewhere | None] = ContextVar("elsewhere", default=None)


@contextmanager
def done_by(elsewhere: Elsewhere | None) -> Iterator[None]:
    """Within the block, work that any machine can do is done by these (None: by processes of this one)."""
    token = _ELSEWHERE.set(elsewhere)
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)


def is_elsewhere() -> bool:
    """Whether `anywhere` means other machines now."""
    return _ELSEWHERE.get() is not None


def elsewhere_now() -> Elsewhere | None:
    """The other machines that `done_by` has named; None for this one."""
    return _ELSEWHERE.get()


def prepare_elsewhere(function: Callable[[], None], workers: int) -> None:
    """Have other machines call a function, such as an import, while this one is busy with other things.

    Args:
        function: of an importable module; work that `each_item` is given with the same `prepare` begins sooner.
        workers: how many processes at most will have something to do.
    """
    elsewhere = _ELSEWHERE.get()
    if elsewhere is not None:
        elsewhere.prepare(function, workers)


def map_items(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    title: str,
    unit: str = "images",
    workers: int | None = None,
    item_timeout: float = ITEM_TIMEOUT,
    anywhere: bool = False,
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
        anywhere: whether another machine may do it: it reads what all machines see, and writes nothing.

    Returns:
        One result per item, in the order of the items. An item that fails does not raise.

    Raises:
        SetupError: when workers cannot be started.
        KeyboardInterrupt: after the workers have been killed.
    """
    results: list[Result[R]] = [Result(None)] * len(items)
    for index, result in each_item(
        function, items, title=title, unit=unit, workers=workers, item_timeout=item_timeout, anywhere=anywhere
    ):
        results[index] = result
    return results


def each_item(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    title: str,
    unit: str = "images",
    workers: int | None = None,
    item_timeout: float = ITEM_TIMEOUT,
    memory: int | None = WORKER_MEMORY,
    anywhere: bool = False,
    prepare: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Result[R]]]:
    """As `map_items`, but each result is handed over as it comes, so that they need not all be in memory.

    Without a title there is no bar. Besides its arguments, `memory` bounds the address space that a worker may take, in
    bytes (Linux; None: no bound), and `prepare` is called in each worker before the function is unpickled.

    Yields:
        The index of the item and its result, in any order, every item once.
    """
    with progress.step(title, len(items), unit) if title else nullcontext(progress.Bar()) as bar:
        for index, reply in _replies(function, items, workers, item_timeout, memory, anywhere, prepare):
            yield index, Result(reply.value, reply.error)
            bar.update()


def _replies(
    function: Callable[[T], R],
    items: Sequence[T],
    workers: int | None,
    item_timeout: float,
    memory: int | None,
    anywhere: bool,
    prepare: Callable[[], None] | None,
) -> Iterator[tuple[int, Reply]]:
    if workers == 0:
        return ((index, attempt(function, item)) for index, item in enumerate(items))
    setup = Setup(pickle.dumps(function), item_timeout, memory, prepare)
    elsewhere = _ELSEWHERE.get()
    if anywhere and elsewhere is not None and items:
        return elsewhere.replies(setup, items, workers)
    most = max(1, -(-len(items) // ITEMS_PER_WORKER))
    size = min(workers or cpu_count(), most)
    return Crew(setup, items, single_threaded(), subprocess.DEVNULL).run(size)


def single_threaded() -> dict[str, str]:
    """The environment of a worker among several: one thread each, the workers are the parallelism."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


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
    with Standby(function, timeout) as child:
        return child.call(*args)


class Standby(Generic[R_co]):
    """A process that waits for a function's arguments, so that it is ready when they are there; a context.

    Args:
        function: a function of an importable module.
        timeout: seconds that the call may take.
        prepare: called in the process before the arguments come; it pickles, and what it raises ends the process.
        memory: bytes of address space that the process may take (Linux); None does not bound it.
    """

    def __init__(
        self, function: Callable[..., R_co], timeout: float = 600.0, prepare: Callable[[], None] | None = None,
        memory: int | None = None,
    ) -> None:  # fmt: skip
        self.name = getattr(function, "__name__", "the function")
        self._setup = Setup(pickle.dumps(partial(_apply, function)), timeout, memory, prepare)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed on exit)
        self._worker = Worker(self._setup, dict(os.environ), self._output)

    def __enter__(self) -> "Standby[R_co]":
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whatever it is at."""
        self._worker.end()
        self._output.close()

    def call(self, *args: object) -> R_co:
        """Call the function, once; values, exceptions as for `run_isolated`."""
        self._worker.expect()
        crew = Crew(self._setup, [args], dict(os.environ), self._output, self._worker)
        [(_, reply)] = crew.run(1)
        if not reply.failed:
            value: R_co = reply.value
            return value
        if reply.own is not None:
            raise reply.own
        how = f"{reply.kind}: {reply.text}" if reply.kind else reply.text
        failure = ChildFailed(f"{self.name} failed in its process: {how}")
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - 4000))
        failure.output = self._output.read().decode("utf-8", "replace")
        raise failure


def _apply(function: Callable[..., R], args: tuple[object, ...]) -> R:
    return function(*args)
