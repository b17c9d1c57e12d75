"""How large, how fast and how hungry a .tflite file is on this computer. May import parallel and models/.

Each file is measured in a process of its own, so that loading it and the memory it takes are its own.
"""

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from imgclf.workers import parallel

THREADS = (1, 2, 4)
RUNS, SECONDS = 50, 3.0  # of one image for each number of threads; whichever is over first
LEAST = 5
WORTH_A_WORD = 1.2  # times as slow: less is the weather of the machine
PLAIN = 0  # stands for one thread without XNNPACK, as where an app turns it off


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one image: the median and the 95th percentile of some runs."""

    median: float
    p95: float


@dataclass(frozen=True)
class Bench:
    """What was measured of a file.

    Attributes:
        path: the file.
        bytes: its size.
        parameters: numbers that it holds.
        load: milliseconds until it can be run.
        latency: by number of threads; 0 stands for one thread without XNNPACK.
        memory: bytes that loading and running it added to the process, at most.
        accuracy: share of labelled images that it gets right, 0..1; None where none were given.
    """

    path: Path
    bytes: int
    parameters: int
    load: float
    latency: dict[int, Latency]
    memory: int
    accuracy: float | None = None


def bench(path: Path, threads: Sequence[int] = THREADS) -> Bench:
    """Measure a file.

    Raises:
        InputError: not a .tflite model of images.
    """
    return parallel.run_isolated(measure, path, tuple(threads), timeout=600.0)


def measure(path: Path, threads: tuple[int, ...]) -> Bench:
    """As `bench`, in this process."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from imgclf.models.litert import LiteModel

    LiteModel(path, threads=1)  # says in people's words what is wrong with a file
    process = psutil.Process()
    before = process.memory_info().rss
    start = time.perf_counter()
    interpreter = Interpreter(model_path=os.fspath(path), num_threads=1)
    interpreter.allocate_tensors()
    load = time.perf_counter() - start
    latency = {1: _latency(interpreter)}
    memory = max(0, process.memory_info().rss - before)
    for count in threads:
        if count > 1:
            latency[count] = _latency(_ready(Interpreter(model_path=os.fspath(path), num_threads=count)))
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    latency[PLAIN] = _latency(
        _ready(Interpreter(model_path=os.fspath(path), num_threads=1, experimental_op_resolver_type=plain))
    )
    return Bench(path, path.stat().st_size, parameters(path.read_bytes()), 1000 * load, latency, memory)


def _ready(interpreter: Any) -> Any:
    interpreter.allocate_tensors()
    return interpreter


def _latency(interpreter: Any) -> Latency:
    source = interpreter.get_input_details()[0]
    image = np.random.default_rng(0).integers(0, 256, source["shape"]).astype(source["dtype"])
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < LEAST + 1 or (len(times) <= RUNS and time.perf_counter() - begun < SECONDS):
        interpreter.set_tensor(source["index"], image)
        start = time.perf_counter()
        interpreter.invoke()
        times.append(1000 * (time.perf_counter() - start))
    warm = sorted(times[1:])  # the first run plans the memory
    return Latency(statistics.median(warm), warm[min(len(warm) - 1, round(0.95 * len(warm)))])


def parameters(content: bytes) -> int:
    """The numbers that a model holds: the constants of its tensors, biases included."""
    from imgclf.models.tflite_file import unpack

    model = unpack(content)
    held = {number for number, buffer in enumerate(model.buffers) if buffer.data is not None and len(buffer.data)}
    seen: dict[int, int] = {}
    for tensor in model.subgraphs[0].tensors:
        if tensor.buffer in held and tensor.shape is not None and len(tensor.shape):
            seen[tensor.buffer] = int(np.prod(tensor.shape))
    return sum(seen.values())


def slower_though_smaller(rows: Sequence[Bench]) -> list[str]:
    """A line for each file that is smaller than another and slower."""
    lines = []
    for small in rows:
        limit = small.latency[1].median / WORTH_A_WORD
        faster = [row for row in rows if row.bytes > small.bytes and row.latency[1].median < limit]
        if faster:
            best = min(faster, key=lambda row: row.latency[1].median)
            times = small.latency[1].median / best.latency[1].median
            lines.append(f"{small.path.name} is smaller than {best.path.name}, and {times:.1f} times as slow here")
    return lines
