"""The application without a network: what a real server cannot easily be brought to."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgclf.predict import Predictor
from imgclf.serving import limits, service
from imgclf.serving.app import make_app
from imgclf.serving.limits import Limits
from imgclf.serving.service import Service
from imgclf.serving.settings import Settings
from tests.conftest import draw


def png(seed: int) -> bytes:
    file = io.BytesIO()
    draw(0, seed).save(file, "PNG")
    return file.getvalue()


def broken(images: np.ndarray) -> np.ndarray:
    raise ValueError("secret of the model")


def fine(images: np.ndarray) -> np.ndarray:
    return np.tile(np.array([0.25, 0.75], np.float32), (len(images), 1))


def predictor(scores: Any = fine) -> Predictor:
    return Predictor(Path("model.tflite"), ("cat", 'dog "<b>'), (16, 16, 3), scores)


def post(app: Limits, *pieces: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    """One POST to /predict, chunked."""
    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"content-type": "image/png", "transfer-encoding": "chunked"}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
             "headers": raw, "client": ("127.0.0.1", 1), "http_version": "1.1", "scheme": "http"}  # fmt: skip
    asyncio.run(_live(app, scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, json.loads(b"".join(message["body"] for message in sent[1:]))


async def _live(app: Limits, *arguments: Any) -> None:
    async with app.service.running():
        await app(*arguments)


def served(scores: Any = fine, **settings: Any) -> Limits:
    model = Service(predictor(scores), Settings(**settings))
    return Limits(make_app(model), model, None)


def test_an_image_is_answered() -> None:
    status, headers, answer = post(served(), png(1))
    assert status == 200
    assert answer["images"][0]["classes"] == [{"label": 'dog "<b>', "probability": 0.75}]
    assert headers["content-type"] == "application/json"


def test_who_comes_when_too_many_wait_is_asked_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "IMAGES_WAITING", 0)
    status, headers, answer = post(served(), png(1))
    assert (status, headers["retry-after"]) == (503, "1")
    assert "too many" in answer["error"]


def test_bodies_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    app = served(max_upload=1000)
    app.service.hold(app.service.settings.held_bytes)  # others are being sent
    status, _, answer = post(app, png(1)[:500])
    assert (status, set(answer)) == (503, {"error", "fix"})
    assert app.service.hold(0) == app.service.settings.held_bytes  # its own are released


def test_a_bug_is_one_line_here_and_tells_nothing_there(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, answer = post(served(broken), png(1))
    assert (status, set(answer)) == (500, {"error", "fix"})
    assert "secret" not in json.dumps(answer)
    said = capsys.readouterr().err
    assert "ValueError: secret of the model" in said
    assert "Traceback" not in said


def test_a_body_is_cut_off_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER", 1.0)
    status, headers, answer = post(served(max_upload=1000), b"x" * 600, b"x" * 600, b"x" * 600)
    assert (status, headers["connection"]) == (413, "close")
    assert answer["error"] == "the request is larger than 1,000 bytes"
