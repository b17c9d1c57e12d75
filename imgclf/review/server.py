"""The server of the review page: this computer only, one file of suspects. May import review, data.suspects and ground.

Whatever else runs on this computer or in this browser must not see the images or change the file:

- it listens on 127.0.0.1 and answers only to that name and "localhost" (localhost.py);
- every address begins with a secret, so that other users of the computer and other pages cannot guess one;
- changes need a second secret, which only the page has, and a content type that no form of another page can send;
- images are named by their number in the list, and what is sent are pixels that were encoded here;
- the page may load nothing from elsewhere, and names reach it as data, never as HTML.
"""

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from imgclf.data.suspects import read_suspects, write_suspects
from imgclf.errors import ImgclfError
from imgclf.localhost import LocalHandler, LocalServer, open_in_browser
from imgclf.pixels import UnreadableImage
from imgclf.review.decisions import classes_of, decide, rows_of, summary
from imgclf.review.pictures import as_jpeg

SIDES = {"image": 1600, "thumbnail": 192}  # pixels; what is asked for -> longer side
SCRIPTS = ("page.js", "dom.js", "picker.js", "server.js", "strip.js")
ASSETS = {"page.css": "text/css", "icon.svg": "image/svg+xml", **dict.fromkeys(SCRIPTS, "text/javascript")}
BODY_START, BODY_PER_ROW = 1 << 16, 1 << 11  # bytes; a name has at most 255 characters, at 6 bytes each when escaped

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
KEPT = "private, max-age=86400, immutable"  # an address holds for one run of the server, so its image never changes


class ReviewServer(LocalServer):
    """Serves the page for one file until it is told to stop. Listens once it is made; `serve_forever` answers.

    Args:
        path: a suspects.csv.
        port: 0 for any that is free.

    Attributes:
        url: the address of the page; who knows it may see the images and change the file.
        suspects: what the file holds, as far as it was read and written here.

    Raises:
        InputError: the file cannot be read or the port is not free.
    """

    def __init__(self, path: Path, port: int = 0) -> None:
        self.path = path
        self.revision = _revision(path)
        self.suspects = read_suspects(path)
        self.changing = threading.Lock()
        self.token = secrets.token_urlsafe(24)
        self.base = f"/{secrets.token_urlsafe(16)}/"
        super().__init__(_Handler, port)
        self.url = f"{self.address}{self.base}"

    @property
    def data(self) -> dict[str, Any]:
        """What the page is given."""
        with self.changing:
            return {
                "file": self.path.name,
                "token": self.token,
                "revision": self.revision,
                "classes": classes_of(self.suspects),
                "rows": rows_of(self.suspects, self.path.absolute().parent),
            }

    def save(self, decisions: Any, revision: Any, overwrite: bool) -> None:
        """Write decisions into the file.

        Args:
            decisions: as the page sends them, see `decide`.
            revision: what they are based on.
            overwrite: write them also where the file has changed since.

        Raises:
            ValueError: they are no decisions.
            _Changed: the file is not the one that they are based on.
            SetupError: it cannot be written.
        """
        with self.changing:
            suspects = decide(self.suspects, decisions)
            if not overwrite and not revision == self.revision == _revision(self.path):
                raise _Changed
            write_suspects(self.path, suspects)
            self.suspects, self.revision = suspects, _revision(self.path)


class _Changed(Exception):
    """The file was changed by another program or another tab of the browser."""


class _Handler(LocalHandler):
    server: ReviewServer
    headers_always = HEADERS

    def do_GET(self) -> None:
        if not self._allowed():
            return
        name = self.path.removeprefix(self.server.base)
        if name == "":
            self.send_body(200, _page(self.server.data), "text/html")
        elif name in ASSETS:
            self.send_body(200, _asset(name), ASSETS[name])
        elif found := re.fullmatch("(image|thumbnail)/([0-9]{1,9})", name):
            self._send_image(found[1], int(found[2]))
        else:
            self.send_error(404, "not here")

    def do_POST(self) -> None:
        if not self._allowed():
            return
        token = self.headers.get("X-Review-Token", "").encode("utf-8", "replace")
        length = self.headers.get("Content-Length", "")
        name = self.path.removeprefix(self.server.base)
        if not secrets.compare_digest(token, self.server.token.encode()):
            self.send_error(403, "the page's own token is missing")
        elif self.headers.get_content_type() != "application/json":
            self.send_error(415, "expected application/json")
        elif not re.fullmatch("[0-9]{1,12}", length):
            self.send_error(411, "expected a Content-Length")
        elif int(length) > BODY_START + BODY_PER_ROW * len(self.server.suspects):
            self.send_error(413, "larger than any list of decisions")
        elif name not in ("save", "stop"):
            self.send_error(404, "not here")
        else:  # an error closes the connection, so that what was refused is not read as the next request
            body = self.rfile.read(int(length))
            self._save(body) if name == "save" else self._stop()

    def _allowed(self) -> bool:
        """Check whom the browser thinks it is talking to, and the secret of the address; say so if it is wrong."""
        if not self.is_for_us():
            return False
        if not self.path.startswith(self.server.base):
            self.send_error(404, "open the address that imgclf review has printed")
            return False
        return True

    def _save(self, body: bytes) -> None:
        try:
            request = json.loads(body)
            self.server.save(request["decisions"], request["revision"], request.get("overwrite") is True)
        except _Changed:
            self._send_json(409, {"error": f"{self.server.path.name} has been changed by another program or tab."})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._send_json(400, {"error": f"The server did not understand the page ({error})."})
        except ImgclfError as error:
            self._send_json(500, {"error": f"Not saved: {error}."})
        else:
            self._send_json(200, {"revision": self.server.revision})

    def _stop(self) -> None:
        self._send_json(200, {})
        self.server.shutdown()

    def _send_image(self, kind: str, index: int) -> None:
        try:
            self.send_body(200, as_jpeg(self.server.suspects[index].path, SIDES[kind]), "image/jpeg", KEPT)
        except IndexError:
            self.send_error(404, "no image has this number")
        except UnreadableImage:
            self.send_error(404, "the image cannot be read")

    def _send_json(self, status: int, value: Any) -> None:
        self.send_body(status, json.dumps(value).encode(), "application/json")


def review(
    path: Path,
    port: int = 0,
    open_browser: bool = True,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve the review page of a suspects.csv until its button Done or Ctrl-C.

    Args:
        path: the file; decisions are written into it when the page saves.
        port: 0 for any that is free.
        open_browser: open the page in the browser, where there is a desktop.
        tell: takes the lines for the user: first the address alone, last what the file holds.

    Raises:
        InputError: the file cannot be read or the port is not free.
    """
    with ReviewServer(path, port) as server:
        if not server.suspects:
            tell(f"{path} holds no images: nothing to review")
            return
        tell(server.url)
        if open_browser:
            open_in_browser(server.url)
        lost = ""
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # one of the two ordinary ways to end
            lost = "; what the page has not saved is lost"
        with server.changing:  # a save that has begun is brought to its end
            tell(f"{path}: {summary(server.suspects)}{lost}")


def _page(data: dict[str, Any]) -> bytes:
    """The HTML with the data in it, in which nothing can end the script element that holds it."""
    text = json.dumps(data).replace("<", "\\u003c")
    return _asset("page.html").replace(b"{{ data }}", text.encode("ascii"), 1)


def _asset(name: str) -> bytes:
    return files("imgclf.review").joinpath("page").joinpath(name).read_bytes()


def _revision(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""
