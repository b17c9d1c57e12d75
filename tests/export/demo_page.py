"""The web page of a run, served and asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgclf.export.demo import DemoServer
from tests.browser import Page


@contextmanager
def serving(folder: Path) -> Iterator[DemoServer]:
    """Serve a folder as `imgclf demo` does."""
    server = DemoServer(folder)
    thread = threading.Thread(target=server.serve_forever, args=[0.005])
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def shown(page: Page) -> dict[str, float]:
    """Classes and percentages as the page shows them, best first."""
    rows = page.value("[...document.querySelectorAll('.row')].map(row => row.querySelector('.name').textContent)")
    bars = page.value("[...document.querySelectorAll('.row i')].map(bar => parseFloat(bar.style.width))")
    return dict(zip(rows, bars, strict=True))


def ask(page: Page, photo: Path) -> dict[str, float]:
    """Give the page a photo and wait for its answer."""
    page.value("document.querySelector('#result').replaceChildren()")
    page.choose_file("#file", photo)
    page.wait("document.querySelector('.row')")
    return shown(page)
