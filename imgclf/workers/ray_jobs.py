"""Long jobs on the machines of a Ray cluster, such as trials of a search.

May import parallel, worker, errors; Ray (extra `ray`) only when it is used.

A job is one Ray task that asks for all processors of its machine, so that a machine has one at a time. What it says by
the way goes through a small actor beside the program that asked; the answer tells the job whether it is still wanted.
"""

import contextlib
import pickle
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from imgclf.errors import SetupError
from imgclf.workers.parallel import News
from imgclf.workers.worker import Reply, attempt

RECOVERY = 60.0  # seconds without a job after one was lost: Ray takes up to 30 to see that a machine is dead
LAST_WORDS = 10.0  # seconds for killed jobs to be gone, after which nobody waits for them


class Stopped(Exception):
    """The job is not wanted any more."""


class RayJobs:
    """`parallel.Jobs` on the cluster that this process is connected to; a context, which kills what is left at its end.

    Args:
        shared: what every job is given; it is sent to each machine once.
    """

    def __init__(self, shared: Any) -> None:
        import ray

        here = _at(ray.get_runtime_context().get_node_id())
        self._shared = ray.put(shared)
        # Begun anew where it is killed: what was said by the way is lost then, what jobs give is not.
        board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board)
        self._board = board.options(scheduling_strategy=here).remote()
        self._jobs: dict[Any, tuple[int, str]] = {}  # task to number and machine
        self._lost: dict[str, float] = {}  # machine to when it lost a job

    def __enter__(self) -> "RayJobs":
        return self

    def __exit__(self, *_: object) -> None:
        """Kill every job that is left."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            for task in self._jobs:
                ray.cancel(task, force=True)
            if self._jobs:
                ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=LAST_WORDS)
            ray.kill(self._board)

    def free(self) -> tuple[str, ...]:
        """The names of the machines that have no job, and have not just lost one.

        Raises:
            SetupError: no machine of the cluster is left.
        """
        machines, busy = _machines(), {machine for _, machine in self._jobs.values()}
        if not machines:
            raise SetupError("no machine of the Ray cluster is left", "check it with `ray status`, and start again")
        busy |= {machine for machine, lost in self._lost.items() if time.monotonic() < lost + RECOVERY}
        return tuple(machine for machine in machines if machine not in busy)

    def begin(self, job: int, machine: str, function: Callable[..., Any], *args: Any) -> None:
        """Have a machine call `function(say, shared, *args)`.

        Args:
            job: a number that no other job has.
            machine: as `free` names it.
            function: of an importable module.
            args: they and the value must pickle.
        """
        import ray

        node = _machines().get(machine)
        resources = node["Resources"] if node else {"CPU": 1}  # gone since: Ray says so when the job is to begin
        task = ray.remote(_work).options(
            num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0), max_retries=0,
            scheduling_strategy=_at(machine.rpartition(" ")[2]),
        )  # fmt: skip
        self._jobs[task.remote(pickle.dumps(function), self._board, job, self._shared, pickle.dumps(args))] = (
            job,
            machine,
        )

    def news(self, seconds: float) -> list[News]:
        """What has been heard since the last call; waits for the first end of a job, so long at most.

        Raises:
            SetupError: a machine does not have this imgclf, or the cluster is lost.
        """
        import ray

        if not self._jobs:
            time.sleep(seconds)
            return []
        ended, _ = ray.wait(list(self._jobs), timeout=seconds)
        said: dict[int, list[Any]] = defaultdict(list)
        try:
            for job, value in ray.get(self._board.heard.remote()):
                said[job].append(value)
        except ray.exceptions.RayError as error:
            raise SetupError(f"the Ray cluster is lost ({_reason(error)})", "the same command goes on") from error
        found = []
        for task in ended:
            job, machine = self._jobs.pop(task)
            try:
                found.append(News(job, tuple(said.pop(job, ())), pickle.loads(ray.get(task))))
            except ray.exceptions.RayTaskError as error:
                raise SetupError(f"{machine.partition(' ')[0]} could not begin its work ({_reason(error)})",
                                 "check that all machines have this imgclf") from error  # fmt: skip
            except ray.exceptions.RayError:
                self._lost[machine] = time.monotonic()
                found.append(News(job, tuple(said.pop(job, ())), lost=True))
        return [*found, *(News(job, tuple(values)) for job, values in said.items())]

    def stop(self, job: int) -> None:
        """Have a job end when it says something next."""
        import ray

        ray.get(self._board.stop.remote(job))


def _machines() -> dict[str, dict[str, Any]]:
    """The machines that can work: a name, which is the address and Ray's own name, to what Ray knows."""
    import ray

    return {
        f"{node['NodeManagerAddress']} {node['NodeID']}": node
        for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")
    }  # fmt: skip


def _at(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)  # a soft one also goes elsewhere where its node is busy


def _reason(error: BaseException) -> str:
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


class _Board:
    """Where jobs say how they are getting on; an actor."""

    def __init__(self) -> None:
        self.said: list[tuple[int, Any]] = []
        self.stopped: set[int] = set()

    def say(self, job: int, value: Any) -> bool:
        """Note something; whether the job is to go on."""
        if job not in self.stopped:
            self.said.append((job, value))
        return job not in self.stopped

    def heard(self) -> list[tuple[int, Any]]:
        """What was said since the last call."""
        said, self.said = self.said, []
        return said

    def stop(self, job: int) -> None:
        """A job is not wanted any more."""
        self.stopped.add(job)


def _work(function: bytes, board: Any, job: int, shared: Any, args: bytes) -> bytes:
    """One job, in a Ray worker: a pickled reply."""
    import ray

    def say(value: Any) -> None:
        if not ray.get(board.say.remote(job, value)):
            raise Stopped

    reply = attempt(lambda _: pickle.loads(function)(say, shared, *pickle.loads(args)), None)
    try:
        return pickle.dumps(reply)
    except Exception as error:
        return pickle.dumps(Reply(failed=True, kind=type(error).__name__, text=f"the value cannot be sent: {error}"))
