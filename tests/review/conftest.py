"""A table of suspects over small pictures, and its server."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgclf.data.suspects import Suspect, write_suspects
from imgclf.review.server import ReviewServer
from tests.conftest import draw


@pytest.fixture
def suspects(tmp_path: Path) -> Path:
    """Five rows over three classes; the second picture is broken, the last is decided already."""
    rows = []
    for number, (label, suggested) in enumerate(
        [("disc", "frame"), ("bar", "disc"), ("frame", "bar"), ("disc", "bar"), ("frame", "disc")]
    ):
        path = tmp_path / "photos" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(("bar", "disc", "frame").index(label), number).save(path)
        rows.append(
            Suspect(path, label, suggested, 0.99 - number / 10, "keep" if number == 4 else "", key=f"{number:032x}")
        )
    rows[1].path.write_bytes(b"\x89PNG broken")
    write_suspects(tmp_path / "suspects.csv", rows)
    return tmp_path / "suspects.csv"


@pytest.fixture
def serve() -> Iterator[Callable[[Path], ReviewServer]]:
    """Start the server of a table in a thread; it ends with the test."""
    running: list[tuple[ReviewServer, threading.Thread]] = []

    def start(path: Path) -> ReviewServer:
        server = ReviewServer(path)
        thread = threading.Thread(target=server.serve_forever, args=[0.005])
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join(10)
        server.server_close()
        assert not thread.is_alive()
