"""uvicorn's part of a server, within our limits: connections, signals. May import uvicorn and serving's parts."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgclf.serving.answers import Refusal
from imgclf.serving.settings import CONNECTIONS, RETRY_AFTER

PHRASES = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}
BACKLOG = 128


class Connection(H11Protocol):
    """A connection that may not idle while it says what it wants, nor be one of too many."""

    _asking: asyncio.TimerHandle | None = None
    seconds = 30.0  # that a request's head may take

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or turn it away."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self._turn_away(Refusal(503, "too many connections", "come again in a moment",
                                    {"Retry-After": str(RETRY_AFTER)}))  # fmt: skip
        else:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; once a request's head is there, limits.py keeps the time."""
        if self._is_asking():
            self._expect()
        super().data_received(data)
        if not self._is_asking():
            self._stop_expecting()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._turn_away(Refusal(400, "this is not an HTTP request", "ask with http://, see /docs"))

    def _is_asking(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect(self) -> None:
        if self._asking is None:
            self._asking = self.loop.call_later(self.seconds, self._too_slow)

    def _stop_expecting(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _too_slow(self) -> None:
        what = f"the request took longer than {self.seconds:g} s to arrive"
        self._turn_away(Refusal(408, what, "send it faster"))

    def _turn_away(self, refusal: Refusal) -> None:
        """Answer outside of any request, and close."""
        answered = self.cycle is not None and not self.cycle.response_complete and self.cycle.response_started
        if not answered and not self.transport.is_closing():
            body = refusal.body
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close",
                       **refusal.headers}  # fmt: skip
            lines = [f"HTTP/1.1 {refusal.status} {PHRASES[refusal.status]}", *(f"{k}: {v}" for k, v in headers.items())]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.conn.send_failed()
        self.transport.close()

    def shutdown(self) -> None:
        """End it when it has been answered."""
        if self.conn.our_state is h11.ERROR:
            self.transport.close()
        else:
            super().shutdown()


class Server(uvicorn.Server):
    """A server that ends on Ctrl-C or SIGTERM when it has answered whom it listens to.

    Args:
        config: uvicorn's.
        started: called once it answers.
        stopping: called when it is told to end.

    Attributes:
        stopped_by: the signal that ended it.
    """

    stopped_by: int | None = None

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started, self._tell_stopping = started, stopping

    async def startup(self, *args: object, **named: object) -> None:
        """Begin to answer."""
        await super().startup(*args, **named)  # type: ignore[arg-type]
        if self.started:
            self._tell_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals; uvicorn's own method raises them again at the end, which would decide the exit code."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; on a second Ctrl-C at once."""
        if self.stopped_by is None:
            self.stopped_by = sig
            self._tell_stopping()
        super().handle_exit(sig, frame)


def configure(app: Callable[..., object], timeout: float) -> uvicorn.Config:
    """The settings of uvicorn: quiet, HTTP/1.1 only, nothing without an end."""
    timed = type(Connection.__name__, (Connection,), {"seconds": timeout})
    return uvicorn.Config(
        app, http=timed, ws="none", lifespan="off", log_config=None, log_level="critical", access_log=False,
        proxy_headers=False, server_header=False, backlog=BACKLOG, timeout_keep_alive=60,
        timeout_graceful_shutdown=int(2 * timeout) + 5,
    )  # fmt: skip
