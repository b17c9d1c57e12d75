"""Around every request: who is answered, how much and how long is read, what is counted. May import serving's parts.

An ASGI middleware outside of the framework, so that nothing is read or decoded before it has looked, and whatever goes
wrong within becomes one line of JSON.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect

from imgclf.progress import say, warn
from imgclf.serving.answers import BUG, Refusal
from imgclf.serving.service import Service, busy
from imgclf.serving.settings import LINGER, size_text

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

CLIENT_GONE = 499  # as nginx counts it; nobody is there to read an answer
HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"), (b"server", b"imgclf"))


class Limits:
    """The server's application, within its limits.

    Args:
        app: the application.
        service: what it serves.
        names: the Host headers that are answered; None answers to any name.
    """

    def __init__(self, app: App, service: Service, names: frozenset[str] | None) -> None:
        self.app, self.service, self.names = app, service, names

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        body = _Body(receive, headers, self.service)
        answer = _Answer(send, body)
        try:
            self._check(scope, headers)
            body.check()
            await self.app(scope, body.receive, answer.send)
        except Refusal as refusal:
            await answer.refuse(refusal)
        except ClientDisconnect:
            answer.status = CLIENT_GONE
        except Exception as error:
            warn(f"{scope['method']} {scope['path']}: {_where(error)}")
            await answer.refuse(BUG)
        finally:
            body.release()
            seconds = time.perf_counter() - begun
            status = CLIENT_GONE if body.gone else answer.status
            self.service.metrics.answered(scope["path"], status, seconds)
            if self.service.settings.verbose:
                client = (scope.get("client") or ("",))[0]
                say(f"{client} {scope['method']} {scope['path']} {status} {1000 * seconds:.0f} ms")

    def _check(self, scope: Message, headers: list[tuple[str, str]]) -> None:
        if self.names is not None:
            hosts = [value.lower() for name, value in headers if name == "host"]
            origins = [urlsplit(value).netloc.lower() for name, value in headers if name == "origin"]
            if len(hosts) != 1 or not {*hosts, *origins} <= self.names:
                raise Refusal(403, "this server is for this computer only", f"ask {min(self.names)}")
        if scope["path"] == "/predict" and scope["method"] == "POST" and self.service.full:
            raise busy()


class _Body:
    """The body of a request, as far as it may go."""

    def __init__(self, receive: Receive, headers: list[tuple[str, str]], service: Service) -> None:
        self._receive, self._service, self._settings = receive, service, service.settings
        lengths = [value for name, value in headers if name == "content-length"]
        chunked = any(name == "transfer-encoding" for name, _ in headers)
        self.declared = int(lengths[0]) if lengths and not chunked else 0
        self.ended = not chunked and not self.declared
        self.gone = False  # whether the client went away before it was answered
        self.size = 0
        self._until = asyncio.get_running_loop().time() + self._settings.timeout

    def check(self) -> None:
        """Refuse at once what says itself that it is too large."""
        if self.declared > self._settings.max_upload:
            raise self._too_large()

    async def receive(self) -> Message:
        """One piece of it.

        Raises:
            Refusal: it is too large, or too slow, or there is no room for it.
        """
        if self.ended:
            return await self._receive()
        left = self._until - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0))
        except asyncio.TimeoutError:
            what = f"the request took longer than {self._settings.timeout:g} s to arrive"
            raise Refusal(408, what, "send it again over a faster line, or a smaller image") from None
        if message["type"] != "http.request":
            self.ended = self.gone = True
            return message
        size = len(message.get("body", b""))
        self.size += size
        held = self._service.hold(size)
        self.ended = not message.get("more_body", False)
        if self.size > self._settings.max_upload:
            raise self._too_large()
        if held > self._settings.held_bytes:
            raise busy()
        return message

    async def drain(self) -> None:
        """Throw away what still comes, for a while.

        A connection that is closed on arriving bytes is reset, and the answer in it is lost to its sender.
        """

        async def discard() -> None:
            while not self.ended:
                message = await self._receive()
                self.ended = message["type"] != "http.request" or not message.get("more_body", False)

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(discard(), LINGER)

    def release(self) -> None:
        """Its bytes are no longer in memory."""
        self._service.hold(-self.size)

    def _too_large(self) -> Refusal:
        most = size_text(self._settings.max_upload)
        return Refusal(413, f"the request is larger than {most}", f"send at most {most} at once (--max-upload)")


class _Answer:
    """The answer to a request; where the request was not read to its end, the connection is closed after it."""

    def __init__(self, send: Send, body: _Body) -> None:
        self._send, self._body = send, body
        self.status = 0

    async def send(self, message: Message) -> None:
        """Pass on a message of the application."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *HEADERS]
            if not self._body.ended:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif not message.get("more_body", False) and not self._body.ended:
            await self._send({**message, "more_body": True})
            await self._body.drain()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error, where nothing was answered yet."""
        if self.status:
            return
        content = refusal.body
        extra = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode()), *extra]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": content, "more_body": False})


def _where(error: Exception) -> str:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = f" ({last.tb_frame.f_code.co_filename}:{last.tb_lineno})" if last is not None else ""
    return f"{type(error).__name__}: {error}{place}; this is a bug in imgclf: please report it"
