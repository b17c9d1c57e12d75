"""Shards and tables at addresses of fsspec's memory: opened as those of a folder are, fetched once."""

import json
import shutil
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from imgclf.config import TrainConfig
from imgclf.data import unpacked_shards
from imgclf.data.inspect import inspect
from imgclf.data.pack import pack
from imgclf.data.sources import open_source, run_name
from imgclf.errors import InputError
from imgclf.storage.places import Address, place
from tests.conftest import TINY, imgclf_here

fsspec = pytest.importorskip("fsspec")

ENDINGS = {"webdataset": "tar", "parquet": "parquet"}


class Shelf:
    """Files in memory, whose reading is counted."""

    def __init__(self, root: str) -> None:
        self.root, self.files = root, fsspec.filesystem("memory")
        self.read: list[str] = []

    def at(self, name: str) -> Path:
        return place(f"memory://{self.root}/{name}")

    def put(self, folder: Path, name: str) -> Path:
        for path in folder.rglob("*"):
            if path.is_file():
                self.write(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return self.at(name)

    def write(self, name: str, data: bytes) -> Path:
        self.files.pipe_file(f"/{self.root}/{name}", data)
        return self.at(name)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """An empty place in memory, and an empty cache."""
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    made = Shelf(f"{tmp_path.name}/shelf")
    plain = type(made.files).cat_file

    def cat_file(self: Any, path: str, *arguments: Any, **options: Any) -> bytes:
        made.read.append(path.rpartition("/")[2])
        return bytes(plain(self, path, *arguments, **options))

    monkeypatch.setattr(type(made.files), "cat_file", cat_file)
    return made


@pytest.fixture(params=list(ENDINGS))
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shards(form: str, photos: Path, tmp_path: Path) -> Path:
    """The photos in several shards."""
    pytest.importorskip("pyarrow")
    pack(photos, tmp_path / "shards", form, TrainConfig(), "60kB")
    assert len(list((tmp_path / "shards").glob(f"*.{ENDINGS[form]}"))) > 2
    return tmp_path / "shards"


def shape(images: Any) -> list[tuple[str, str, str]]:
    return [(image.path.name, image.label, image.part) for image in images.images]


@pytest.mark.parametrize("cache_gb", ["10", "0.00001"])
def test_a_folder_of_shards_is_fetched_once_and_kept_unpacked_only(
    shelf: Shelf, shards: Path, form: str, cache_gb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGCLF_REMOTE_CACHE_GB", cache_gb)  # 10 kB have no room for a shard
    address = shelf.put(shards, "packed")

    found = open_source(address)
    fetched = sorted(name for name in shelf.read if name.endswith(ENDINGS[form]))
    again = open_source(shelf.at("packed"))

    assert fetched == sorted(path.name for path in shards.glob(f"*.{ENDINGS[form]}"))
    assert len([name for name in shelf.read if name.endswith(ENDINGS[form])]) == len(fetched), "not a second time"
    assert again.images == found.images and shape(found) == shape(open_source(shards))
    assert not list((Path(shelf.root).parent / "cache").rglob("downloads/*")), "the copies are gone"
    assert not [image for image in inspect(found, workers=0).images if isinstance(image.path, Address)]


def test_only_the_shard_that_changed_is_fetched_again(shelf: Shelf, shards: Path, form: str) -> None:
    address = shelf.put(shards, "packed")
    first, second = sorted(path for path in shards.glob(f"*.{ENDINGS[form]}"))[:2]
    before = open_source(address)
    shelf.read.clear()
    shelf.write(f"packed/{first.name}", second.read_bytes())

    after = open_source(shelf.at("packed"))

    assert [name for name in shelf.read if name.endswith(ENDINGS[form])] == [first.name]
    assert shape(before) != shape(after)
    shutil.copy(second, first)
    assert shape(after) == shape(open_source(shards))


def test_a_pattern_takes_what_it_says(shelf: Shelf, shards: Path, form: str) -> None:
    shelf.put(shards, "packed")
    first, second = sorted(path.stem for path in shards.glob(f"*.{ENDINGS[form]}"))[:2]
    braces = f"packed/{{{first},{second}}}.{ENDINGS[form]}"
    stars = f"packed/*.{ENDINGS[form]}"

    assert shape(open_source(shelf.at(stars))) == shape(open_source(shards))
    assert shape(open_source(shelf.at(braces))) == shape(open_source(shards / Path(braces).name))
    assert run_name(shelf.at(stars), None) == run_name(shelf.at(braces), None) == "packed"
    with pytest.raises(InputError, match=r"there is no file memory://.*/more-1\."):
        open_source(shelf.at(f"packed/more-{{1..2}}.{ENDINGS[form]}"))
    with pytest.raises(InputError, match=r"no files match memory://.*/none-\*"):
        open_source(shelf.at(f"packed/none-*.{ENDINGS[form]}"))


def test_a_kill_costs_the_shard_it_met(shelf: Shelf, shards: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = shelf.put(shards, "packed")
    unpack, unpacked = unpacked_shards._unpack, []

    def killed(path: Path, *arguments: Any) -> Any:
        if len(unpacked) == 2:
            raise KeyboardInterrupt
        unpacked.append(path.name)
        return unpack(path, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(unpacked_shards, "_unpack", killed)
        open_source(address)
    shelf.read.clear()

    assert shape(open_source(shelf.at("packed"))) == shape(open_source(shards))
    assert not set(shelf.read) & set(unpacked)


def test_columns_are_named_behind_an_address(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pack(photos, tmp_path / "shards", "parquet", TrainConfig())
    (file,) = (tmp_path / "shards").glob("*.parquet")
    table = parquet.read_table(file)
    parquet.write_table(table.rename_columns(["front", *table.column_names[1:]]).append_column(
        "back", table.column("image")), file)  # fmt: skip
    address = shelf.put(tmp_path / "shards", "packed")

    with pytest.raises(InputError, match=r"^no column of memory://.*parquet is surely the image"):
        open_source(address / file.name)
    found = open_source(shelf.at(f"packed/{file.name}::image=back,label=class"))

    assert len(found.images) == 61 and set(found.classes) == {"bar & co", "disc", "frame"}
    with pytest.raises(InputError, match=r"^the column 'key' of memory://"):
        open_source(shelf.at(f"packed/{file.name}::image=key"))


def test_a_damaged_shard_is_named_by_its_address(shelf: Shelf, shards: Path, form: str) -> None:
    first = min(shards.glob(f"*.{ENDINGS[form]}"))
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    address = shelf.put(shards, "packed")

    with pytest.raises(InputError, match=rf"^memory://.*/packed/{first.name} is damaged"):
        open_source(address)


class _Served(SimpleHTTPRequestHandler):
    """Files of a folder; a folder itself is nobody's business."""

    def send_head(self) -> Any:
        self.server.asked.append((self.command, self.path))  # type: ignore[attr-defined]
        if self.path.endswith("/"):
            self.send_error(403)
            return None
        return super().send_head()

    def log_message(self, *_: object) -> None: ...


def test_shards_of_a_web_server_that_lists_nothing(
    shards: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    first, second = sorted(path.stem for path in shards.glob(f"*.{ENDINGS[form]}"))[:2]
    names = f"{{{first},{second}}}.{ENDINGS[form]}"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Served, directory=str(shards))) as server:
        asked = server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = open_source(place(f"http://127.0.0.1:{server.server_port}/{names}"))
        read = [path for command, path in asked if command == "GET" and not path.endswith((".txt", ".json"))]
        asked.clear()
        again = open_source(place(f"http://127.0.0.1:{server.server_port}/{names}"))
        server.shutdown()

    assert sorted(read) == sorted(f"/{stem}.{ENDINGS[form]}" for stem in (first, second))
    assert {command for command, path in asked if path.endswith(ENDINGS[form])} == {"HEAD"}
    assert shape(found) == shape(again) == shape(open_source(shards / names))


Make = Callable[[Shelf, Path, Path], tuple[Path | None, Path | None]]


def rows(photos: Path, before: str) -> bytes:
    named = (path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.*")) if path.suffix != ".db")
    return "".join(["path,label\n", *(f"{before}{name},{name.split('/')[0]}\n" for name in named)]).encode()


def beside(shelf: Shelf, photos: Path, here: Path) -> tuple[Path | None, Path | None]:
    return shelf.write("photos/labels.csv", rows(photos, "")), None


def above(shelf: Shelf, photos: Path, here: Path) -> tuple[Path | None, Path | None]:
    return shelf.write("tables/labels.csv", rows(photos, "../photos/")), None


def of_addresses(shelf: Shelf, photos: Path, here: Path) -> tuple[Path | None, Path | None]:
    (here / "labels.csv").write_bytes(rows(photos, f"memory://{shelf.root}/photos/"))
    return here / "labels.csv", None


def with_a_folder(shelf: Shelf, photos: Path, here: Path) -> tuple[Path | None, Path | None]:
    (here / "labels.csv").write_bytes(rows(photos, ""))
    return shelf.at("photos"), here / "labels.csv"


def without_a_folder(shelf: Shelf, photos: Path, here: Path) -> tuple[Path | None, Path | None]:
    return None, shelf.write("photos/labels.csv", rows(photos, ""))


@pytest.mark.parametrize("make", [beside, above, of_addresses, with_a_folder, without_a_folder])
def test_a_table_and_its_images_may_be_at_addresses(shelf: Shelf, photos: Path, tmp_path: Path, make: Make) -> None:
    (tmp_path / "local.csv").write_bytes(rows(photos, f"{photos}/"))
    shelf.put(photos, "photos")
    data, csv = make(shelf, photos, tmp_path)

    found, local = open_source(data, csv=csv), open_source(tmp_path / "local.csv")
    keys = [[image.key for image in inspect(images, workers=0).usable] for images in (found, local)]

    assert shape(found) == shape(local)
    assert {str(image.path).rpartition("/photos/")[0] for image in found.images} == {f"memory://{shelf.root}"}
    assert keys[0] == keys[1] and len(keys[0]) == 61
    assert run_name(data, csv) == ("photos" if make is with_a_folder else "labels")


def test_a_table_at_an_address_says_which_files_are_missing(shelf: Shelf, photos: Path) -> None:
    shelf.put(photos, "photos")
    some = shelf.write("photos/some.csv", rows(photos, "").replace(b"disc 3.png", b"gone.png"))
    all_ = shelf.write("photos/all.csv", rows(photos, "elsewhere/"))

    found = inspect(open_source(some), workers=0)

    assert [image.path.name for image in found.images if image not in found.usable] == ["broken.jpg", "gone.png"]
    with pytest.raises(InputError, match=r"^62 of the 62 files that memory://.*/all.csv names are not there"):
        open_source(all_)
    with pytest.raises(InputError, match=r"^two tables are given"):
        open_source(all_, csv=some)
    with pytest.raises(InputError, match=r"nothing at memory://.*/none.csv"):
        open_source(shelf.at("photos/none.csv"))


@pytest.mark.slow
def test_a_run_on_a_table_of_addresses_finds_its_images_again(shelf: Shelf, photos: Path, tmp_path: Path) -> None:
    shelf.put(photos, "photos")
    table, _ = of_addresses(shelf, photos, tmp_path)
    out = tmp_path / "run"

    done = imgclf_here("train", "--csv", table, "--out", out, *TINY, "--formats", "float32", "--quiet")
    again = imgclf_here("evaluate", out, "--quiet", "--format", "json")
    packed = imgclf_here("data", "pack", table, "--split", out, "--out", tmp_path / "packed", "--format", "webdataset")

    assert done.returncode == again.returncode == packed.returncode == 0, done.stderr + again.stderr + packed.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert json.loads(again.stdout)["accuracy"] == metrics["accuracy"]
    assert f"{metrics['n']} test" in packed.stdout
    assert f"memory://{shelf.root}/photos/disc/" in (out / "split.csv").read_text()
