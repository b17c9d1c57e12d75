import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgclf.data import inspect as inspecting
from imgclf.data import known as knowing
from imgclf.data.imageset import Examined
from imgclf.data.inspect import inspect
from imgclf.data.known import NAME, Known, Stamp
from tests.data.drawing import images_of, looks, save, texture


@pytest.fixture
def photos(tmp_path):
    for number in range(4):
        save(texture(number), tmp_path / "photos" / "ab"[number % 2] / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def reading(monkeypatch):
    """The names of the files that are read from here on."""
    read, examine = [], inspecting.examine

    def noted(path):
        read.append(Path(path).name)
        return examine(path)

    monkeypatch.setattr(inspecting, "examine", noted)
    return read


def checked(photos, cache):
    with Known.open(cache) as known:
        return inspect(images_of(photos), 0, known)


def picture(name, **others):
    return Examined(f"key {name}", "JPEG", 3, 2, "repairable", "CMYK", True, looks(name, **others))


def stamp(name, mtime=1):
    return Stamp(f"/photos/{name}.jpg", 5, mtime, 2)


def entry(name, thumbnail=None, **others):
    return stamp(name), picture(name, **others), thumbnail


def test_unchanged_files_are_not_read_again(photos, tmp_path, reading):
    first = checked(photos, tmp_path)
    assert sorted(reading) == ["0.png", "1.png", "2.png", "3.png"]
    reading.clear()
    assert checked(photos, tmp_path) == first
    assert reading == []


def test_only_changed_new_and_unreadable_files_are_read(photos, tmp_path, reading):
    (photos / "a/broken.png").write_bytes(b"no image")
    checked(photos, tmp_path)
    reading.clear()
    save(texture(9), photos / "a/0.png")  # other content
    times = (photos / "b/1.png").stat()
    os.utime(photos / "b/1.png", ns=(times.st_atime_ns, times.st_mtime_ns + 1))  # another time
    (photos / "a/2.png").write_bytes((photos / "a/2.png").read_bytes() + b"x")
    os.utime(photos / "a/2.png", ns=(0, 10**18))
    save(texture(10), photos / "b/4.png")  # new
    after = checked(photos, tmp_path)
    assert sorted(reading) == ["0.png", "1.png", "2.png", "4.png", "broken.png"]
    assert after == checked(photos, tmp_path / "empty cache")


@pytest.mark.parametrize("changed", [{"size": 6}, {"mtime": 9}, {"ctime": 9}, {"path": "/photos/b.jpg"}])
def test_every_part_of_the_stamp_counts(tmp_path, changed):
    with Known.open(tmp_path) as known:
        known.add([entry("a")])
        assert known.find([stamp("a")]) == {"/photos/a.jpg": picture("a")}
        assert known.find([replace(stamp("a"), **changed)]) == {}


def test_a_relative_path_means_the_folder_that_one_is_in(photos, tmp_path, monkeypatch):
    save(texture(1), photos / "b/0.png")
    with Known.open(tmp_path) as known:
        known.add([(Stamp.of(photos / "a/0.png"), picture("x"), None)])
        monkeypatch.chdir(photos / "a")
        assert list(known.find([Stamp.of(Path("0.png"))])) == [str(photos / "a/0.png")]
        monkeypatch.chdir(photos / "b")
        assert known.find([Stamp.of(Path("0.png"))]) == {}
    assert Stamp.of(Path("absent.png")) is Stamp.of(Path("a\0b")) is None


def test_pictures_thumbnails_and_memos_round_trip(tmp_path):
    grey = np.arange(64 * 64, dtype=np.uint16).astype(np.uint8).reshape(64, 64)
    large = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    with Known.open(tmp_path) as known:
        known.add(entry(f"p{value}", grey if value else None, phash=value) for value in large)
        known.note("pairs 1", "digest", '["\\u00e9", 1]')
        known.note("pairs 1", "digest", "again")
    with Known.open(tmp_path) as known:
        found = known.find([stamp(f"p{value}") for value in large])
        assert {path: each.looks.phash for path, each in found.items()} == {f"/photos/p{v}.jpg": v for v in large}
        assert found["/photos/p0.jpg"] == picture("p0", phash=0)
        keys = [f"key p{value}" for value in large]
        thumbnails = known.thumbnails([*keys, "unknown"])
        assert sorted(thumbnails) == sorted(keys[1:])
        assert all(np.array_equal(each, grey) for each in thumbnails.values())
        assert known.has_thumbnails(keys[1:]) and not known.has_thumbnails(keys)
        assert known.recall("pairs 1", "digest") == "again"
        assert known.recall("pairs 2", "digest") is known.recall("pairs 1", "other") is None


def test_more_values_than_one_query_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(knowing, "AT_ONCE", 7)
    names = [f"p{number}" for number in range(50)]
    with Known.open(tmp_path) as known:
        known.add(entry(name, np.full((64, 64), number, np.uint8)) for number, name in enumerate(names))
        assert len(known.find([stamp(name) for name in names])) == 50
        thumbnails = known.thumbnails([f"key {name}" for name in names])
    assert [int(thumbnails[f"key {name}"][0, 0]) for name in names] == list(range(50))


def test_names_that_are_no_unicode(tmp_path):
    odd = Stamp("/photos/caf\udce9\n.jpg", 1, 2, 3)
    with Known.open(tmp_path) as known:
        known.add([(odd, picture("a"), None)])
    with Known.open(tmp_path) as known:
        assert known.find([odd]) == {odd.path: picture("a")}


def test_two_connections_at_once_see_what_the_other_has_found(tmp_path):
    with Known.open(tmp_path) as one, Known.open(tmp_path) as other:
        one.add([entry("a")])
        other.add([entry("b")])
        assert one.find([stamp("b")]) == {"/photos/b.jpg": picture("b")}
        assert other.find([stamp("a")]) == {"/photos/a.jpg": picture("a")}


WRITER = """
import sys
from pathlib import Path
from imgclf.data.known import Known
from tests.data.test_known import entry
with Known.open(Path(sys.argv[1])) as known:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(30):
        known.add([entry(f"{sys.argv[2]}{number}")])
"""


def test_processes_that_start_with_an_empty_cache_and_write_together_lose_nothing(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        for name in "xyz"
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout.readline().strip() == b"open"
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with Known.open(tmp_path) as known:
        assert len(known.find([stamp(f"{name}{number}") for name in "xyz" for number in range(30)])) == 90


def test_two_that_find_no_file_at_the_same_moment_both_use_the_one_that_is_made(tmp_path, monkeypatch):
    version, asked = knowing._version, []

    def late(connection):
        """The other process makes the file just after this one has seen that there is none."""
        found = version(connection)
        if not asked:
            asked.append(True)
            with Known.open(tmp_path) as other:
                other.add([entry("a")])
        return found

    monkeypatch.setattr(knowing, "_version", late)
    with Known.open(tmp_path) as known:
        assert known.find([stamp("a")])
        known.add([entry("b")])
    with Known.open(tmp_path) as known:
        assert len(known.find([stamp("a"), stamp("b")])) == 2


def filled(folder, number=60):
    with Known.open(folder) as known:
        known.add(entry(f"p{each}", np.full((64, 64), each, np.uint8)) for each in range(number))
    return folder / NAME


def remembers(folder, number=60):
    with Known.open(folder) as known:
        return len(known.find([stamp(f"p{each}") for each in range(number)]))


@pytest.mark.parametrize("damage", ["foreign", "cut", "header"])
def test_a_damaged_file_is_begun_anew(tmp_path, damage):
    path = filled(tmp_path)
    data = path.read_bytes()
    path.write_bytes(
        {"foreign": b"not a database " * 999, "cut": data[:9000], "header": b"\0" * 100 + data[100:]}[damage]
    )
    with Known.open(tmp_path) as known:
        assert known.find([stamp("p1")]) == {}
        known.add([entry("p1")])
    assert remembers(tmp_path) == 1


@pytest.mark.parametrize("table", ["files", "pictures", "thumbnails"])
def test_damage_in_the_middle_is_noticed_and_heals(tmp_path, table):
    path = filled(tmp_path)
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(data)
    names = [f"p{each}" for each in range(60)]
    with Known.open(tmp_path) as known:
        assert known.find([stamp(name) for name in names]) == {} or table == "thumbnails"
        known.add([entry(name, np.ones((64, 64), np.uint8)) for name in names])
        assert len(known.thumbnails([f"key {name}" for name in names])) == 60  # this process goes on
    with Known.open(tmp_path) as known:
        known.add([entry("p1")])
    assert remembers(tmp_path) == 1


def test_the_good_file_of_another_process_is_not_deleted(tmp_path, monkeypatch):
    (tmp_path / NAME).write_bytes(b"not a database " * 999)
    version, asked = knowing._version, []

    def late(connection):
        """Another process replaces the damaged file while this one is looking at it."""
        if not asked:
            asked.append(True)
            (tmp_path / NAME).rename(tmp_path / "old")
            with Known.open(tmp_path) as other:
                other.add([entry("p1")])
        return version(connection)

    monkeypatch.setattr(knowing, "_version", late)
    with Known.open(tmp_path) as known:
        assert known.find([stamp("p1")])
    assert remembers(tmp_path) == 1


def test_another_version_drops_everything(tmp_path, monkeypatch):
    filled(tmp_path)
    with Known.open(tmp_path) as known:
        known.note("pairs", "digest", "[]")
    monkeypatch.setattr(knowing, "VERSION", "2 another decoder")
    with Known.open(tmp_path) as known:
        assert known.find([stamp("p1")]) == known.thumbnails(["key p1"]) == {}
        assert known.recall("pairs", "digest") is None
        known.add([entry("p1")])
    assert remembers(tmp_path) == 1


def test_what_an_older_version_is_still_writing_does_not_get_into_the_new_file(tmp_path, monkeypatch):
    with Known.open(tmp_path) as older:
        with monkeypatch.context() as patch:
            patch.setattr(knowing, "VERSION", "2 another decoder")
            with Known.open(tmp_path) as newer:
                newer.add([entry("p1")])
        older.add([entry("p2", np.ones((64, 64), np.uint8))])
        older.note("pairs", "digest", "[]")
        assert older.thumbnails(["key p2"])["key p2"].all()
        assert older.recall("pairs", "digest") is None
    monkeypatch.setattr(knowing, "VERSION", "2 another decoder")
    assert remembers(tmp_path) == 1


def test_a_foreign_database_is_begun_anew(tmp_path):
    with sqlite3.connect(tmp_path / NAME) as foreign:
        foreign.execute('CREATE TABLE "files" (a)')
        foreign.execute('CREATE TABLE "two words" (b)')
    foreign.close()
    filled(tmp_path)
    assert remembers(tmp_path) == 60


@pytest.mark.parametrize("obstacle", ["file for folder", "folder for file"])
def test_an_unwritable_place_means_memory_only(tmp_path, obstacle):
    cache = tmp_path / "cache"
    if obstacle == "file for folder":
        cache.write_text("in the way")
    else:
        (cache / NAME).mkdir(parents=True)
    with Known.open(cache) as known:
        known.add([entry("a", np.ones((64, 64), np.uint8))])
        assert known.find([stamp("a")]) and known.thumbnails(["key a"])
    with Known.open(cache) as known:
        assert known.find([stamp("a")]) == {}
    assert (cache / NAME).is_dir() or cache.read_text() == "in the way"


def test_what_cannot_be_written_is_kept_for_this_process(tmp_path, monkeypatch):
    monkeypatch.setattr(knowing, "BUSY", 0.0)
    filled(tmp_path)
    with Known.open(tmp_path) as known:
        other = sqlite3.connect(tmp_path / NAME)
        other.execute("BEGIN IMMEDIATE")
        known.add([entry("new", np.ones((64, 64), np.uint8))])
        known.note("pairs", "digest", "[]")
        assert known.find([stamp("new")]) == {}
        assert known.thumbnails(["key new", "key p1"])["key new"].all()
        assert known.has_thumbnails(["key new", "key p1"])
        other.rollback()
        other.close()
        assert known.recall("pairs", "digest") is None
    assert remembers(tmp_path) == 60


def test_beyond_its_bound_the_longest_unused_goes(tmp_path, monkeypatch):
    day = [100]
    monkeypatch.setattr(knowing, "_today", lambda: day[0])
    path = filled(tmp_path, 40)
    day[0] = 200
    used = [stamp(f"p{each}") for each in range(0, 40, 2)]
    with Known.open(tmp_path) as known:
        known.find(used)
    before = path.stat().st_size
    monkeypatch.setattr(knowing, "MOST_BYTES", before - 1)
    with Known.open(tmp_path):
        pass
    assert path.stat().st_size < before
    with Known.open(tmp_path) as known:
        assert len(known.find(used)) == 20
        left = known.find([stamp(f"p{each}") for each in range(1, 40, 2)])
        assert len(left) == 20 - 11  # a quarter and one
        assert len(known.thumbnails([f"key p{each}" for each in range(40)])) == 29


def test_what_was_found_before_an_interruption_is_kept(photos, tmp_path, reading, monkeypatch):
    noted = inspecting.examine

    def interrupted(path):
        if len(reading) == 3:
            raise KeyboardInterrupt
        return noted(path)

    with monkeypatch.context() as patch:
        patch.setattr(inspecting, "examine", interrupted)
        with pytest.raises(KeyboardInterrupt):
            checked(photos, tmp_path)
    reading.clear()
    checked(photos, tmp_path)
    assert len(reading) == 1
