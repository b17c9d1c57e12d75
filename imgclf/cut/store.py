"""Activations on disk, so that a frozen network computes an image once. May import NumPy and the ground modules.

A *space* is a folder of the cache for one frozen part of one network. In it lie *segments*: a file of rows and,
written last, the list of their keys. A segment never changes after that, so that processes need no locks: one that
computes what another computes too writes a segment of its own, a kill leaves rows without keys, which nobody reads.
"""

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf import runs
from imgclf.cachedir import cache_folder
from imgclf.errors import ImgclfError
from imgclf.progress import warn

Array = NDArray[Any]

FOLDER = "activations"
ABOUT, ROWS, KEYS, NETWORK = "about.json", ".rows", ".keys", "network.tflite"
# A segment is finished when it has so many bytes or is so old: what a kill can lose at most.
SEGMENT_BYTES, SEGMENT_SECONDS = 128 * 2**20, 20.0


class Rows:
    """The activations of a list of keys: read from disk when they are taken.

    Attributes:
        missing: positions in the list that the space does not have.
    """

    def __init__(self, places: NDArray[np.int64], segments: Sequence[Array]) -> None:
        self._places, self._segments = places, segments
        self.missing: list[int] = np.flatnonzero(places[:, 0] < 0).tolist()

    def __len__(self) -> int:
        return len(self._places)

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows as float32 `(n, ...)`, in the order asked for.

        Raises:
            LookupError: one of them is missing.
        """
        places = self._places[positions]
        if (places[:, 0] < 0).any():
            raise LookupError(f"asked for {len(places)} rows; {len(self.missing)} of {len(self)} are missing")
        found = np.empty((len(places), *self._segments[0].shape[1:]), np.float32)
        for number in np.unique(places[:, 0]):
            here = np.flatnonzero(places[:, 0] == number)
            found[here] = self._segments[number][places[here, 1]]
        return found


class Space:
    """The activations of one frozen part.

    Args:
        identity: whatever decides the activations but the image: another identity is another space.
        shape: of one row.
        dtype: that rows are stored in.
        root: the store; the cache folder's by default.
    """

    def __init__(self, identity: dict[str, Any], shape: Sequence[int], dtype: str, root: Path | None = None) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        text = json.dumps({**identity, "shape": self.shape, "dtype": dtype}, sort_keys=True)
        self.name = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        self.folder = (root or store_folder()) / self.name
        self._held: list[tuple[list[str], Array]] = []  # what could not be written

    @property
    def row_bytes(self) -> int:
        """Of one row on disk."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def about(self) -> dict[str, Any]:
        """What was noted of this space; empty where nothing was."""
        try:
            found = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def describe(self, **facts: Any) -> None:
        """Note facts of this space, for people and for the next run; the first one's stay."""
        with contextlib.suppress(ImgclfError):  # a cache that cannot be written is no error
            runs.write_json(self.folder / ABOUT, {**facts, **self.about()})

    def network(self, convert: Callable[[], bytes]) -> bytes:
        """The converted network: as an earlier run left it, or converted now and left for the next one."""
        path = self.folder / NETWORK
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            os.utime(path)
            return content
        content = convert()
        with contextlib.suppress(ImgclfError, OSError), runs.writing(path) as temporary:
            temporary.write_bytes(content)
        return content

    def find(self, keys: Sequence[str]) -> Rows:
        """Look keys up; what is found counts as used now."""
        segments: list[Array] = []
        places: dict[str, tuple[int, int]] = {}
        wanted = set(keys)
        for names, rows, file in self._segments():
            here = {name: (len(segments), index) for index, name in enumerate(names) if name in wanted}
            if here:
                segments.append(rows)
                places.update(here)
                if file is not None:
                    with contextlib.suppress(OSError):
                        os.utime(file)
        table = [places.get(key, (-1, 0)) for key in keys]
        return Rows(np.array(table, np.int64).reshape(-1, 2), segments)

    def _segments(self) -> Iterator[tuple[list[str], Array, Path | None]]:
        for file in sorted(self.folder.glob(f"*{KEYS}")):
            try:
                names = file.read_text(encoding="utf-8").split("\n")
                rows = file.with_suffix(ROWS)
                if rows.stat().st_size != len(names) * self.row_bytes:
                    continue
                yield names, np.memmap(rows, self.dtype, "r", shape=(len(names), *self.shape)), file
            except (OSError, ValueError):  # another process has just removed it
                continue
        for names, held in self._held:
            yield names, held, None

    def hold(self, keys: list[str], rows: Array) -> None:
        """Keep rows in memory, for this process only."""
        self._held.append((keys, rows))

    @contextlib.contextmanager
    def writing(self) -> Iterator["Writer"]:
        """Give a writer; what was added is kept also when the block ends with an error."""
        writer = Writer(self)
        try:
            yield writer
        finally:
            writer.finish()


class Writer:
    """Adds rows to a space, segment by segment. Where the disk does not take them they are kept in memory."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._path: Path | None = None
        self._file: Any = None
        self._keys: list[str] = []
        self._since = 0.0

    def add(self, keys: Sequence[str], rows: Array) -> None:
        """Add rows, float `(n, ...)`; numbers beyond what the space's dtype holds become the largest it holds."""
        if self.space.dtype == np.float16:
            most = float(np.finfo(np.float16).max)
            rows = np.clip(rows, -most, most)
        rows = np.ascontiguousarray(rows, self.space.dtype)
        try:
            self._open()
            self._write(rows)
        except OSError as error:
            self._give_up(error)
            self.space.hold(list(keys), rows)
            return
        self._keys += keys
        if self._file.tell() >= SEGMENT_BYTES or time.monotonic() - self._since >= SEGMENT_SECONDS:
            self.finish()

    def finish(self) -> None:
        """End the segment: from now on its rows are found."""
        if self._file is None:
            return
        try:
            self._file.close()
            runs.write_text(self._path.with_suffix(KEYS), "\n".join(self._keys))  # type: ignore[union-attr]
        except (OSError, ImgclfError) as error:
            self._give_up(error)
        self._file, self._keys = None, []

    def _write(self, rows: Array) -> None:
        content = rows.data.cast("B")
        while content:  # a disk that is nearly full takes a part, and says so only when asked again
            content = content[self._file.write(content) :]

    def _open(self) -> None:
        if self._file is None:
            self.space.folder.mkdir(parents=True, exist_ok=True)
            self._path = self.space.folder / f"{uuid.uuid4().hex}{ROWS}"
            self._file = self._path.open("xb", buffering=0)
            self._since = time.monotonic()

    def _give_up(self, error: Exception) -> None:
        """Take into memory what the unfinished segment has, and remove it."""
        if not self.space._held:
            warn(f"activations are kept in memory for this run only: {self.space.folder.parent} cannot take them "
                 f"({getattr(error, 'strerror', None) or error})")  # fmt: skip
        if self._path is not None and self._keys:
            whole = len(self._keys) * self.space.row_bytes
            with contextlib.suppress(OSError):
                content = self._path.read_bytes()[:whole]
                if len(content) == whole:
                    shape = (len(self._keys), *self.space.shape)
                    self.space.hold(self._keys, np.frombuffer(content, self.space.dtype).reshape(shape))
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
            if self._path is not None:
                self._path.unlink(missing_ok=True)
        self._file, self._path, self._keys = None, None, []


def store_folder() -> Path:
    """Where the spaces are."""
    return cache_folder() / FOLDER
