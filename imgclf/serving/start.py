"""Starts a server: its extra, its port, its model, until it is told to end. May import serving's parts in functions.

The libraries of the extra `serve` are imported only once it is known that they are there.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from imgclf.errors import SetupError
from imgclf.progress import say, warn
from imgclf.serving.settings import Settings, is_loopback, own_names

LIBRARIES = {
    "fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}  # fmt: skip
EXIT_CODES = {signal.SIGINT: 130}


def require_libraries() -> None:
    """Check that the extra is installed.

    Raises:
        SetupError: it is not.
    """
    missing = [name for module, name in LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise SetupError(f"imgclf serve needs {', '.join(missing)}", "pip install 'imgclf[serve]'")


def serve(path: Path, settings: Settings, tell: Callable[[str], None]) -> int:
    """Serve a model until Ctrl-C or SIGTERM.

    Args:
        path: a run folder, a .keras file or a .tflite file.
        settings: how.
        tell: takes the address, once requests are answered.

    Returns:
        The exit code: 130 after Ctrl-C, else 0.

    Raises:
        InputError: no such model.
        SetupError: the extra is missing, the address is not free, or no process can be started.
    """
    require_libraries()
    with listen(settings.host, settings.port) as listener:
        from imgclf.serving.model import open_model

        predictor = open_model(path)
        from imgclf.serving.app import make_app
        from imgclf.serving.connections import Server, configure
        from imgclf.serving.limits import Limits
        from imgclf.serving.service import Service

        port = listener.getsockname()[1]
        local = is_loopback(settings.host)
        service = Service(predictor, settings)
        app = Limits(make_app(service), service, own_names(settings.host, port) if local else None)

        def started() -> None:
            say(f"serving {predictor}")
            if not local:
                warn(f"anyone who can reach {settings.host}:{port} can use this server: it asks for no password; "
                     "put it behind a proxy that does, or leave out --host")  # fmt: skip
            tell(f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{port}/")

        def stopping() -> None:
            service.stopping = True
            say("stopping: requests in flight are answered")

        server = Server(configure(app, settings.timeout), started, stopping)

        async def live() -> None:
            async with service.running():
                await server.serve(sockets=[listener])

        asyncio.run(live())
    return EXIT_CODES.get(signal.Signals(server.stopped_by), 0) if server.stopped_by is not None else 0


def listen(host: str, port: int) -> socket.socket:
    """Take an address, before anything slow is done.

    Raises:
        SetupError: it is not free, or not of this computer.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # with its protocol: without, asyncio leaves TCP_NODELAY off, and every answer is 40 ms late
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # on Windows it would let two servers share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        what = f"{host} port {port} cannot be used ({getattr(error, 'strerror', None) or error})"
        raise SetupError(what, "choose another --port or --host") from None
    return listener
