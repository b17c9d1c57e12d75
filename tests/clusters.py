"""A Ray cluster of two nodes on loopback, one processor each, and jobs for it that start fast."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imgclf.errors import InputError
from imgclf.training.epoch import Epoch

MEMORY = 100_000_000  # bytes of a node's object store


@contextmanager
def two_nodes(client_port: int | None = None) -> Iterator[Any]:
    """The cluster, whose head takes clients from elsewhere at a port, where one is given."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (Ray names it so): nice ones get no turn beside other tests
    os.environ.setdefault(
        "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S", "300"
    )  # 30 s for a client's process are few beside them
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": MEMORY,
                                                         "include_dashboard": False,
                                                         "ray_client_server_port": client_port})  # fmt: skip
    made.add_node(num_cpus=1, object_store_memory=MEMORY)
    made.wait_for_nodes()
    yield made
    made.shutdown()


def busy(say: Callable[[Any], None], shared: Any, folder: str, fate: int) -> Any:
    """A job: 0 ends by itself, 1 raises, 2 kills its process, 3 goes on until it is stopped."""
    say(("begun", fate))
    if fate == 1:
        raise InputError("one", "choose another")
    if fate == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    while fate == 3:
        Path(folder, "going").touch()
        say("still")
        time.sleep(0.01)
    return shared, os.getpid()


def short_trial(say: Callable[[Any], None], *_: Any) -> Any:
    """Stands for `run_trial`: as many epochs as take a second."""
    for number in range(1, 21):
        row = Epoch("training", number, {}, {"accuracy": 0.5, "loss": 1.0}, 1e-3, 0.1)
        say(row)
        time.sleep(0.05)
    return SimpleNamespace(kept=row, content=b"", seconds=1.0)


def strange(item: int) -> int:
    """7 kills the process, 11 hangs, 13 raises."""
    if item == 7:
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == 11:
        time.sleep(3600)
    if item == 13:
        raise ValueError("thirteen")
    return item * item


def parent(_: int) -> int:
    return os.getppid()


def get_ready() -> None:
    os.environ["IMGCLF_TEST_CALLS"] = str(calls() + 1)


def calls(_: int = 0) -> int:
    """How often this process has been made ready."""
    return int(os.environ.get("IMGCLF_TEST_CALLS", "0"))


def slowly(folder: str, item: int) -> int:
    """Takes a while, and leaves a trace of having been done."""
    time.sleep(0.05)
    with (Path(folder) / str(item)).open("a") as file:
        file.write("x")
    return item


def blind(_: Any) -> bool:
    return False
