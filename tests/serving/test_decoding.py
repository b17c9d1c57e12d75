import asyncio
import io

import numpy as np
import psutil
import pytest
from PIL import Image

from imgclf.errors import SetupError
from imgclf.pixels import load_for_model
from imgclf.serving import decoding
from imgclf.serving.answers import Refusal
from imgclf.serving.decoding import Decoders
from tests.conftest import draw

SHAPE = (32, 32, 3)


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


@pytest.fixture(scope="module")
def huge() -> bytes:
    """An honest picture of 144 million pixels, which takes a second."""
    return png(Image.new("L", (12_000, 12_000)))


def decode(decoders: Decoders, data: bytes) -> np.ndarray:
    return asyncio.run(decoders.read(data))


def test_pixels_are_those_of_predict_and_what_is_no_image_is_refused_with_the_reason() -> None:
    photo = png(draw(0, 1))
    with Decoders(SHAPE, 1, 30.0) as decoders:
        decoders.require()
        assert decoders.ready
        assert np.array_equal(decode(decoders, photo), load_for_model(photo, *SHAPE))
        for data, reason in ((b"hello", "not an image in a known format"), (photo[:99], "truncated")):
            with pytest.raises(Refusal, match=reason) as refusal:
                decode(decoders, data)
            assert refusal.value.status == 422
        assert decode(decoders, photo).shape == SHAPE
    assert not decoders.ready


def test_an_image_that_takes_too_long_costs_itself_only(huge: bytes) -> None:
    photo = png(draw(0, 1))
    with Decoders(SHAPE, 1, 0.3) as decoders:
        with pytest.raises(Refusal, match=r"longer than 0\.3 s") as refusal:
            decode(decoders, huge)
        assert refusal.value.status == 422
        assert decode(decoders, photo).shape == SHAPE


def test_an_image_that_kills_its_process_costs_itself_only(huge: bytes) -> None:
    photo = png(draw(0, 1))

    async def killed(decoders: Decoders) -> None:
        await decoders.read(photo)  # its process is there
        reading = asyncio.create_task(decoders.read(huge))
        await asyncio.sleep(0)
        for child in psutil.Process().children():
            child.kill()
        await reading

    with Decoders(SHAPE, 1, 30.0) as decoders:
        with pytest.raises(Refusal, match="crash") as refusal:
            asyncio.run(killed(decoders))
        assert refusal.value.status == 422
        assert decode(decoders, photo).shape == SHAPE


def test_a_computer_that_starts_no_process_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(decoding, "Worker", full)
    with Decoders(SHAPE, 2, 30.0) as decoders, pytest.raises(SetupError, match="could start"):
        decoders.require()


def test_nothing_is_left() -> None:
    before = set(psutil.Process().children())
    with Decoders(SHAPE, 2, 30.0) as decoders:
        decode(decoders, png(draw(0, 1)))
    assert set(psutil.Process().children()) == before
