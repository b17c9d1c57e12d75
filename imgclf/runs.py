"""The run folder: names, state, lock, atomic writes. Imports the standard library and the ground modules only.

Every file is written to a temporary name beside its place and renamed, so that a reader never sees half a file and a
kill never leaves one under its real name.
"""

import csv
import errno
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgclf.errors import ImgclfError, InputError, SetupError
from imgclf.storage.naming import told_within
from imgclf.storage.places import require_here

SCHEMA = 1  # of the run folder; a reader of another version says so

CONFIG = "config.json"
STATE = "state.json"
METRICS = "metrics.json"
SPLIT = "split.csv"
CLASSES = "classes.txt"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
CALIBRATION = "calibration.json"
CROSS_VALIDATION = "cross_validation.json"
MODEL = "model.keras"
REPORT = "report.html"
MODEL_CARD = "MODEL_CARD.md"
LOG = "log.txt"
EXPORTS = "exports"
STAGE = "stage"
CHECKPOINTS = "checkpoints"
LAYERS = "layers"
TENSORBOARD = "tensorboard"
LOCK = ".lock"

UNKNOWN = "unknown"  # what a model with a gate calls an image that is none of its classes: its last output

_UMASK = os.umask(0)  # the only way to read it is to set it
os.umask(_UMASK)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, remove it otherwise.

    Raises:
        SetupError: the disk is full or the folder cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=_folder(path.parent), prefix=".", suffix=".part" + path.suffix)
    except OSError as error:
        raise disk_error(error, path) from error
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(0o666 & ~_UMASK)  # mkstemp is for secrets; a report is for sharing
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically; newlines stay as they are."""
    with writing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write plain JSON atomically, indented, with a final newline; NaN is refused (ValueError).

    A folder that mirrors an address is called by the address.
    """
    value = told_within(value)
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a path that is no Unicode, possible on Linux; escaped it comes back as it was
        text = json.dumps(value, indent=2, allow_nan=False)
    return write_text(path, text + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a table atomically, as RFC 4180 has it but with plain newlines.

    A name that is no Unicode (possible on Linux) is written as the bytes that it has.
    """
    table = [[str(cell) for cell in row] for row in (header, *rows)]
    # a carriage return in a name would end the row; Python before 3.12 quotes only the line ends that it writes itself
    odd = any("\r" in cell for row in table for cell in row)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL).writerows(table)
    with writing(path) as temporary:
        temporary.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))
    return path


def require_no_device(path: Path) -> None:
    """Check that a path is not a pipe or a device, which would be waited for or never end.

    Raises:
        InputError: it is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is a pipe or a device", "expected a file")


def read_json(path: Path) -> Any:
    """Read a JSON file; InputError names the file when it is missing or damaged."""
    require_no_device(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing", "expected a finished run folder of imgclf") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})", "expected the JSON file that imgclf wrote") from None


def require_own(path: Path, mark: str) -> None:
    """Check that a file to be written is new, or one that imgclf wrote before.

    Args:
        path: the file.
        mark: what stands in the first kilobytes of such a file.

    Raises:
        InputError: there is something else.
    """
    if not os.path.lexists(path):
        return
    if path.is_file():
        with path.open("rb") as file:
            if mark.encode() in file.read(4096):
                return
    raise InputError(f"{path} is already there and is not of imgclf's making", "name another file")


def disk_error(error: OSError, path: Path) -> ImgclfError:
    """Turn the operating system's word on a failed write into one line with its fix."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return SetupError(f"the disk is full: {path} could not be written", "free some space or choose another --out")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SetupError(f"{path} cannot be written ({error.strerror})", "choose a folder you may write to with --out")
    return SetupError(
        f"{path} could not be written ({error.strerror or error})", "check the disk or choose another --out"
    )


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is not a folder", "choose another --out") from None
    except OSError as error:
        raise disk_error(error, folder) from error
    return folder


@dataclass(frozen=True)
class Run:
    """A run folder. Its files' names are the constants of this module: `run / METRICS`."""

    root: Path

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @classmethod
    def create(cls, root: Path, overwrite: bool = False) -> "Run":
        """Make an empty run folder.

        Args:
            root: where; its parents are made too.
            overwrite: replace an existing run. Only a folder that imgclf made (or an empty one) is ever replaced.

        Raises:
            InputError: the folder exists and overwrite is off, or it is not a run of imgclf, or another process
                is training in it.
            SetupError: it cannot be written.
        """
        if require_free(root, overwrite):
            with cls(root).lock():
                cls(root)._clear()
        _folder(root)
        run = cls(root)
        run.set_state("running", stage="start")
        return run

    @classmethod
    def open(cls, root: Path) -> "Run":
        """Open an existing run folder.

        Raises:
            InputError: it is missing, no run, or written by another version.
        """
        if not root.exists():
            raise InputError(f"{root} does not exist", "expected a run folder made by `imgclf train`")
        if not (root / STATE).is_file():
            raise InputError(f"{root} is not a run folder", f"expected one made by `imgclf train` (with {STATE})")
        state = read_json(root / STATE)
        if not isinstance(state, dict) or state.get("schema") != SCHEMA:
            found = state.get("schema") if isinstance(state, dict) else None
            version = state.get("imgclf", "unknown") if isinstance(state, dict) else "unknown"
            raise InputError(
                f"{root} was written by imgclf {version} (run folder version {found})",
                f"this imgclf reads version {SCHEMA}: train again, or install imgclf {version}",
            )
        return cls(root)

    def _clear(self) -> None:
        for item in self.root.iterdir():
            if item.name == LOCK:
                continue
            try:
                if item.is_dir() and not item.is_symlink():
                    shutil.rmtree(item)
                else:
                    item.unlink()
            except OSError as error:
                raise disk_error(error, item) from error

    def set_state(self, state: str, **facts: Any) -> None:
        """Write state.json: "running", "interrupted", "done" or "failed", with the stage and whatever else is told."""
        from imgclf import __version__

        value = {"schema": SCHEMA, "imgclf": __version__, "state": state, **facts, "time": timestamp()}
        write_json(self / STATE, value)

    @property
    def state(self) -> dict[str, Any]:
        """What state.json says."""
        value: dict[str, Any] = read_json(self / STATE)
        return value

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that were trained, in their order."""
        return read_classes(self / CLASSES)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs: the classes, and last `unknown` where the model has a gate."""
        path = self / CALIBRATION
        gated = path.is_file() and "unknown" in read_json(path)
        return (*self.classes, UNKNOWN) if gated else self.classes

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            InputError: another process holds it.
        """
        with (self / LOCK).open("a+b") as handle:
            if not take_lock(handle.fileno()):
                raise InputError(f"another process is training in {self.root}", "wait for it or choose another --out")
            yield


def require_free(root: Path, overwrite: bool = False) -> bool:
    """Check that a run may be made at `root`; whether there is an earlier one to be replaced.

    Raises:
        InputError: the folder exists and overwrite is off, or it is not a run of imgclf.
    """
    require_here(root, "the run folder")
    if not (root.is_symlink() or root.exists()):
        return False
    if not root.is_dir():
        raise InputError(f"{root} is a file", "choose another --out")
    if not any(root.iterdir()):
        return False
    if not (root / STATE).is_file():
        raise InputError(f"{root} exists and is not a run of imgclf", "choose another --out")
    if not overwrite:
        raise InputError(f"{root} exists already", "use --overwrite to replace it, or another --out")
    return True


def free_folder(name: str, parent: Path = Path("runs")) -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that is not taken."""
    number = 1
    while True:
        root = parent / (name if number == 1 else f"{name}-{number}")
        if not root.exists():
            return root
        number += 1


def take_lock(descriptor: int) -> bool:
    """Take the operating system's own lock on an open file; it goes with the process, so a kill leaves none behind."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def timestamp() -> str:
    """The local time, as ISO 8601 with the offset, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def write_classes(path: Path, classes: Sequence[str]) -> Path:
    """Write one class name a line. A line break within a name becomes a space: the file is read by phones."""
    return write_text(path, "".join(" ".join(name.splitlines()) + "\n" for name in classes))


def read_classes(path: Path) -> tuple[str, ...]:
    """Read a file with one class name a line."""
    try:
        return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({error})", "expected a text file with one class name a line"
        ) from None
