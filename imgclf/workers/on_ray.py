"""Per-image work on a Ray cluster: what `parallel` does with processes, done with Ray's tasks. May import ray_jobs,
parallel, crew, worker, places, progress, errors; Ray (extra `ray`) only when a cluster is asked for.

Blocks of items are Ray tasks, so that a node that dies costs the blocks it was at: Ray does them again elsewhere. Not
Ray Data, which brings pandas, pyarrow and actors of its own for what is a list of blocks, and is no faster.
Within a task the items go to a worker process of `crew`, as they do without Ray: a file that hangs or kills a decoder
ends with the same words, and costs the node nothing.
"""

import hashlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from imgclf.errors import InputError, SetupError
from imgclf.noise import hushed
from imgclf.progress import plural, warn
from imgclf.storage.places import is_address
from imgclf.workers import ray_jobs
from imgclf.workers.crew import START_TIMEOUT, Crew, Worker
from imgclf.workers.parallel import Jobs, single_threaded
from imgclf.workers.worker import Reply, Sealed, Setup

BLOCK = 64  # items of a task at most; what a node that dies has to have done again
BLOCKS_PER_CPU = 32  # tasks for each processor at least, so that all end at about the same time
AHEAD = 3  # tasks for each processor that are sent, so that none waits for this machine
RETRIES = 5  # of a task whose machine went away
TRIES = 2  # of an item that kills its worker; the second one alone, in a fresh process
CONNECT_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to; `connected` is how to get one.

    Attributes:
        nodes: how many machines.
        cpus: the processors that Ray may use on all of them.
    """

    nodes: int
    cpus: int

    def __str__(self) -> str:
        return f"Ray: {plural(self.nodes, 'machine')}, {plural(self.cpus, 'processor')}"

    def replies(self, setup: Setup, items: Sequence[Any], workers: int | None) -> Iterator[tuple[int, Reply]]:
        """Answer every item once, in the order in which blocks are done.

        Args:
            setup: the function, and the bounds that each worker process gets.
            items: anything that pickles; a path must lead to the same file on every machine.
            workers: tasks at once; None takes one per processor of the cluster.

        Raises:
            SetupError: the cluster was lost, or its machines do not have imgclf or the files.
        """
        import ray

        _require_seen(items[0])
        size = max(1, min(BLOCK, len(items) // (BLOCKS_PER_CPU * self.cpus)))
        name = hashlib.blake2b(pickle.dumps(setup)).hexdigest()
        told, answer = ray.put(setup), ray.remote(num_cpus=1, max_retries=RETRIES)(_answer)
        starts = iter(range(0, len(items), size))
        under_way: dict[Any, int] = {}  # task to the start of its block
        try:
            while True:
                for start in islice(starts, (workers or AHEAD * self.cpus) - len(under_way)):
                    block = [Sealed(pickle.dumps(item)) for item in items[start : start + size]]
                    under_way[answer.remote(name, told, block)] = start
                if not under_way:
                    break
                done, _ = ray.wait(list(under_way), num_returns=1)
                for task in done:
                    yield from enumerate(map(_opened, ray.get(task)), under_way.pop(task))
        except ray.exceptions.RayError as error:
            cause = str(getattr(error, "cause", None) or error).strip().splitlines()
            reason = cause[-1] if cause else type(error).__name__
            raise SetupError(
                f"the Ray cluster did not do the work ({reason})",
                "check its machines with `ray status`, and that all have this imgclf",
            ) from error
        finally:
            for task in under_way:
                ray.cancel(task)
        lost = self.nodes - len(_alive())
        if lost > 0:
            warn(f"{plural(lost, 'machine')} of the Ray cluster went away; what was unfinished there was done again")

    def prepare(self, function: Callable[[], None], workers: int) -> None:
        """Have workers call a function that then wait for work whose `prepare` it is, evenly on all machines.

        Args:
            function: of an importable module.
            workers: how many at most; there is one per processor at most.
        """
        import ray

        task, nodes = ray.remote(num_cpus=1, max_retries=0)(_prepare), _alive()
        places = sorted((turn, number) for number, node in enumerate(nodes)
                        for turn in range(int(node["Resources"].get("CPU", 0))))  # fmt: skip
        for _, number in places[:workers]:
            task.options(scheduling_strategy=_on(nodes[number])).remote(function)

    def jobs(self, shared: Any, needed: Sequence[Path]) -> AbstractContextManager[Jobs]:
        """Take long jobs for a block.

        Args:
            shared: what every job is given; it pickles.
            needed: files and folders that all machines must see.

        Raises:
            InputError: a machine does not see one of them.
        """
        for path in needed:
            _require_seen(path)
        return ray_jobs.RayJobs(shared)


@contextmanager
def connected(address: str | None = None) -> Iterator[Cluster]:
    """Connect to a Ray cluster for the block.

    Args:
        address: "auto" for the one that runs on this machine, "HOST:PORT", or "ray://HOST:PORT"; None begins one on
            this machine that ends with the block.

    Raises:
        SetupError: Ray is not installed, or no cluster answers there.
    """
    _send_token(address)
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # Ray tells of lost machines on stdout, amid the results
    try:
        import ray
    except ImportError:
        raise SetupError("--engine ray needs Ray, which is not installed", "pip install 'imgclf[ray]'") from None
    begun = not ray.is_initialized()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_worker_niceness", "0")  # of a cluster that begins here: as fast as other processes
    try:
        if begun:
            _require_listening(address)
        with hushed():
            if begun:
                _begin(address)
            cpus = int(ray.cluster_resources().get("CPU", 0))
    except (ConnectionError, RuntimeError, TimeoutError, ValueError, OSError) as error:
        raise SetupError(f"no Ray cluster answers at {address or 'this machine'} ({_reason(error)})",
                         "start one with `ray start --head`, and name it with --address; this machine needs its "
                         "token (`ray get-auth-token`)") from None  # fmt: skip
    if not cpus:
        raise SetupError("the Ray cluster has no processors", "start it with --num-cpus")
    try:
        yield Cluster(len(_alive()), cpus)
    finally:
        if begun:
            ray.shutdown()


def _begin(address: str | None) -> None:
    """Connect this process. A cluster starts a process for each client of ray://, and rarely fails to: twice."""
    import ray

    asked = partial(ray.init, address, runtime_env=_environment(), log_to_driver=False, logging_level="ERROR",
                    include_dashboard=False if address is None else None)  # fmt: skip
    try:
        asked()
    except ConnectionAbortedError:
        asked()


def _environment() -> dict[str, Any] | None:
    """What Ray's workers need to find this machine's imgclf, where a fresh Python would not find it by itself.

    Without it a worker starts a third of a second sooner.
    """
    folder = str(Path(__file__).resolve().parents[2])
    if not os.environ.get("PYTHONPATH") and folder not in (str(Path(sys.path[0]).resolve()), str(Path.cwd())):
        return None
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, map(str, sys.path)))}}


def _reason(error: BaseException) -> str:
    """One line of what Ray says: the first, or the last where the first announces a traceback of the server."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return lines[-1] if lines[0].endswith(":") else lines[0]


def _send_token(address: str | None) -> None:
    """Have Ray's client send the token that is here; Ray itself does so for other addresses only (2.60)."""
    if address is not None and address.startswith("ray://") and (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when Ray is imported


def _require_listening(address: str | None) -> None:
    """Try the door first: Ray knocks for two minutes where nobody is at home."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT).close()


def _alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _on(node: dict[str, Any]) -> Any:
    """How a task is sent to one machine."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _require_seen(item: Any) -> None:
    """Check that all machines see a file that this one sees; otherwise every image would be called unreadable."""
    import ray

    (item, *_) = getattr(item, "paths", (item,))
    if not isinstance(item, str | Path) or is_address(item) or not Path(item).exists():
        return
    item = Path(item).absolute()
    look = ray.remote(num_cpus=0)(os.path.exists)
    looks = {node["NodeManagerAddress"]: look.options(scheduling_strategy=_on(node)).remote(str(item))
             for node in _alive()}  # fmt: skip
    blind = [address for address, seen in looks.items() if not _got(seen)]
    if blind:
        raise InputError(f"{item} is not there on {', '.join(blind)}",
                         "put images and run where every machine of the cluster sees them")  # fmt: skip


def _got(seen: Any) -> bool:
    """Whether a machine sees a file; one that has just gone away is not asked again."""
    import ray

    try:
        return bool(ray.get(seen))
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError):
        return True


class _Tender:
    """Keeps one worker process for one function, from task to task."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.worker = _spare_for(setup)

    def answer(self, items: list[Sealed]) -> list[Reply]:
        replies: list[Reply] = [Reply()] * len(items)
        todo = list(range(len(items)))
        for _ in range(TRIES):
            crew = Crew(self.setup, [items[index] for index in todo], single_threaded(), subprocess.DEVNULL,
                        self.worker, keep=True)  # fmt: skip
            self.worker = None
            for place, reply in crew.run(1):
                replies[todo[place]] = reply
            self.worker = crew.hired
            todo = [index for index in todo if _killed(replies[index])]
            if not todo:
                break
        return replies

    def end(self) -> None:
        if self.worker is not None:
            self.worker.end()


def _opened(reply: Reply) -> Reply:
    """A reply as the one who asked gets it."""
    return Reply(pickle.loads(reply.value.content)) if isinstance(reply.value, Sealed) else reply


def _killed(reply: Reply) -> bool:
    """Whether the worker's fate is all that is known of an item."""
    return reply.failed and not reply.kind


# of this Ray worker process, which does one task at a time
_tender: tuple[str, _Tender] | None = None
_spare: tuple[Callable[[], None], Worker] | None = None  # has called that function, and waits for work


def _prepare(function: Callable[[], None]) -> None:
    """Have a worker ready, in a Ray worker, that has called a function."""
    global _spare
    if _spare is None:
        setup = Setup(pickle.dumps(bool), START_TIMEOUT, None, function)
        crew = Crew(setup, [None], single_threaded(), subprocess.DEVNULL, keep=True)
        for _ in crew.run(1):
            pass
        if crew.hired is not None:
            _spare = function, crew.hired


def _spare_for(setup: Setup) -> Worker | None:
    """The waiting worker, set up, if it has called what the setup asks for."""
    global _spare
    if _spare is None or _spare[0] != setup.prepare:
        return None
    worker, _spare = _spare[1], None
    if worker.process.poll() is not None:
        return None  # it was killed while it waited
    worker.give(setup)
    return worker


def _answer(name: str, setup: Setup, items: list[Sealed]) -> list[Reply]:
    """One block, in a Ray worker; `name` is the setup's."""
    global _tender
    if _tender is None or _tender[0] != name:
        if _tender is not None:
            _tender[1].end()
        _tender = name, _Tender(setup)
    return _tender[1].answer(items)
