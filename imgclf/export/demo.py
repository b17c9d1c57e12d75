"""`imgclf demo`: serves the page of a run to this computer. May import export/web and ground modules.

Only the files of the page are served, by name: what is asked for is looked up in a table, never joined to a path.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from imgclf import runs
from imgclf.export.web import INDEX_PAGE, WEB, write_web
from imgclf.localhost import LocalHandler, LocalServer, open_in_browser

# Browsers stream a .wasm file to their compiler only under its own type.
KINDS = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
    ".json": "application/json", ".png": "image/png", ".svg": "image/svg+xml", ".wasm": "application/wasm",
}  # fmt: skip
OTHER_KIND = "application/octet-stream"


class DemoServer(LocalServer):
    """Serves the files of one folder. Listens once it is made; `serve_forever` answers.

    Args:
        folder: exports/web of a run.
        port: 0 for any that is free.

    Attributes:
        files: what is asked for -> the file.

    Raises:
        InputError: the port is not free.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(_Handler, port)
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        self.files: Mapping[str, Path] = {**found, "": folder / INDEX_PAGE}


class _Handler(LocalHandler):
    server: DemoServer
    headers_always = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

    def do_GET(self) -> None:
        if not self.is_for_us():
            return
        path = self.server.files.get(unquote(urlsplit(self.path).path).removeprefix("/"))
        try:
            body = path.read_bytes() if path is not None else None
        except OSError:  # taken away since
            body = None
        if path is None or body is None:
            self.send_error(404, "not here")
        else:
            self.send_body(200, body, KINDS.get(path.suffix, OTHER_KIND))

    do_HEAD = do_GET


def demo(root: Path, port: int = 0, open_browser: bool = True, tell: Callable[[str], None] = print) -> None:
    """Serve the page of a run until Ctrl-C; written first where there is none.

    Args:
        root: a run folder that was exported.
        port: 0 for any that is free.
        open_browser: open the page in the browser, where there is a desktop.
        tell: takes the address.

    Raises:
        InputError: no such run, nothing in it that may be shipped, or the port is not free.
    """
    run = runs.Run.open(root)
    folder = run / runs.EXPORTS / WEB
    if not (folder / INDEX_PAGE).is_file():
        write_web(run)
    with DemoServer(folder, port) as server:
        tell(f"{server.address}/")
        if open_browser:
            open_in_browser(f"{server.address}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # the ordinary way to end
            return
