"""Images of different requests as one batch of the model. May import NumPy only.

While a batch is computed, the next one gathers by itself. Only when the model is idle is there a choice: an image that
is alone is computed at once; where others are being decoded, it waits for them, a few milliseconds at most.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Batcher:
    """Computes what is put into it; `run` has to be running.

    Args:
        scores: float32 `(n, height, width, channels)` to float32 `(n, C)`; called by one thread only.
        size: images in a batch, at most.
        wait: seconds.
        coming: how many images are being decoded.
        computed: told the size of every batch.
    """

    def __init__(
        self, scores: Callable[[Floats], Floats], size: int, wait: float, coming: Callable[[], int],
        computed: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.scores, self.size, self.wait, self.coming, self.computed = scores, size, wait, coming, computed
        self._waiting: deque[tuple[Floats, asyncio.Future[Floats]]] = deque()
        self._arrived = asyncio.Event()

    async def compute(self, image: Floats) -> Floats:
        """The scores `(C,)` of one image `(height, width, channels)`."""
        future: asyncio.Future[Floats] = asyncio.get_running_loop().create_future()
        self._waiting.append((image, future))
        self._arrived.set()
        return await future

    async def run(self) -> None:
        """Compute batch after batch, until it is cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            while True:
                await self._gather()
                taken = [self._waiting.popleft() for _ in range(min(self.size, len(self._waiting)))]
                batch = [(image, future) for image, future in taken if not future.done()]  # else its sender is gone
                if not batch:
                    continue
                self.computed(len(batch))
                try:
                    rows = await loop.run_in_executor(thread, self._compute, [image for image, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), row in zip(batch, rows, strict=True):
                    if not future.done():
                        future.set_result(row)

    async def _gather(self) -> None:
        """Wait for the first image, then for those that will be there in a moment."""
        loop = asyncio.get_running_loop()
        until = None
        while not self._waiting or (len(self._waiting) < self.size and self.coming()):
            left = None
            if self._waiting:
                until = until or loop.time() + self.wait
                left = until - loop.time()
                if left <= 0:
                    return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except asyncio.TimeoutError:
                return

    def _compute(self, images: list[Floats]) -> Floats:
        return self.scores(np.stack(images))
