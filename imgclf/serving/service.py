"""From the bytes of images to their classes, for all requests at once. May import predict and serving's parts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.predict import Prediction, Predictor
from imgclf.progress import plural
from imgclf.serving.answers import Refusal
from imgclf.serving.batching import Batcher
from imgclf.serving.decoding import Decoders
from imgclf.serving.metrics import Metrics
from imgclf.serving.settings import IMAGES_WAITING, RETRY_AFTER, Settings

Floats = NDArray[np.float32]

ROUND = 6  # decimals, as `imgclf predict --format json`


@dataclass(frozen=True)
class Upload:
    """One image of a request: what its sender calls it, if anything, and its bytes."""

    name: str | None
    data: bytes


def busy() -> Refusal:
    """The answer to who comes when too much is waiting."""
    return Refusal(
        503, "too many requests are waiting", "send it again in a moment, or start more servers",
        {"Retry-After": str(RETRY_AFTER)},
    )  # fmt: skip


class Service:
    """One model, the processes that decode for it and the batches it computes; `running` is its life."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self.predictor, self.settings = predictor, settings
        self.metrics = Metrics()
        self.stopping = False
        self._waiting = self._decoding = self._held = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Decode and compute within the block, which begins when images can be decoded.

        Raises:
            SetupError: no process that decodes could be started.
        """
        self.batcher = Batcher(
            self.predictor.scores, self.settings.batch, self.settings.batch_wait, lambda: self._decoding,
            self.metrics.computed,
        )  # fmt: skip
        with Decoders(self.predictor.input_shape, self.settings.workers, self.settings.timeout) as self.decoders:
            await asyncio.to_thread(self.decoders.require)
            computing = asyncio.create_task(self.batcher.run())
            try:
                yield
            finally:
                computing.cancel()
                with suppress(asyncio.CancelledError):
                    await computing

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.decoders.ready and not self.stopping

    @property
    def full(self) -> bool:
        """Whether so many images are waiting that no further one is taken."""
        return self._waiting >= IMAGES_WAITING

    def hold(self, size: int) -> int:
        """Count bytes of bodies in memory, or less of them; returns how many there are."""
        self._held += size
        self.metrics.held.set(self._held)
        return self._held

    async def classify(self, uploads: Sequence[Upload], top: int) -> list[dict[str, Any]]:
        """Classify the images of one request.

        Args:
            uploads: one or several.
            top: classes for each.

        Returns:
            For each image, in their order, its name and its classes; where it is one of several and cannot be read,
            why not.

        Raises:
            Refusal: none of them can be read, or too many are waiting.
        """
        if self.full or (self._waiting and self._waiting + len(uploads) > IMAGES_WAITING):
            raise busy()
        self._wait(len(uploads))
        try:
            found = await asyncio.gather(*(self._scores(upload.data) for upload in uploads), return_exceptions=True)
        finally:
            self._wait(-len(uploads))
        for result in found:
            if isinstance(result, BaseException) and not (isinstance(result, Refusal) and result.status == 422):
                raise result
        refusals = [result for result in found if isinstance(result, Refusal)]
        if len(refusals) == len(uploads):
            first = refusals[0]
            what = f" (the first of {plural(len(uploads), 'image')})" if len(uploads) > 1 else ""
            raise Refusal(first.status, f"{first.error}{what}", first.fix)
        return [self._row(upload, result, top) for upload, result in zip(uploads, found, strict=True)]

    def _row(self, upload: Upload, result: Any, top: int) -> dict[str, Any]:
        if isinstance(result, Refusal):
            return {"name": upload.name, "error": result.error, "fix": result.fix}
        scores, best = tuple(float(score) for score in result), int(result.argmax())
        classes = self.predictor.classes
        prediction = Prediction(Path(), classes[best], scores[best], scores)
        rows = [{"label": label, "probability": round(p, ROUND)} for label, p in prediction.top(top, classes)]
        return {"name": upload.name, "classes": rows}

    async def _scores(self, data: bytes) -> Floats:
        self._decoding += 1
        try:
            pixels = await self.decoders.read(data)
        except Refusal as refusal:
            if refusal.status == 422:
                self.metrics.image("unreadable")
            raise
        finally:
            self._decoding -= 1
        row = await self.batcher.compute(pixels)
        self.metrics.image("classified")
        return row

    def _wait(self, count: int) -> None:
        self._waiting += count
        self.metrics.waiting.set(self._waiting)
