"""Runs and model files at addresses: what is needed of one is fetched into a folder here, and a run goes back.
May import places, naming, runs, cachedir, config, errors; `remote` and `returning` when an address is met.

A mirror is a fresh folder of this process in the cache folder, which goes when the process ends; contents that did not
change come out of the byte cache. All work on a run is done in its mirror, by code that knows nothing of addresses.
"""

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from imgclf import runs
from imgclf.cachedir import cache_folder
from imgclf.config import TrainConfig
from imgclf.errors import ImgclfError, InputError
from imgclf.storage import naming
from imgclf.storage.places import CHAIN, Address, place

FOLDER = "mirrors"  # in the cache folder
KEPT = "kept"  # beside a mirror that could not be returned: it is never removed
NEW_SECONDS = 60.0
LABELS = "labels.txt"  # what other people call classes.txt

# What is fetched of a run, by the names at its top; None is everything.
Needs = frozenset[str] | None
ANSWERING = frozenset({runs.STATE, runs.CONFIG, runs.CLASSES, runs.CALIBRATION, runs.METRICS, runs.MODEL})
MEASURED = ANSWERING | {runs.SPLIT, runs.PREDICTIONS, runs.HISTORY}
PROVEN = MEASURED | {runs.EXPORTS}
EARLIER = MEASURED - {runs.MODEL}  # of a run that is to be replaced
EVERYTHING = None

READ_ONLY = ("http", "https", "zip", "tar", "github")
RUNS_IN_SETTINGS = ("weights", "from_run", "teacher", "split")  # settings that may name a run at an address

_held: list[IO[bytes]] = []  # locks of this process' mirrors
_written: set[str] = set()  # addresses of runs that are being worked on here


def here(path: str | os.PathLike[str], needs: Needs = MEASURED) -> Path:
    """A path on this computer for a run or a model file that may be at an address; other paths stay as they are.

    Args:
        path: a run folder or a file.
        needs: what is fetched of a run.

    Raises:
        InputError: there is nothing at the address.
        SetupError: it cannot be read.
    """
    given = place(path)
    if not isinstance(given, Address):
        return given
    from imgclf.storage import remote

    kind = remote.kind(given)
    if not kind:
        raise InputError(f"{given} does not exist", "expected a run folder, a .keras file or a .tflite file")
    if kind == "file":
        return _file_here(given, needs)
    root = _new(given)
    _fetch(_wanted(listing(given, needs), needs), root)
    root.mkdir(exist_ok=True)
    return root


def with_runs_here(config: TrainConfig) -> TrainConfig:
    """Settings whose runs are on this computer: --weights, --from, --teacher and --split may name addresses."""
    named = {name: getattr(config, name) for name in RUNS_IN_SETTINGS if getattr(config, name)}
    found = {name: here(value) for name, value in named.items() if isinstance(place(value), Address)}
    return config.replace(**{name: str(path) for name, path in found.items()}) if found else config


@contextmanager
def making(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """Within the block, a new run at an address is a folder here; it goes back while it grows and when the block ends.

    Args:
        out: where the run is to be; a path on this computer stays as it is.
        overwrite: whether an earlier run may be replaced. It is, from the moment the new one is begun: readers see
            "running" first, then the earlier run's files go. Kept until the new one is complete, it would have to be
            told apart from it file by file.

    Raises:
        InputError: there is something already, or another computer is training there.
        SetupError: it cannot be written.
    """
    address = place(out)
    if not isinstance(address, Address):
        yield out
        return
    from imgclf.storage import returning

    require_writable(address)
    with _alone(address):
        there = listing(address, EVERYTHING)
        root = _new(address)
        if there and runs.STATE not in there:
            raise InputError(f"{address} exists and is not a run of imgclf", "choose another --out")
        fetched = _fetch(_wanted(there, EARLIER if overwrite else frozenset({runs.STATE})), root)
        runs.require_free(root, overwrite)
        if there:
            returning.require_idle(address, root)
        returning.require_permission(address)
        with returning.returned(address, root, there, fetched, watched=True):
            yield root


@contextmanager
def writing(run: str | os.PathLike[str], watched: bool = False) -> Iterator[Path]:
    """Within the block, a run at an address is a folder here with all that it has; what has changed then goes back.

    Args:
        run: the run folder; also a mirror of it. One on this computer stays as it is.
        watched: whether it goes back while it grows too, as a training does.

    Raises:
        InputError: no run is there, or another computer is training in it.
        SetupError: it cannot be read or written.
    """
    address = place(naming.address_of(os.fspath(run)) or run)
    if not isinstance(address, Address) or str(address) in _written:
        yield place(run)
        return
    from imgclf.storage import returning

    require_writable(address)
    with _alone(address):
        there = listing(address, EVERYTHING)
        if not there:
            raise InputError(f"{address} does not exist", "expected a run folder made by `imgclf train`")
        root = _new(address)
        fetched = _fetch(there if runs.STATE in there else {}, root)
        root.mkdir(exist_ok=True)
        runs.Run.open(root)
        returning.require_idle(address, root)
        with returning.returned(address, root, there, fetched, watched=watched):
            yield root


@contextmanager
def verifying(model: Path) -> Iterator[Path]:
    """Within the block, a model at an address is here with its mobile files; of a run, what was found out goes back.

    Where the address can only be read, nothing does.
    """
    address = place(model)
    if not isinstance(address, Address):
        yield model
    elif _is_read_only(address) or address.suffix.lower() in (".tflite", ".keras"):
        yield here(address, PROVEN)
    else:
        with writing(address) as root:
            yield root


def is_there(run: Path, name: str) -> bool:
    """Whether a run has a file: in its folder here, or at the address that the folder mirrors a part of."""
    address = naming.address_of(str(run))
    return (run / name).is_file() or (address is not None and (place(address) / name).is_file())


def require_apart(data: Path | None, out: Path, config: TrainConfig) -> None:
    """Check that images and run lie apart, and so do the runs that it begins with, where they are at addresses.

    Raises:
        InputError: they do.
    """
    run = place(out)
    if not isinstance(run, Address):
        return
    for value in (getattr(config, name) for name in RUNS_IN_SETTINGS):
        if value and run in (place(value), *place(value).parents):
            raise InputError(f"{place(value)} lies inside {run}, which is to be made", "choose another --out")
    if not isinstance(data, Address):
        return
    if run == data or data in run.parents:
        raise InputError(f"{run} lies inside the image folder {data}", "choose another --out")
    if run in data.parents:
        raise InputError(f"the images {data} lie inside {run}", "choose another --out")


def require_writable(address: Address) -> None:
    """Check that addresses of this kind can be written.

    Raises:
        InputError: they are for reading.
    """
    if _is_read_only(address):
        raise InputError(f"{address} can be read but not written", "choose s3://, gs://, az://, or a folder here")


def _is_read_only(address: Address) -> bool:
    return address.scheme in READ_ONLY or CHAIN in str(address)


def listing(address: Address, needs: Needs) -> dict[str, Address]:
    """The files of a run at an address, by their path within it; where there is no run, what lies at its top.

    Hidden and temporary files are none of a run's.
    """
    from imgclf.storage import remote
    from imgclf.storage.patience import Missing

    try:
        top = remote.entries(str(address))
        if not any(entry.name == runs.STATE for entry in top):  # a bucket may have millions
            return {entry.name: address / entry.name for entry in top if not entry.name.startswith(".")}
        tree = remote.Tree([str(address)], lambda name: not name.startswith(".") and (needs is None or name in needs))
    except Missing:
        return {}
    found: dict[str, Address] = {}
    for folder, entries in tree.folders.items():
        above = place(folder)
        assert isinstance(above, Address)
        below = above.parts[len(address.parts) :]
        for entry in entries:
            if not entry.folder and not entry.name.startswith("."):
                file = above / entry.name
                file.found = entry.found
                found["/".join((*below, entry.name))] = file
    return found


def _wanted(there: dict[str, Address], needs: Needs) -> dict[str, Address]:
    if runs.STATE not in there:
        return {}
    return {name: file for name, file in there.items() if needs is None or name.partition("/")[0] in needs}


def _fetch(files: dict[str, Address], root: Path) -> Collection[str]:
    """Write objects into a folder; their names."""
    from imgclf.storage import remote
    from imgclf.storage.readers import side_by_side

    def fetch(name: str) -> None:
        with runs.writing(root / name) as temporary:
            temporary.write_bytes(remote.read(files[name]))

    for _ in side_by_side(fetch, list(files)):
        pass
    return files.keys()


def _file_here(file: Address, needs: Needs) -> Path:
    """A single file, with the file of class names that lies near it."""
    from imgclf.storage import remote

    above = file.parent
    assert isinstance(above, Address)
    if needs == PROVEN and above.name == runs.EXPORTS and remote.kind(above.parent / runs.STATE):
        return here(above.parent, needs) / runs.EXPORTS / file.name
    root = _new(above)
    _fetch({file.name: file}, root)
    if file.suffix.lower() in (".keras", ".tflite"):
        candidates = [folder / name for folder in (above, above.parent) for name in (runs.CLASSES, LABELS)]
        for near in candidates:
            # a bucket that may not be listed says "no permission" of what is not there
            with contextlib.suppress(ImgclfError):
                if isinstance(near, Address) and near.is_absolute() and remote.kind(near) == "file":
                    _fetch({near.name: near}, root)
                    break
    return root / file.name


def _new(address: Address) -> Path:
    """Where the mirror of an address is to be: a folder of its name, in a new one that goes with this process."""
    shelf = cache_folder().resolve() / FOLDER
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        _sweep(shelf)
        parent = Path(tempfile.mkdtemp(dir=shelf))
        lock = (parent / runs.LOCK).open("a+b")
    except OSError as error:
        raise runs.disk_error(error, shelf) from error
    runs.take_lock(lock.fileno())
    _held.append(lock)
    root = parent / (re.sub(r'[<>:"|?*\\]', "_", address.name) or "run")
    naming.call(str(root), str(address))
    atexit.register(_remove, parent, lock)
    return root


def _remove(parent: Path, lock: IO[bytes]) -> None:
    lock.close()
    if not (parent / KEPT).exists():
        shutil.rmtree(parent, ignore_errors=True)


def _sweep(shelf: Path) -> None:
    """Remove the mirrors of processes that were killed: nobody holds their locks."""
    for parent in shelf.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - parent.stat().st_mtime < NEW_SECONDS:  # its process is about to lock it
                continue
            lock: IO[bytes] = (parent / runs.LOCK).open("r+b")
            free = runs.take_lock(lock.fileno())
            lock.close()
            if free and not (parent / KEPT).exists():
                shutil.rmtree(parent, ignore_errors=True)


@contextmanager
def _alone(address: Address) -> Iterator[Any]:
    """Hold a run at an address for this process, as far as this computer goes.

    Raises:
        InputError: another process here is working on it.
    """
    name = hashlib.blake2b(str(address).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    locks = cache_folder() / f"{FOLDER}-locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / name).open("a+b") as handle:
        if not runs.take_lock(handle.fileno()):
            raise InputError(f"another process is training in {address}", "wait for it or choose another --out")
        _written.add(str(address))
        try:
            yield
        finally:
            _written.discard(str(address))
