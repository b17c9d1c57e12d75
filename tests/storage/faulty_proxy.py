"""An HTTP proxy in front of a server on this computer: counts the requests, fails some, stalls, cuts answers short.

`python tests/storage/faulty_proxy.py PORT UPSTREAM_PORT [--fail-every N] [--stall-after N] [--cut-every N]` says how
many there were when it is asked for `/__counts__`.
"""

import argparse
import http.client
import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


class Proxy(ThreadingHTTPServer):
    """Settings may be changed while it runs; `counts` are requests by kind (GET, LIST, HEAD, ...)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, upstream: int, port: int = 0, *, fail_every: int = 0, stall_after: int = -1, cut_every: int = 0,
        delay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream, self.fail_every, self.stall_after, self.cut_every = upstream, fail_every, stall_after, cut_every
        self.delay = delay
        self.refused: set[str] = set()  # methods that nobody may use
        self.status = 503  # of an answer that fails
        self.counts: Counter[str] = Counter()
        self.most_at_once = self.at_once = 0
        self.lock = threading.Lock()
        self.over = threading.Event()  # lets stalled answers end

    def behave(self) -> None:
        """Fail no more, and count anew."""
        self.fail_every = self.cut_every = 0
        self.stall_after, self.status = -1, 503
        self.refused = set()
        self.counts.clear()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away between two requests: what stderr says is tested."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        server = self.server
        if self.path == "/__counts__":
            self._answer(200, {}, json.dumps({**server.counts, "at once": server.most_at_once}).encode())
            return
        listing = self.command == "GET" and ("list-type=2" in self.path or self.path.strip("/").count("/") == 0)
        with server.lock:
            server.counts["LIST" if listing else self.command] += 1
            server.counts["all"] += 1
            server.counts["from the start"] += self.headers.get("Range", "").startswith("bytes=0-")
            number = server.counts["all"]
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            self._forward(number)
        except ConnectionError:  # the client has lost its patience
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    def _forward(self, number: int) -> None:
        server = self.server
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        if server.delay:
            server.over.wait(server.delay)
        if 0 <= server.stall_after < number:
            server.over.wait(300)
            self.close_connection = True
            return
        if self.command in server.refused:
            self._answer(403, {}, b"")
            return
        if server.fail_every and number % server.fail_every == 0:
            with server.lock:
                server.counts["failed"] += 1
            if server.fail_every == 1 or number % (2 * server.fail_every):
                self._answer(server.status, {}, b"")
            else:  # the connection breaks
                self.close_connection = True
            return
        upstream = http.client.HTTPConnection("127.0.0.1", server.upstream, timeout=60)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in HOP}
        size = int(answer.getheader("Content-Length") or len(content)) if self.command == "HEAD" else len(content)
        if server.cut_every and number % server.cut_every == 0 and self.command == "GET":
            self._answer(answer.status, headers, content[: len(content) // 2], size)
            self.close_connection = True
            return
        self._answer(answer.status, headers, content, size)

    def _answer(self, status: int, headers: dict[str, str], content: bytes, size: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("upstream", type=int)
    for option, default in (("--fail-every", 0), ("--stall-after", -1), ("--cut-every", 0)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    Proxy(given.upstream, given.port, fail_every=given.fail_every, stall_after=given.stall_after,
          cut_every=given.cut_every, delay=given.delay).serve_forever()  # fmt: skip
