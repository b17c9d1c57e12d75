import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from imgclf.serving.batching import Batcher, Floats

FOREVER = 3600.0


def image(value: float) -> Floats:
    return np.full((2, 2, 3), value, np.float32)


def means(images: Floats) -> Floats:
    """A model that gives the mean and one less."""
    found = images.mean(axis=(1, 2, 3))
    return np.stack([found, found - 1], axis=1)


def running(batcher: Batcher, use: Callable[[], Awaitable[None]]) -> None:
    async def life() -> None:
        task = asyncio.create_task(batcher.run())
        try:
            await asyncio.wait_for(use(), 30)
        finally:
            task.cancel()

    asyncio.run(life())


def test_what_comes_together_is_computed_together_and_everybody_gets_their_own() -> None:
    sizes: list[int] = []
    batcher = Batcher(means, 4, FOREVER, lambda: 0, sizes.append)

    async def use() -> None:
        rows = await asyncio.gather(*(batcher.compute(image(value)) for value in range(10)))
        assert [tuple(row) for row in rows] == [(value, value - 1) for value in range(10)]

    running(batcher, use)
    assert sizes == [4, 4, 2]


def test_an_image_alone_does_not_wait() -> None:
    batcher = Batcher(means, 4, FOREVER, lambda: 0, lambda size: None)

    async def use() -> None:
        assert (await batcher.compute(image(5)))[0] == 5

    running(batcher, use)  # or it would take an hour


def test_others_that_are_coming_are_waited_for_but_not_long() -> None:
    sizes: list[int] = []
    coming = [1]
    patient = Batcher(means, 4, FOREVER, lambda: coming[0], sizes.append)

    async def two() -> None:
        first = asyncio.create_task(patient.compute(image(1)))
        for _ in range(10):  # it is there, and the other is not yet
            await asyncio.sleep(0)
        assert sizes == []
        coming[0] = 0
        await asyncio.gather(first, patient.compute(image(2)))

    running(patient, two)
    assert sizes == [2]

    hasty = Batcher(means, 4, 0.001, lambda: 1, sizes.append)

    async def one() -> None:
        await hasty.compute(image(1))  # whoever is coming never comes

    running(hasty, one)
    assert sizes == [2, 1]


def test_a_failure_is_told_and_the_next_batch_is_computed() -> None:
    def choosy(images: Floats) -> Floats:
        if images.max() > 100:
            raise ValueError("too bright")
        return means(images)

    batcher = Batcher(choosy, 4, FOREVER, lambda: 0, lambda size: None)

    async def use() -> None:
        with pytest.raises(ValueError, match="too bright"):
            await batcher.compute(image(200))
        assert (await batcher.compute(image(5)))[0] == 5

    running(batcher, use)
