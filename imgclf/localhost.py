"""Servers for this computer only: whom they answer, and how their page is opened. May import errors only.

A page in any browser on this computer can ask any address of this computer. So these servers listen on 127.0.0.1 and
answer only to that name and to "localhost": a foreign name could be made to point here (DNS rebinding).
"""

import os
import sys
import threading
import webbrowser
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from imgclf.errors import InputError

ADDRESS = "127.0.0.1"
SECONDS_IDLE = 60  # before a kept connection is closed
SECONDS_TO_OPEN = 20
FRESH = "no-store"


class LocalServer(ThreadingHTTPServer):
    """Listens once it is made; `serve_forever` answers.

    Args:
        handler: of its requests.
        port: 0 for any that is free.

    Raises:
        InputError: the port is not free.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # on Windows it would let two servers share a port
    request_queue_size = 64

    def __init__(self, handler: type["LocalHandler"], port: int = 0) -> None:
        try:
            super().__init__((ADDRESS, port), handler)
        except (OSError, OverflowError) as error:
            what = f"port {port} cannot be used ({getattr(error, 'strerror', None) or error})"
            raise InputError(what, "choose another --port, or leave it out") from None

    @property
    def address(self) -> str:
        """Its address, without a path."""
        return f"http://{ADDRESS}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class LocalHandler(BaseHTTPRequestHandler):
    """One connection.

    Attributes:
        headers_always: what every answer has, errors included.
    """

    server: LocalServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "imgclf", ""
    timeout = SECONDS_IDLE
    error_content_type, error_message_format = "text/plain; charset=utf-8", "%(message)s\n"
    headers_always: Mapping[str, str] = {}

    def is_for_us(self) -> bool:
        """Whether the browser knows whom it is talking to; an error is sent where not."""
        hosts = [f"{name}:{self.server.server_port}" for name in (ADDRESS, "localhost")]
        if self.headers.get_all("Host", []) in ([host] for host in hosts):
            return True
        self.send_error(403, f"only for {hosts[0]} and {hosts[1]}")
        return False

    def send_body(self, status: int, body: bytes, kind: str, keep: str = FRESH) -> None:
        """Send a whole answer; `kind` is its content type, text is UTF-8."""
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", keep)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def end_headers(self) -> None:
        """Add what every answer has."""
        for name, value in self.headers_always.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is the user's."""


def open_in_browser(url: str, wait: bool = False) -> None:
    """Open an address in the browser, where there is a desktop; one within the terminal would be in the way.

    Args:
        url: the address.
        wait: until the browser has been asked, for a program that ends then.
    """
    names = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in names):
        asking = threading.Thread(target=webbrowser.open, args=[url], daemon=True)  # may take seconds
        asking.start()
        if wait:
            asking.join(SECONDS_TO_OPEN)
