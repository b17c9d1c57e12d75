"""Names from elsewhere -> names that a file or folder may have here. Imports the standard library only."""

import hashlib
import os
import unicodedata
from pathlib import PurePosixPath

# No name from an archive may become a path, a hidden folder or a device (the last on Windows).
FORBIDDEN = set('/\\:*?"<>|') | {chr(code) for code in range(32)}
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}

MAX_NAME = 200  # bytes of UTF-8; file systems take 255, and a suffix against collisions must fit too
MAX_DEPTH = 12  # folders above a file; wrapping folders, a part and a class are fewer, and below it none is a label
WINDOWS = os.name == "nt"


def safe_name(name: str, windows: bool = WINDOWS) -> str:
    """One component of a path as this system can have it, NFC-normalized; most names stay as they are.

    Args:
        name: any text but "", "." and "..".
        windows: keep to the rules of Windows too.
    """
    legible = name.encode("utf-8", "surrogatepass").decode("utf-8", "replace")  # bytes that were no UTF-8 are no name
    safe = unicodedata.normalize("NFC", legible).replace("/", "_").replace("\0", "_")
    if windows:
        safe = "".join("_" if letter in FORBIDDEN else letter for letter in safe)
        bare = safe.rstrip(" .")
        safe = bare + "_" * (len(safe) - len(bare))
        if safe.split(".")[0].strip().casefold() in DEVICES:
            safe = f"_{safe}"
    return _shortened(safe)


def within_depth(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The components of a path, the folders first; of more than `MAX_DEPTH` folders the lower ones become one."""
    if len(parts) <= MAX_DEPTH + 1:
        return parts
    return (*parts[: MAX_DEPTH - 1], _digest("/".join(parts[MAX_DEPTH - 1 : -1])), parts[-1])


def numbered(name: str, number: int) -> str:
    """The name with a number before its extension: `a~2.jpg`."""
    path = PurePosixPath(name)
    return f"{path.stem}~{number}{path.suffix}"


def _shortened(name: str) -> str:
    if len(name.encode("utf-8", "replace")) <= MAX_NAME:
        return name
    suffix = PurePosixPath(name).suffix
    ending = f"~{_digest(name)}{suffix if len(suffix) <= 8 else ''}"
    room = MAX_NAME - len(ending.encode())
    return name.encode()[:room].decode("utf-8", "ignore").rstrip(" .") + ending


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
