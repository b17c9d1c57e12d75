"""What lies at an address: listed in parallel, read with retries within a time limit, kept in the cache. May import
places, bytecache, patience, readers, systems and errors.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imgclf.errors import InputError
from imgclf.storage import bytecache
from imgclf.storage.patience import Missing, patiently, wait_for
from imgclf.storage.places import CHAIN, Address, Entry, Found, is_address, place
from imgclf.storage.readers import side_by_side
from imgclf.storage.systems import lent, path_of, system

NOT_LISTED = ("http", "https")  # servers that say "file" to everything
FILES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".zip", ".tar", ".tgz",
         ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".parquet", ".pq", ".csv", ".tsv", ".keras", ".tflite",
         ".json", ".txt")  # fmt: skip
MOST_DEPTH = 32  # folders in folders; a server of web pages may link in circles

# What file systems call the mark of a version, and, where there is none, the time of a change.
VERSIONS = ("ETag", "etag", "generation", "md5Hash", "checksum", "content_md5", "Content-MD5", "CRC")
TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "Last-Modified", "created", "date_time")

# What listings said, by the hash of an address: where a report names an image, nobody has to ask for its version again.
# (Of two addresses with one hash, one is read once more.)
_said: dict[int, Found] = {}
_trees: list["Tree"] = []  # what `listed` and `looked_into` have listed


def call(address: Address, method: str, *arguments: Any, size: int | None = None, **options: Any) -> Any:
    """Call a method of the file system for an address, again where it fails by chance."""
    path = path_of(address)

    def attempt(seconds: float) -> Any:
        with lent(address, seconds) as files:
            work = getattr(files, f"_{method}" if files.async_impl else method)
            return wait_for(files, lambda: work(path, *arguments, **options), seconds)

    return patiently(address, attempt, size or 0)


def kind(address: Address) -> str:
    """What is there: "file", "folder", or "" for nothing."""
    for tree in _trees:
        if str(address) in tree.folders:
            return "folder"
        beside = tree.named(str(address.parent))
        if beside is not None:
            there = beside.get(address.name)
            address.found = there.found if there is not None else None
            return "" if there is None else "folder" if there.folder else "file"
    if address.scheme in NOT_LISTED and address.suffix.lower() not in FILES:
        try:
            return "folder" if call(address, "ls", detail=False) else "file"
        except Missing:
            return ""
    try:
        found = call(address, "info")
    except Missing:
        return ""
    if found.get("type") == "directory":
        # a bucket that is not there is a folder to some
        return "folder" if len(address.parts) > 2 or _is_listed(address) else ""
    address.found = _noted(address, _found(found))
    return "file"


def _noted(address: Address, found: Found | None) -> Found | None:
    if found is not None:
        _said[hash(address)] = found
    return found


def _is_listed(address: Address) -> bool:
    try:
        entries(str(address))
    except Missing:
        return False
    return True


def find(address: Address) -> Found:
    """Size and version of an object.

    Raises:
        Missing: there is none.
    """
    found = address.found or _said.get(hash(address)) or asked(address)
    address.found = found
    return found


def asked(address: Address) -> Found:
    """Size and version as the server says them now, whatever a listing said.

    Raises:
        Missing: there is no such object.
    """
    return _found(call(address, "info"))


def _found(info: dict[str, Any]) -> Found:
    marks = [str(info[name]) for names in (VERSIONS, TIMES) for name in names if info.get(name) is not None]
    size = info.get("size")
    return Found(None if size is None else int(size), marks[0] if marks else "")


def entries(path: str) -> list[Entry]:
    """What lies directly in a folder, in no order.

    Raises:
        Missing: there is no such folder.
    """
    for tree in _trees:
        if path in tree.folders:
            return tree.folders[path]
    address = place(path)
    assert isinstance(address, Address)
    infos = _pages(address) if hasattr(system(address), "_call_s3") else call(address, "ls", detail=True)
    return list(_entries(address, infos))


def _pages(address: Address) -> Iterator[dict[str, Any]]:
    """A folder of S3, a page at a time, each page with its own tries: s3fs would hold all that boto says of it.

    Raises:
        Missing: there is nothing.
    """
    files = system(address)
    bucket, prefix, _ = files.split_path(path_of(address))
    options = {"Bucket": bucket, "Prefix": f"{prefix.rstrip('/')}/" if prefix else "", "Delimiter": "/", **files.req_kw}
    empty = True
    while True:
        page = patiently(
            address, lambda seconds: wait_for(files, lambda: files._call_s3("list_objects_v2", **options), seconds)
        )
        for info in page.get("CommonPrefixes", []):
            empty = False
            yield {"name": info["Prefix"], "type": "directory"}
        for info in page.get("Contents", []):
            empty = False
            if info["Key"] != options["Prefix"]:  # a folder may be an object of its own
                yield {**info, "name": info["Key"], "size": info["Size"], "type": "file"}
        if not page.get("IsTruncated"):
            break
        options["ContinuationToken"] = page["NextContinuationToken"]
    if empty and prefix:
        raise Missing(f"there is nothing at {address}", "check the address")


def _entries(address: Address, infos: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    below = address.parts[-1] if len(address.parts) > 1 else ""
    for info in infos:
        whole = str(info["name"])
        folder = info.get("type") == "directory" or (address.scheme in NOT_LISTED and whole.endswith("/"))
        name = whole.partition("?")[0].rstrip("/").rsplit("/", 1)[-1] if address.scheme in NOT_LISTED else (
            whole.rstrip("/").rsplit("/", 1)[-1]
        )  # fmt: skip
        marker = name == below and not folder and not info.get("size") and "." not in name
        if name not in ("", ".", "..") and not marker:
            yield Entry(name, folder, None if folder else _found(info))


class Tree:
    """A folder at an address with everything below it, as it was listed.

    Args:
        roots: where it begins.
        goes_into: whether a folder of this name is listed too.

    Attributes:
        folders: each folder's address to what lies in it.

    Raises:
        Missing: there is no such folder.
    """

    def __init__(self, roots: Sequence[str], goes_into: Callable[[str], bool]) -> None:
        self.folders: dict[str, list[Entry]] = {}
        self._named: dict[str, dict[str, Entry]] = {}
        level = list(roots)
        for _ in range(MOST_DEPTH):
            for path, found in zip(level, side_by_side(entries, level), strict=True):
                self.folders[path] = found
            level = [f"{place(path) / entry.name}" for path in level for entry in self.folders[path]
                     if entry.folder and goes_into(entry.name)]  # fmt: skip
            level = [path for path in level if path not in self.folders]
            if not level:
                break

    def named(self, folder: str) -> dict[str, Entry] | None:
        """What lies in a folder, by its name; None if the folder was not listed."""
        if folder not in self.folders:
            return None
        if folder not in self._named:
            self._named[folder] = {entry.name: entry for entry in self.folders[folder]}
        return self._named[folder]


@contextmanager
def listed(root: Path, goes_into: Callable[[str], bool]) -> Iterator[None]:
    """Within the block, `entries` of everything below an address costs nothing: it has been listed, side by side."""
    if not isinstance(root, Address):
        yield
        return
    with _known(Tree([str(root)], goes_into)):
        yield


@contextmanager
def looked_into(folders: Iterable[str]) -> Iterator[dict[str, list[Entry]]]:
    """Within the block, `entries` of these addresses costs nothing. Those that are not there are empty."""
    tree = Tree([], lambda _: False)
    wanted = sorted(set(folders))
    for path, found in zip(wanted, side_by_side(_entries_or_none, wanted), strict=True):
        tree.folders[path] = found
    with _known(tree):
        yield tree.folders


def _entries_or_none(path: str) -> list[Entry]:
    try:
        return entries(path)
    except Missing:
        return []


@contextmanager
def _known(tree: Tree) -> Iterator[None]:
    _trees.append(tree)
    try:
        yield
    finally:
        _trees.remove(tree)


def with_found(paths: Sequence[str]) -> list[Path]:
    """Listed paths as places, the addresses among them with what the listing said; within `listed`."""
    result: list[Path] = []
    folder, base, known = "", Path(), dict[str, Found | None]()
    for path in paths:
        if not is_address(path):
            result.append(place(path))
            continue
        whole = place(path) if CHAIN in path else None
        above, name = (str(whole.parent), whole.name) if whole is not None else path.rsplit("/", 1)
        if above != folder:  # they come sorted; a million paths are made by adding a name to their folder
            listed = not above.startswith(NOT_LISTED) or any(above in tree.folders for tree in _trees)
            folder, base = above, place(above)
            known = {entry.name: entry.found for entry in entries(above)} if listed else {}
        address = base / name
        assert isinstance(address, Address)
        address.found = _noted(address, known.get(name))
        result.append(address)
    return result


def look_up(paths: Iterable[Path]) -> None:
    """Find size and version of addresses that no listing gave: by listing their folders, where they can be."""
    waiting: dict[str, list[Address]] = {}
    for path in paths:
        if isinstance(path, Address) and path.found is None:
            path.found = _said.get(hash(path))
        if isinstance(path, Address) and path.found is None:
            waiting.setdefault(str(path.parent), []).append(path)

    def of_file(address: Address) -> None:
        with contextlib.suppress(Missing):
            address.found = _noted(address, asked(address))

    def of_folder(folder: str) -> None:
        try:
            there = {entry.name: entry.found for entry in entries(folder)}
        except Missing:
            return
        for address in waiting[folder]:
            address.found = _noted(address, there.get(address.name))

    alone = [address for folder in list(waiting) if folder.startswith(NOT_LISTED) for address in waiting.pop(folder)]
    for _ in side_by_side(of_folder, list(waiting)):
        pass
    for _ in side_by_side(of_file, alone):
        pass


def read(address: Address) -> bytes:
    """The content of an object, from the cache where it is there in this version.

    Raises:
        Missing: there is no such object.
        Damaged: it cannot be got out of its archive.
        Denied: no permission.
        SetupError: it could not be read within the time limit.
    """
    found = address.found or _said.get(hash(address))
    name = bytecache.name_of(str(address), *found) if found is not None and found.version else ""
    kept = bytecache.get(name, found.size) if name and found is not None else None
    if kept is not None:
        return kept
    path = path_of(address)

    def attempt(seconds: float) -> bytes:
        with lent(address, seconds) as files:
            work = files._cat_file if files.async_impl else files.cat_file
            data: bytes = wait_for(files, lambda: work(path), seconds)
        if found is not None and found.size is not None and len(data) < found.size:
            raise ConnectionError(f"{len(data)} of {found.size} bytes came")
        return data

    data = patiently(address, attempt, (found.size or 0) if found is not None else 0)
    if name:
        bytecache.put(name, data)
    return data


def beginning(address: Address, count: int) -> bytes:
    """The first bytes of an object."""
    found = address.found
    if found is not None and found.version:
        kept = bytecache.get(bytecache.name_of(str(address), *found), found.size)
        if kept is not None:
            return kept[:count]
    data: bytes = call(address, "cat_file", start=0, end=min(count, found.size or count) if found else count)
    return data[:count]


def matching(pattern: str) -> list[Path]:
    """The objects that fit a glob (`**` goes through folders), sorted."""
    address = place(pattern)
    assert isinstance(address, Address)
    if CHAIN in str(address):
        raise InputError(f"{address} is a glob within an archive", "name the folder in it")
    found = call(address, "glob", detail=True)
    files = []
    for path, info in sorted(found.items()):
        if info.get("type") != "file":
            continue
        below = path if "://" in path else f"{address.scheme}://{path.lstrip('/')}"
        match = place(below)
        assert isinstance(match, Address)
        match.found = _found(info)
        files.append(match)
    return list(files)
