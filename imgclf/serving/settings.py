"""What a server is told, once, with its limits. May import errors, parallel and pixels only."""

import ipaddress
import re
from dataclasses import dataclass

from imgclf.errors import InputError
from imgclf.pixels import MAX_BYTES

MB = 1 << 20
UNITS = {"": 1, "KB": 1 << 10, "MB": MB, "GB": 1 << 30}  # as pixels.py counts

# Not options: they are there so that nothing is without a bound, and no honest use comes near them.
IMAGES_IN_REQUEST = 64
IMAGES_WAITING = 128  # 8 batches, about 1.5 s of MobileNetV2 on 2 cores: who comes later does better to come again
CONNECTIONS = 512  # half of the 1,024 files that a process may have open on most systems
HELD_BYTES = 256 * MB  # of all bodies together, or of 4 of the largest
LINGER = 5.0  # seconds in which what is left of a refused body is thrown away, so that its sender reads the answer
RETRY_AFTER = 1  # second


@dataclass(frozen=True)
class Settings:
    """How to serve.

    Attributes:
        host: the address to listen on.
        port: 0 for any that is free.
        workers: processes that decode images.
        max_upload: bytes of a request's body.
        batch: images computed at once, at most.
        batch_wait: seconds to wait for images that are being decoded, before a batch that is not full is computed.
        timeout: seconds that a body may take to arrive, and an image to be decoded.
        verbose: a line for each request.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    max_upload: int = 20 * MB
    batch: int = 16
    batch_wait: float = 0.003
    timeout: float = 30.0
    verbose: bool = False

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies that may be in memory at once."""
        return max(HELD_BYTES, 4 * self.max_upload)


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def own_names(host: str, port: int) -> frozenset[str]:
    """The Host headers of browsers that mean this server, where only this computer reaches it."""
    names = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host.lower()}
    return frozenset({f"{name}:{port}" for name in names} | (names if port == 80 else set()))


def size_text(size: int) -> str:
    """A number of bytes in words, as `20 MB`."""
    return f"{size / MB:g} MB" if size % MB == 0 or size > 10 * MB else f"{size:,} bytes"


def parse_size(text: str) -> int:
    """The bytes of `20MB`, `512KB`, `1.5GB`; a number alone is bytes.

    Raises:
        InputError: it is no size, is nothing, or more than any image file may have.
    """
    parts = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([KMG]?)B?", text.strip().upper())
    size = int(float(parts[1]) * UNITS[f"{parts[2]}B" if parts[2] else ""]) if parts else 0
    if not 0 < size <= MAX_BYTES:
        raise InputError(f"{text!r} is not a size that an upload can have", "expected for example 20MB, at most 1GB")
    return size
