"""What earlier checks have found out about files and pictures, in the cache folder. May import cachedir, places
and imageset.

An SQLite file: safe with two processes at once and after a kill. It only ever saves time: where it cannot be read or
written, everything is worked out again.
"""

import contextlib
import dataclasses
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from imgclf import formats
from imgclf.cachedir import cache_folder
from imgclf.data.imageset import THUMBNAIL_SIDE, Examined, Looks
from imgclf.storage.places import Address

# Another version of what is measured, or another decoder, and what is known is worth nothing any more.
VERSION = f"2 pillow {PIL.__version__} {len(formats.FORMATS)}"
NAME = "pictures.sqlite"
MOST_BYTES = 2 << 30  # 400,000 pictures with their thumbnails; beyond it the longest unused quarter goes
BUSY = 20.0  # seconds to wait for another process that writes
AT_ONCE = 500  # values in one query

_PLAIN = tuple(name for name in Examined._fields if name not in ("key", "looks"))
_LOOKS = tuple(field.name for field in dataclasses.fields(Looks))
HASHES = ("phash", "inner")
_COLUMNS = (*_PLAIN, *_LOOKS)

TABLES = (
    "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, key TEXT) WITHOUT ROWID",
    f"CREATE TABLE pictures (key TEXT PRIMARY KEY, used INTEGER, {', '.join(_COLUMNS)}) WITHOUT ROWID",
    "CREATE TABLE thumbnails (key TEXT PRIMARY KEY, grey BLOB)",
    "CREATE TABLE verdicts (pair INTEGER PRIMARY KEY, correlation REAL, same INTEGER)",
    "CREATE TABLE memos (name TEXT, digest TEXT, value TEXT, PRIMARY KEY (name, digest))",
    "CREATE TABLE made_by (version TEXT)",
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a file is recognized as unchanged: path, size, and the times of its last changes in nanoseconds.

    Of an object at an address, a hash of what its listing calls its version stands for the times.
    """

    path: str
    size: int
    mtime: int
    ctime: int

    @classmethod
    def of(cls, path: Path) -> "Stamp | None":
        """The stamp of a file; None where it cannot be asked for, or where a listing says too little of an address."""
        name = str(path)
        if isinstance(path, Address):
            if path.found is None or path.found.size is None or not path.found.version:
                return None
            digest = hashlib.blake2b(path.found.version.encode(), digest_size=8).digest()
            return cls(name, path.found.size, int.from_bytes(digest, "big", signed=True), 0)
        try:
            found = os.stat(name)  # noqa: PTH116 (100,000 files: Path takes six times as long)
        except (OSError, ValueError):
            return None
        # st_ctime is the birth on Windows, which says nothing but does no harm
        return cls(os.path.abspath(name), found.st_size, found.st_mtime_ns, found.st_ctime_ns)  # noqa: PTH100


class Known:
    """The open file. `Known.open()` is how to get one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.damaged = False
        self.unsaved: dict[str, bytes] = {}  # thumbnails that could not be written; this process still needs them

    @classmethod
    @contextmanager
    def open(cls, folder: Path | None = None) -> Iterator["Known"]:
        """Open what is known; a damaged or foreign file is begun anew, an unwritable place means memory only.

        Args:
            folder: the cache folder; by default the platform's own.
        """
        path = (folder or cache_folder()) / NAME
        connection = _connect(path)
        mine = _stat(path)
        known = cls(connection)
        try:
            yield known
        finally:
            with known._forgiving():
                _forget(connection)
            _close(connection, path if known.damaged else None, mine)

    def find(self, stamps: Iterable[Stamp]) -> dict[str, Examined]:
        """What is known of unchanged files, by the path of the stamp."""
        wanted = {os.fsencode(stamp.path): stamp for stamp in stamps}
        found: dict[str, Examined] = {}
        columns = ", ".join(f"pictures.{name}" for name in _COLUMNS)
        query = (f"SELECT path, files.size, mtime, ctime, files.key, {columns} FROM files JOIN pictures "
                 "ON files.key = pictures.key WHERE path IN ({})")  # fmt: skip
        for row in self._rows(query, list(wanted)):
            stamp = wanted[row[0]]
            if row[1:4] == (stamp.size, stamp.mtime, stamp.ctime):
                found[stamp.path] = _examined(row[4], row[5:])
        self._use({examined.key for examined in found.values()})
        return found

    def add(self, items: Iterable[tuple[Stamp, Examined, NDArray[np.uint8] | None]]) -> None:
        """Remember what was found in files that could be read; committed at once, so that a kill loses little."""
        files, pictures, thumbnails = [], [], []
        for stamp, examined, thumbnail in items:
            files.append((os.fsencode(stamp.path), stamp.size, stamp.mtime, stamp.ctime, examined.key))
            pictures.append((examined.key, _today(), *_row(examined)))
            if thumbnail is not None:
                thumbnails.append((examined.key, thumbnail.tobytes()))
        rows = {"files": files, "pictures": pictures, "thumbnails": thumbnails}
        if not self._change(*(_insertion(table, some) for table, some in rows.items() if some)):
            self.unsaved.update(thumbnails)

    def thumbnails(self, keys: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
        """The grey thumbnails, uint8 `(64, 64)`, of those pictures that have one, by key."""
        found = {key: self.unsaved[key] for key in keys if key in self.unsaved}
        found.update(self._rows("SELECT key, grey FROM thumbnails WHERE key IN ({})", list(keys)))
        shape = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        return {key: np.frombuffer(grey, np.uint8).reshape(shape) for key, grey in found.items()}

    def has_thumbnails(self, keys: Sequence[str]) -> bool:
        """Whether every one of these pictures has a thumbnail."""
        found = {key for (key,) in self._rows("SELECT key FROM thumbnails WHERE key IN ({})", list(keys))}
        return all(key in found or key in self.unsaved for key in keys)

    def recall(self, name: str, digest: str) -> str | None:
        """A text that was noted under a name for the very same input (its digest), or None."""
        query = "SELECT value FROM memos WHERE name = ? AND digest = ?"
        row = None
        with self._forgiving():
            row = self.connection.execute(query, (name, digest)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, digest: str, value: str) -> None:
        """Note a text, such as the outcome of a long computation over a whole folder."""
        self._change(_insertion("memos", [(name, digest, value)]))

    def verdicts(self, pairs: Sequence[int]) -> dict[int, tuple[float, bool]]:
        """What was found of pairs of pictures that were compared before: their correlation, and whether they agree."""
        query = "SELECT pair, correlation, same FROM verdicts WHERE pair IN ({})"
        return {pair: (correlation, bool(same)) for pair, correlation, same in self._rows(query, pairs)}

    def note_verdicts(self, rows: Sequence[tuple[int, float, bool]]) -> None:
        """Note what was found of pairs: a number of 64 bits for each, the correlation, whether they agree."""
        if rows:
            self._change(_insertion("verdicts", rows))

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        """Errors of the database cost time and nothing else; where it is damaged, the next one begins anew."""
        try:
            yield
        except sqlite3.OperationalError:  # held by another process, read-only, full
            pass
        except sqlite3.DatabaseError:
            self.damaged = True

    def _rows(self, query: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        with self._forgiving():
            for at in range(0, len(values), AT_ONCE):
                some = values[at : at + AT_ONCE]
                yield from self.connection.execute(query.format(", ".join("?" * len(some))), some)

    def _change(self, *changes: tuple[str, Sequence[tuple[Any, ...]]]) -> bool:
        """Carry out queries with their rows, all or none; whether they have been."""
        with self._forgiving(), self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            if _version(self.connection) == VERSION:  # not so when another imgclf has taken the file over
                for query, rows in changes:
                    self.connection.executemany(query, rows)
                return True
        return False

    def _use(self, keys: set[str]) -> None:
        query = "UPDATE pictures SET used = ? WHERE used < ? AND key = ?"
        stale = [key for key, used in self._rows("SELECT key, used FROM pictures WHERE key IN ({})", list(keys))
                 if used < _today()]  # fmt: skip
        if stale:
            self._change((query, [(_today(), _today(), key) for key in stale]))


def _insertion(table: str, rows: Sequence[tuple[Any, ...]]) -> tuple[str, Sequence[tuple[Any, ...]]]:
    return f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows


def _connect(path: Path) -> sqlite3.Connection:
    for _ in range(2):
        connection, before = None, _stat(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=BUSY)
            if _version(connection) != VERSION:
                _begin(connection)
            return connection
        except (OSError, sqlite3.OperationalError):  # read-only, full, held by another process for too long
            _close(connection)
            break
        except sqlite3.DatabaseError:  # not a database, or damaged
            _close(connection, path, before)
    connection = sqlite3.connect(":memory:")
    _begin(connection)
    return connection


def _close(
    connection: sqlite3.Connection | None, damaged: Path | None = None, mine: os.stat_result | None = None
) -> None:
    """Close, and remove a damaged file; not one that another process has put in its place since."""
    now = _stat(damaged) if damaged is not None else None  # while it is open, no other file can get its number
    if connection is not None:
        connection.close()
    if damaged is not None and now is not None and mine is not None and os.path.samestat(now, mine):
        with contextlib.suppress(OSError):
            damaged.unlink()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _version(connection: sqlite3.Connection) -> str | None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'made_by'").fetchone() is None:
        return None
    row = connection.execute("SELECT version FROM made_by").fetchone()
    return None if row is None else str(row[0])


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if _version(connection) == VERSION:  # another process was faster
            return
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for statement in (*(f'DROP TABLE "{name}"' for (name,) in tables if not name.startswith("sqlite_")), *TABLES):
            connection.execute(statement)
        connection.execute("INSERT INTO made_by VALUES (?)", (VERSION,))


def _forget(connection: sqlite3.Connection) -> None:
    """Keep the file within its bounds: what was not asked for the longest goes first."""
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if pages * size <= MOST_BYTES:
        return
    with connection:
        (count,) = connection.execute("SELECT COUNT(*) FROM pictures").fetchone()
        connection.execute("DELETE FROM memos")
        connection.execute("DELETE FROM verdicts")
        connection.execute("DELETE FROM pictures WHERE key IN (SELECT key FROM pictures ORDER BY used LIMIT ?)",
                           (count // 4 + 1,))  # fmt: skip
        for table in ("files", "thumbnails"):
            connection.execute(f"DELETE FROM {table} WHERE key NOT IN (SELECT key FROM pictures)")
    connection.execute("PRAGMA incremental_vacuum").fetchall()


def _examined(key: str, values: tuple[Any, ...]) -> Examined:
    plain = dict(zip(_PLAIN, values, strict=False))
    looks = dict(zip(_LOOKS, values[len(_PLAIN) :], strict=True))
    for name in HASHES:
        looks[name] = int(looks[name], 16)
    looks["telling"] = bool(looks["telling"])
    plain["grey"] = bool(plain["grey"])
    return Examined(key=key, **plain, looks=Looks(**looks))


def _row(examined: Examined) -> Iterator[Any]:
    for name in _PLAIN:
        yield getattr(examined, name)
    for name in _LOOKS:
        value = getattr(examined.looks, name)
        yield f"{value:016x}" if name in HASHES else value  # 64 bits without a sign are too many for SQLite


def _today() -> int:
    return int(time.time()) // 86400
