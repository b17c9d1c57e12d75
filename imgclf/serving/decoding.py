"""Decodes uploads in processes of its own. May import crew, worker, parallel, pixels, errors, answers.

An image that hangs its decoder, crashes it or wants more memory than there is costs that image and a new process, not
the server. One thread tends one process, as in crew.py; here they live as long as the server.
"""

import asyncio
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future
from functools import partial

import numpy as np
from numpy.typing import NDArray

from imgclf.errors import SetupError
from imgclf.pixels import UnreadableImage, load_for_model
from imgclf.serving.answers import Refusal
from imgclf.workers.crew import TICK, Worker
from imgclf.workers.parallel import WORKER_MEMORY
from imgclf.workers.worker import Setup, send

Floats = NDArray[np.float32]
Job = tuple[bytes, "Future[Floats]"]

ENVIRONMENT = {
    # one thread each: the processes are the parallelism
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    # glibc gives every image's memory back to the system and asks for it again: a quarter of the time of a photo
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}  # fmt: skip

OTHER_IMAGE = "send another image, or save this one anew as JPEG or PNG"


class Decoders:
    """A fixed number of processes that turn the bytes of files into what the model takes.

    Args:
        shape: (height, width, channels) of the model's input.
        count: of the processes.
        timeout: seconds that an image may take.
        memory: bytes of address space for each process (Linux).
    """

    def __init__(self, shape: tuple[int, int, int], count: int, timeout: float, memory: int = WORKER_MEMORY) -> None:
        height, width, channels = shape
        function = partial(load_for_model, height=height, width=width, channels=channels)
        self.timeout = timeout
        self._setup = Setup(pickle.dumps(function), timeout, memory)
        self._environment = {**os.environ, **ENVIRONMENT}
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._begun: queue.SimpleQueue[bool] = queue.SimpleQueue()  # of each thread, whether its first process is there
        self._lock = threading.Lock()
        self._workers: dict[Worker, bool] = {}  # -> whether it is ready
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._tend, daemon=True) for _ in range(count)]
        self._watch = threading.Thread(target=self._keep_limits, daemon=True)

    def __enter__(self) -> "Decoders":
        """Start the processes; `require` waits for them."""
        for thread in (*self._threads, self._watch):
            thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        """End the processes, whatever they are at."""
        with self._lock:
            self._ended.set()
            for worker in self._workers:
                worker.process.kill()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in (*self._threads, self._watch):
            thread.join()

    def require(self) -> None:
        """Wait until images can be decoded.

        Raises:
            SetupError: no process could be started.
        """
        for _ in self._threads:
            if self._begun.get():
                return
        raise SetupError("no process that decodes images could start", f"check that {sys.executable} imports imgclf")

    @property
    def ready(self) -> bool:
        """Whether there is a process that can decode."""
        with self._lock:
            return any(self._workers.values()) and not self._ended.is_set()

    async def read(self, data: bytes) -> Floats:
        """Decode one file.

        Returns:
            float32 `(height, width, channels)`, 0..255.

        Raises:
            Refusal: 422 with the reason why no image can be made of it; 503 where no process can be started.
        """
        future: Future[Floats] = Future()
        self._jobs.put((data, future))
        return await asyncio.wrap_future(future)

    def _keep_limits(self) -> None:
        while not self._ended.wait(TICK):
            with self._lock:
                workers = tuple(self._workers)
            for worker in workers:
                worker.keep_limit()

    def _tend(self) -> None:
        worker = self._hire()
        self._begun.put(worker is not None)
        while (job := self._jobs.get()) is not None:
            data, future = job
            if not future.set_running_or_notify_cancel():  # whoever sent it is gone
                continue
            if worker is not None and worker.process.poll() is not None:  # ended by somebody else while idle
                self._dismiss(worker)
                worker = None
            worker = worker or self._hire()
            try:
                if worker is None:
                    raise Refusal(503, "no image can be decoded at the moment", "look at the server's memory")
                future.set_result(self._work(worker, data))
            except Refusal as refusal:
                future.set_exception(refusal)
                if worker is not None and worker.process.poll() is not None:
                    self._dismiss(worker)
                    worker = self._hire()
            except Exception as error:
                future.set_exception(error)
                if worker is not None:  # nobody knows what it would answer next
                    self._dismiss(worker)
                    worker = None
            del job, data, future  # not to be kept while waiting for the next
        if worker is not None:
            self._dismiss(worker)

    def _hire(self) -> Worker | None:
        if self._ended.is_set():
            return None
        try:
            worker = Worker(self._setup, self._environment, subprocess.DEVNULL)
        except OSError:  # no memory, no process left
            return None
        with self._lock:
            self._workers[worker] = False
            if self._ended.is_set():
                worker.process.kill()
        ready = worker.receive()
        if ready is None or ready.failed:
            self._dismiss(worker)
            return None
        worker.start_clock(float("inf"))
        with self._lock:
            self._workers[worker] = True
        return worker

    def _dismiss(self, worker: Worker) -> None:
        with self._lock:
            del self._workers[worker]
        worker.end()

    def _work(self, worker: Worker, data: bytes) -> Floats:
        worker.start_clock(self.timeout)
        with contextlib.suppress(OSError):  # it died; the missing reply tells
            send(worker.requests, [data])
        reply = worker.receive()
        late = worker.expired == worker.clock[0]
        worker.start_clock(float("inf"))
        if reply is None:
            worker.process.wait()
            reason = f"took longer than {self.timeout:g} s to decode" if late else "made the decoder crash"
            raise Refusal(422, f"the image {reason}", OTHER_IMAGE)
        if not reply.failed:
            pixels: Floats = reply.value
            return pixels
        if reply.kind in (UnreadableImage.__name__, MemoryError.__name__):
            raise Refusal(422, f"no image can be made of this: {reply.text}", OTHER_IMAGE)
        raise RuntimeError(reply.error)
