"""A Ray cluster of two nodes on loopback, one processor each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

MEMORY = 100_000_000  # bytes of a node's object store


@contextmanager
def two_nodes() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": MEMORY,
                                                         "include_dashboard": False})  # fmt: skip
    made.add_node(num_cpus=1, object_store_memory=MEMORY)
    made.wait_for_nodes()
    yield made
    made.shutdown()
