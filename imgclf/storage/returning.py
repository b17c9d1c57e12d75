"""A run's mirror goes back to its address: each finished file as one object, while a training goes on and at the end.
May import mirror, remote, systems and what they may, progress.

A reader never sees "done" before the rest: state.json goes first while it says "running", and last otherwise. There is
no lock at an address: a state "running" that has been renewed lately, by another computer, stands for one.
"""

import contextlib
import json
import platform
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.errors import ImgclfError, InputError, SetupError
from imgclf.progress import step, warn
from imgclf.storage import naming, remote
from imgclf.storage.mirror import KEPT
from imgclf.storage.patience import Denied, Missing
from imgclf.storage.places import Address
from imgclf.storage.readers import side_by_side
from imgclf.storage.systems import path_of

LOOK_SECONDS = 1.0  # how often a training's folder is looked at
ALIVE_SECONDS = 60.0  # how often the state is renewed while nothing changes
SILENT_SECONDS = 300.0  # a training that did not renew its state for so long is over
AT_ONCE = 4  # files on their way, each of them in memory
PROBE = ".imgclf"  # an empty object: may this be written?

# Where writing an object means that it is there as a whole, or not at all; elsewhere it gets its name when it is whole.
WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf", "memory")

REPLACING = ("sftp", "ssh", "ftp")  # whose rename takes the place of a file that is there

# What imgclf makes at the top of a run; nothing else at the address is ever removed.
MADE = {
    runs.CONFIG, runs.STATE, runs.METRICS, runs.SPLIT, runs.CLASSES, runs.HISTORY, runs.PREDICTIONS, runs.CALIBRATION,
    runs.CROSS_VALIDATION, runs.MODEL, runs.REPORT, runs.MODEL_CARD, runs.LOG, runs.EXPORTS, runs.CHECKPOINTS,
    runs.LAYERS, runs.TENSORBOARD, "folds", "slices.json", "heat", "samples", "learning_curve.json", "lr.svg",
    "comparison.json",
}  # fmt: skip

Stamp = tuple[int, int]  # bytes, time of the last change


def require_permission(address: Address) -> None:
    """Check that an address can be written, before there is work that would be lost.

    Raises:
        SetupError: it cannot.
    """
    probe = address / PROBE
    put(probe, b"")
    remove(probe)


def require_idle(address: Address, root: Path) -> None:
    """Check that no other computer is training in a run at an address.

    Args:
        address: of the run.
        root: its mirror, which has its state.

    Raises:
        InputError: one seems to.
    """
    state = runs.Run(root).state
    if state.get("state") != "running" or state.get("host") in (None, platform.node()):
        return
    try:
        renewed = datetime.strptime(state["alive"], "%Y-%m-%dT%H:%M:%S%z")
    except (KeyError, TypeError, ValueError):
        return
    silent = (datetime.now(timezone.utc) - renewed).total_seconds()
    if silent < SILENT_SECONDS:
        raise InputError(f"{state['host']} is training in {address} (it said so {max(0, silent):.0f} s ago)",
                         f"wait for it; after a kill, for {SILENT_SECONDS / 60:.0f} minutes")  # fmt: skip


def put(address: Address, data: bytes) -> None:
    """Write an object, as a whole or not at all.

    Raises:
        SetupError: it may not be written, or could not be within the time limit.
        InputError: such addresses cannot be written, or the bucket does not exist.
    """
    try:
        if address.scheme in WHOLE:
            remote.call(address, "pipe_file", data, size=len(data))
            return
        part = address.with_name(f".{address.name}.part")
        path = path_of(address)
        remote.call(address.parent, "makedirs", exist_ok=True)
        remote.call(part, "pipe_file", data, size=len(data))
        if address.scheme not in REPLACING and remote.kind(address) == "file":
            remote.call(address, "rm_file")
        remote.call(part, "mv", path)
    except Missing:
        raise InputError(f"{address} cannot be written: there is no such bucket", "make it first") from None
    except ImgclfError as error:
        what = error.what.replace("permission to read", "permission to write")
        what = what.replace("cannot be read", "cannot be written").replace("can be read", "can be written")
        raise type(error)(what, error.fix) from None


def remove(address: Address) -> None:
    """Remove an object; it may be gone already. Who may write but not remove is told which one to remove."""
    try:
        remote.call(address, "rm_file")
    except Missing:
        return
    except Denied:
        warn(f"no permission to remove {address}, which is no part of the run: remove it yourself")


class Returning:
    """What has gone back of a mirror.

    Args:
        address: of the run.
        root: its mirror.
        there: the objects that are there.
        fetched: those that are in the mirror.
    """

    def __init__(self, address: Address, root: Path, there: Collection[str], fetched: Collection[str]) -> None:
        self.address, self.root = address, root
        self.there = set(there)
        self.sent = {name: stamp for name, stamp in self.files().items() if name in fetched}
        self.state = self.sent.get(runs.STATE)  # of the run that was there
        self.begun = self.announced = False
        self.renewed = time.monotonic()

    def files(self) -> dict[str, Stamp]:
        """The finished files of the mirror, and what they look like from outside."""
        found: dict[str, Stamp] = {}

        def look(folder: Path, below: str) -> None:
            with contextlib.suppress(OSError):  # removed meanwhile
                for item in folder.iterdir():
                    name = below + item.name
                    if item.name.startswith(".") or name == runs.STAGE:
                        continue
                    if item.is_dir():
                        look(item, f"{name}/")
                        continue
                    with contextlib.suppress(OSError):
                        facts = item.stat()
                        found[name] = (facts.st_size, facts.st_mtime_ns)

        look(self.root, "")
        return found

    def due(self) -> bool:
        """Whether a training has come further: another state, another checkpoint; or must say that it goes on."""
        files = self.files()
        told = [name for name in files if name == runs.STATE or runs.CHECKPOINTS in name.split("/")[:-1]]
        late = time.monotonic() - self.renewed > ALIVE_SECONDS
        return late or any(files[name] != self.sent.get(name) for name in told)

    def send(self, final: bool = True, tell: Callable[[], None] = lambda: None) -> None:
        """Write what has changed and remove what is gone.

        Args:
            final: whether nothing is at work in the mirror any more; otherwise only a running training is sent.
            tell: called after each file.
        """
        state, files = self._state(), self.files()
        running = state is not None and state.get("state") == "running"
        if not final and not (running and runs.STATE in files):  # or the folder is just being removed
            return
        self.begun = self.begun or files.get(runs.STATE) != self.state
        changed = [name for name in files if name != runs.STATE and files[name] != self.sent.get(name)]
        gone = {name for name in self.sent if name not in files}
        if self.begun:  # what was there is not this run's
            gone |= {name for name in self.there if name not in files and name.partition("/")[0] in MADE}
        gone.discard(runs.STATE)
        if state is None:  # a training that failed before there was anything to keep
            if self.begun:
                self._remove(gone)
                self._remove({runs.STATE} & self.there)
            return
        if running or (self.begun and not self.announced):
            self._put_state({**state, "state": "running"})
        if self.announced:  # first: of what is replaced nothing is left beside a run that is only begun
            self._remove(gone)
        for _ in side_by_side(lambda name: self._put(name, files[name]), changed, AT_ONCE):
            tell()
        if running:
            self.sent[runs.STATE] = files[runs.STATE]
        elif self.announced or files[runs.STATE] != self.sent.get(runs.STATE):
            self._put(runs.STATE, files[runs.STATE])
            self.announced = False
        self._remove(gone)

    def _state(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.root / runs.STATE).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _put_state(self, state: dict[str, Any]) -> None:
        told = {**state, "host": platform.node(), "alive": runs.timestamp()}
        put(self.address / runs.STATE, (json.dumps(told, indent=2) + "\n").encode())
        self.there.add(runs.STATE)
        self.announced, self.renewed = True, time.monotonic()

    def _put(self, name: str, stamp: Stamp) -> None:
        try:
            data = (self.root / name).read_bytes()
        except FileNotFoundError:  # the training is faster
            return
        put(self.address / name, data)
        self.there.add(name)
        self.sent[name] = stamp

    def _remove(self, names: set[str]) -> None:
        for _ in side_by_side(lambda name: remove(self.address / name), sorted(names), AT_ONCE):
            pass
        for name in list(names):
            self.there.discard(name)
            self.sent.pop(name, None)


class _Watch:
    """Sends a growing run back in the background, one round at a time; what fails is tried again in the next one."""

    def __init__(self, work: Returning) -> None:
        self.work, self.over, self.warned = work, threading.Event(), False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self.over.wait(pause):
            start = time.monotonic()
            try:
                if self.work.due():
                    self.work.send(final=False)
            except ImgclfError as error:
                if not self.warned:
                    warn(f"{error.what}; the training goes on, and this is tried again")
                self.warned = True
            pause = max(LOOK_SECONDS, time.monotonic() - start)  # half of the time at most, however large it is

    def __enter__(self) -> "_Watch":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


@contextmanager
def returned(
    address: Address, root: Path, there: Collection[str], fetched: Collection[str], *, watched: bool
) -> Iterator[None]:
    """Return a mirror when the block ends, however it ends; with `watched` also while it runs.

    Raises:
        SetupError: it could not be written; then the mirror stays, and the error says where it is.
    """
    work = Returning(address, root, there, fetched)
    try:
        with _Watch(work) if watched else contextlib.nullcontext():
            yield
    except BaseException:
        try:
            _send(work)
        except ImgclfError as error:
            warn(str(_kept(work, error)))
        raise
    try:
        _send(work)
    except ImgclfError as error:
        raise _kept(work, error) from None
    except KeyboardInterrupt:
        warn(str(_kept(work, ImgclfError(f"not all of {address} is written", "interrupted"))))
        raise


def _send(work: Returning) -> None:
    with step(f"writing to {work.address}", len(work.files()), "files") as bar:
        work.send(tell=bar.update)


def _kept(work: Returning, error: ImgclfError) -> ImgclfError:
    """The error that a mirror stays for, which is from now on called by its own name."""
    if not any(work.root.glob("*")):
        return error
    with contextlib.suppress(OSError):
        (work.root.parent / KEPT).touch()
    naming.forget(str(work.root))
    kind = SetupError if isinstance(error, Denied) else type(error)
    return kind(error.what, f"{error.fix}; the run is kept in {work.root}, copy it from there")
