"""Work on servers that fails by chance: again, with growing pauses, within one time limit; and one clear line for
what no patience helps. May import places and errors; fsspec's libraries when a connection is made.
"""

import errno
import inspect
import lzma
import os
import random
import re
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from imgclf.errors import ImgclfError, InputError, SetupError
from imgclf.storage.places import CHAIN, Address

T = TypeVar("T")

LIMIT_VARIABLE = "IMGCLF_REMOTE_SECONDS"
LIMIT = 120.0  # seconds for one read, with all that is tried again
TRIES_IN_LIMIT = 4  # that last until they are given up, in the limit
SILENCE_SHARE = 1 / 8  # of the limit: a server that says nothing for so long has stalled
SLOWEST = 200_000  # bytes a second; a large object may take longer by so much
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds
TRIES_AT_FIRST = 4  # of a server that has never answered: its address is probably wrong
AT_ONCE = 16  # reads side by side

DENIED = ("PermissionError", "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
          "TokenRetrievalError", "ProfileNotFound", "ClientAuthenticationError", "DefaultCredentialsError",
          "UnauthorizedSSOTokenError", "SSOTokenLoadError", "AuthenticationException")  # fmt: skip
NO_CREDENTIALS = ("No authentication methods available", "unable to connect to account")  # paramiko, adlfs: no class
MEANINGLESS = ("ValueError", "TypeError", "ParamValidationError", "InvalidURL", "NotImplementedError", "UnicodeError")
REFUSED = ("EndpointConnectionError", "ClientConnectorError", "ConnectionRefusedError", "gaierror")
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, tarfile.TarError, lzma.LZMAError)
FINAL = (errno.EINVAL, errno.EPERM, errno.ENAMETOOLONG, errno.EMSGSIZE)
WORTH_ANOTHER_TRY = (408, 425, 429)  # of the answers 4xx

# What brings the library of a scheme, where it is missing.
PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "adl": "adlfs",
            "sftp": "paramiko", "ssh": "paramiko", "hf": "huggingface_hub", "oci": "ocifs", "oss": "ossfs",
            "smb": "smbprotocol", "webdav": "webdav4"}  # fmt: skip
ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "ssh": "sftp"}
CREDENTIALS = {
    "s3": "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE (FSSPEC_S3_ANON=true for a public bucket)",
    "gs": "check GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "az": "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING",
    "sftp": "check the user (sftp://USER@HOST/FOLDER) and the key: `ssh USER@HOST` must work without a question",
}

_answered: set[str] = set()  # servers and buckets


class Missing(InputError):
    """There is nothing at an address."""


class Damaged(InputError):
    """A file within an archive that cannot be unpacked."""


class Denied(SetupError):
    """No credentials, or no permission."""


def limit_seconds() -> float:
    """How long one read may take, with all that is tried again: IMGCLF_REMOTE_SECONDS, or 120.

    Raises:
        InputError: the variable is no number.
    """
    given = os.environ.get(LIMIT_VARIABLE)
    try:
        limit = float(given) if given else LIMIT
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise InputError(f"{LIMIT_VARIABLE} is {given!r}", "expected a number of seconds")
    return limit


def connection_limits(scheme: str) -> dict[str, Any]:
    """Options of a file system that let it notice a server that has stalled."""
    silence = max(0.5, limit_seconds() * SILENCE_SHARE)
    if scheme in ("s3", "s3a"):
        config = {"connect_timeout": silence, "read_timeout": silence, "retries": {"max_attempts": 0},
                  "max_pool_connections": 2 * AT_ONCE}  # fmt: skip
        return {"config_kwargs": config, "use_listings_cache": False}
    if scheme in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
        return {"client_kwargs": {"timeout": timeout}, "use_listings_cache": False}
    if scheme in ("sftp", "ssh"):
        return {"timeout": silence, "banner_timeout": silence, "auth_timeout": silence}
    return {"use_listings_cache": False} if scheme in ("gs", "gcs", "az", "abfs", "abfss") else {}


def wait_for(files: Any, work: Callable[[], Any], seconds: float | None) -> Any:
    """What a method of a file system gives, or TimeoutError.

    Args:
        files: the fsspec file system.
        work: calls the method; gives a coroutine where the file system has a loop of its own.
        seconds: to wait; None waits for as long as its connections do.
    """
    if files.async_impl:
        import asyncio

        async def in_time() -> Any:
            found = work()
            return await asyncio.wait_for(found, seconds) if inspect.isawaitable(found) else found

        future = asyncio.run_coroutine_threadsafe(in_time(), files.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
    if files.protocol == "memory" or "memory" in files.protocol:
        return work()
    return within(work, seconds)


def within(work: Callable[[], T], seconds: float | None) -> T:
    """What some work gives, or TimeoutError; the work itself goes on, in a thread that does not hold up the program."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(seconds)


def patiently(address: Address, work: Callable[[float], T], size: int = 0, *, answers: bool = True) -> T:
    """Do some work on a server; again, after a pause, where it fails by chance.

    Args:
        address: what it is about.
        work: given the seconds that it may take.
        size: bytes that are to come.
        answers: whether the work is done only when the server has answered.

    Raises:
        Missing, Damaged, Denied: what is said of them.
        InputError: the address means nothing.
        SetupError: it went on failing until the time was over.
    """
    limit, tries, longer = limit_seconds(), 0, size / SLOWEST
    end = time.monotonic() + limit + longer
    server = address.anchor_text
    while True:
        try:
            value = work(min(end - time.monotonic(), limit / TRIES_IN_LIMIT + longer))
        except ImgclfError:
            raise
        except Exception as error:
            final = _final(address, error)
            if final is not None:
                _answered.add(server)
                raise final from None
            tries += 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1)) * random.uniform(0.5, 1.0)
            hopeless = server not in _answered and tries >= TRIES_AT_FIRST and _names(error) & set(REFUSED)
            if hopeless or time.monotonic() + pause >= end:
                raise SetupError(f"{address} cannot be read: {reason(address, error)}, tried {tries} times",
                                 f"check the connection and the server ({LIMIT_VARIABLE} sets how long to try)"
                                 ) from None  # fmt: skip
            time.sleep(pause)
        else:
            if answers:
                _answered.add(server)
            return value


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}


def _status(error: BaseException) -> int:
    """The number of an HTTP answer; 0 where there was none."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        # not of others: aiohttp's errors of a broken connection have a code of their own, 400
        names = ("status", "status_code", "code") if type(each).__name__ == "HttpError" else ("status", "status_code")
        for name in names:
            value = getattr(each, name, None)
            if isinstance(value, (int, str)) and str(value).isdigit() and 100 <= int(value) < 600:
                return int(value)
    return 0


def _final(address: Address, error: Exception) -> ImgclfError | None:
    """What no patience helps, as an error for people; None where another try may."""
    names, status, scheme = _names(error), _status(error), address.scheme
    if isinstance(error, ImportError):
        if (error.name or "").partition(".")[0] == "fsspec":
            return SetupError(f"{address} needs the extra `remote`", "pip install 'imgclf[remote]'")
        package = PACKAGES.get(scheme, "'imgclf[remote]'")
        return SetupError(f"{scheme}:// needs a library that is not installed", f"pip install {package}")
    if names & set(DENIED) or status in (401, 403) or any(words in str(error) for words in NO_CREDENTIALS):
        return Denied(f"no permission to read {address} ({reason(address, error)})",
                      CREDENTIALS.get(ALIASES.get(scheme, scheme),
                                      "check your credentials"))  # fmt: skip
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)) or status in (404, 410):
        return Missing(f"there is nothing at {address}", "check the address")
    if CHAIN in str(address) and isinstance(error, BROKEN_ARCHIVE):
        return Damaged(f"{address} is damaged ({reason(address, error)})", "make the archive again")
    if 400 <= status < 500 and status not in WORTH_ANOTHER_TRY:
        return SetupError(f"{address} cannot be read: {reason(address, error)}", "check the address and its region")
    if 500 <= status < 600 or status in WORTH_ANOTHER_TRY:
        return None
    if names & set(MEANINGLESS) and not names & {"OSError"}:
        return InputError(f"{address} is no address that can be read ({reason(address, error)})",
                          "expected s3://BUCKET/FOLDER, gs://..., az://..., https://...")  # fmt: skip
    if isinstance(error, OSError) and error.errno in FINAL:
        return SetupError(f"{address} cannot be read: {reason(address, error)}", "check the address")
    return None


def reason(address: Address, error: BaseException) -> str:
    """What an exception of somebody else's says, in one line without queries and passwords."""
    if isinstance(error, TimeoutError) or _names(error) & {"FSTimeoutError", "ReadTimeoutError", "ConnectTimeoutError"}:
        return "the server did not answer in time"
    if _names(error) & set(REFUSED):
        return "no connection to the server"
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if address.full != str(address):
        said = said.replace(address.full, str(address))
    said = re.sub(r"(\w+://[^\s'\"?]*)\?[^\s'\")]*", r"\1", said)
    said = re.sub(r"//[^/@\s]*:[^/@\s]*@", "//", said)
    line = " ".join(said.split())
    return (line[:200] or type(error).__name__).rstrip(".")
