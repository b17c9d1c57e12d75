"""The store of activations: no TensorFlow is needed here, and none is imported."""

import errno
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgclf.cut import room, store
from imgclf.cut.room import clear, limit_bytes, make_room, usage
from imgclf.cut.store import Space
from imgclf.errors import InputError

SHAPE = (2, 3)
ROW = 6 * 4  # bytes of one float32 row


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of its own for every test."""
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(room.LIMIT_VARIABLE, raising=False)
    return tmp_path / "cache"


def space(network: str = "n", dtype: str = "float32", shape: Sequence[int] = SHAPE) -> Space:
    return Space({"network": network}, shape, dtype)


def row(key: str) -> Any:
    """What belongs to a key, always the same: the store is keyed by content."""
    return np.random.default_rng(list(key.encode())).normal(size=SHAPE).astype(np.float32)


def rows(keys: Sequence[str]) -> Any:
    return np.stack([row(key) for key in keys])


def add(where: Space, *segments: Sequence[str]) -> None:
    for keys in segments:
        with where.writing() as writer:
            writer.add(list(keys), rows(keys))


def taken(where: Space, keys: Sequence[str]) -> Any:
    found = where.find(list(keys))
    assert found.missing == []
    return found.take(np.arange(len(found)))


def test_rows_come_back_in_the_order_asked_for_over_several_segments() -> None:
    add(space(), "abc", "de", "f")
    found = space().find(list("fxadxcb"))
    assert found.missing == [1, 4] and len(found) == 7
    np.testing.assert_array_equal(found.take(np.array([6, 0, 3, 2, 0])), rows("bfdaf"))
    assert found.take(np.array([0])).dtype == np.float32


def test_a_row_that_is_missing_is_never_made_up() -> None:
    add(space(), "abc")
    found = space().find(list("axb"))
    with pytest.raises(LookupError):
        found.take(np.array([0, 1, 2]))
    with pytest.raises(LookupError):
        space("empty").find(["a"]).take(np.array([0]))


def test_another_identity_shape_or_dtype_is_another_space() -> None:
    add(space(), "ab")
    for other in (space("m"), space(dtype="float16"), space(shape=(3, 2)), Space({"net": "n"}, SHAPE, "float32")):
        assert other.find(["a", "b"]).missing == [0, 1]
    assert space().find(["a", "b"]).missing == []


def test_half_precision_rounds_and_never_becomes_infinite() -> None:
    half = space(dtype="float16", shape=(4,))
    with half.writing() as writer:
        writer.add(["a"], np.array([[1 / 3, 1e6, -1e6, 70_000.0]], np.float32))
    found = half.find(["a"]).take(np.array([0]))
    np.testing.assert_array_equal(found, [[np.float16(1 / 3), 65504, -65504, 65504]])
    assert found.dtype == np.float32


def files(where: Space, suffix: str) -> list[Path]:
    return sorted(where.folder.glob(f"*{suffix}"))


def test_a_truncated_file_of_rows_is_never_used() -> None:
    add(space(), "abc")
    (file,) = files(space(), store.ROWS)
    file.write_bytes(file.read_bytes()[:-1])
    assert space().find(["a", "b", "c"]).missing == [0, 1, 2]
    add(space(), "abc")  # computed again beside it
    np.testing.assert_array_equal(taken(space(), "cab"), rows("cab"))


@pytest.mark.parametrize("lost", [store.KEYS, store.ROWS])
def test_half_a_segment_is_never_used(lost: str) -> None:
    add(space(), "ab", "c")
    whole = space().find(["a", "c"])
    victim = next(file for file in files(space(), store.KEYS) if "a" in file.read_text().split("\n"))
    victim.with_suffix(lost).unlink()
    assert space().find(["a", "b", "c"]).missing == [0, 1]
    np.testing.assert_array_equal(taken(space(), "c"), rows("c"))
    np.testing.assert_array_equal(whole.take(np.array([1])), rows("c"))
    usage()
    make_room(0)  # nobody stumbles over it


def test_keys_that_are_no_text_are_never_used() -> None:
    add(space(), "ab")
    (file,) = files(space(), store.KEYS)
    file.write_bytes(b"\xff\xfe\x00")
    assert space().find(["a", "b"]).missing == [0, 1]
    usage()


def test_what_is_in_the_middle_of_being_written_is_not_found_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SEGMENT_BYTES", 3 * ROW)
    with space().writing() as writer:
        writer.add(["a", "b"], rows("ab"))
        assert space().find(["a"]).missing == [0]
        writer.add(["c"], rows("c"))  # the segment is full
        assert space().find(["a", "b", "c"]).missing == []
        writer.add(["d"], rows("d"))
    np.testing.assert_array_equal(taken(space(), "dcba"), rows("dcba"))


def test_what_was_added_before_an_error_is_kept() -> None:
    with pytest.raises(RuntimeError), space().writing() as writer:
        writer.add(["a"], rows("a"))
        raise RuntimeError
    np.testing.assert_array_equal(taken(space(), "a"), rows("a"))


def test_the_first_description_stays() -> None:
    space().describe(what="MobileNetV2", engine="LiteRT")
    space().describe(what="other", engine="Keras", more=1)
    assert space().about() == {"what": "MobileNetV2", "engine": "LiteRT", "more": 1}
    (space().folder / store.ABOUT).write_text("[1")
    assert space().about() == {}


# A disk that does not take what it is given


def test_without_a_writable_folder_rows_stay_in_memory(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cache.write_text("a file where the folder should be")
    where = space()
    with where.writing() as writer:
        writer.add(["a", "b"], rows("ab"))
        writer.add(["c"], rows("c"))
    where.describe(what="x")  # no error either
    add(where, "d")
    np.testing.assert_array_equal(taken(where, "dacb"), rows("dacb"))
    assert capfd.readouterr().err.count("kept in memory for this run only") == 1
    assert space().find(["a"]).missing == [0]


class _FullDisk:
    """A file on a disk that is full after so many bytes; what still fits is written, as systems do it."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, content: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        done: int = self.file.write(memoryview(content).cast("B")[: self.room])
        self.room -= done
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 10, 2 * ROW, 2 * ROW + 5, 3 * ROW, 3 * ROW + 1, 5 * ROW - 1])
def test_a_disk_that_fills_up_loses_no_row(
    room: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    opened, plain = [], Path.open

    def limited(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        file = plain(self, mode, *rest, **options)
        if self.suffix != store.ROWS or mode != "xb":
            return file
        opened.append(self)
        return _FullDisk(file, room if len(opened) == 1 else 0)

    monkeypatch.setattr(Path, "open", limited)
    where = space()
    with where.writing() as writer:
        writer.add(["a", "b"], rows("ab"))
        writer.add(["c"], rows("c"))
        writer.add(["d", "e"], rows("de"))
    np.testing.assert_array_equal(taken(where, "edcba"), rows("edcba"))
    assert capfd.readouterr().err.count("kept in memory for this run only") == 1
    assert all(file.with_suffix(store.KEYS).exists() for file in files(where, store.ROWS))


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
def test_a_real_limit_on_the_size_of_files_loses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(store, "warn", lambda line: None)  # pytest catches it in a file, which is limited too

    where = space()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * ROW + 7, before[1]))
    try:
        with where.writing() as writer:
            for key in "abcdefgh":
                writer.add([key], rows(key))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    np.testing.assert_array_equal(taken(where, "hgfedcba"), rows("hgfedcba"))


def test_keys_that_cannot_be_written_leave_the_rows_in_memory(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> Path:
        raise store.runs.disk_error(OSError(errno.ENOSPC, "No space left on device"), path)

    monkeypatch.setattr(store.runs, "write_text", full)
    where = space()
    add(where, "abc", "d")
    np.testing.assert_array_equal(taken(where, "dcba"), rows("dcba"))
    assert capfd.readouterr().err.count("kept in memory for this run only") == 1
    assert not files(where, store.ROWS), "what nobody will read is not left on a full disk"


# The limit


def touch(where: Space, seconds_ago: float) -> None:
    for file in files(where, store.KEYS):
        os.utime(file, (time.time() - seconds_ago,) * 2)


def present(*names: str) -> list[str]:
    return [name for name in names if files(space(name), store.KEYS)]


def test_the_longest_unused_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in ((300, "old"), (200, "middle"), (100, "new")):
        add(space(name), "abcdefghij")
        touch(space(name), age)
    one = sum(item.bytes for item in usage()) // 3
    monkeypatch.setenv(room.LIMIT_VARIABLE, str(3.5 * one / 1e9))
    make_room(0)
    assert present("old", "middle", "new") == ["old", "middle", "new"]
    space("old").find(["c"])  # used now
    make_room(one)
    assert present("old", "middle", "new") == ["old", "new"]
    make_room(2 * one)
    assert present("old", "middle", "new") == ["old"]
    assert not files(space("middle"), store.ROWS) and not files(space("middle"), store.KEYS)


def test_what_is_in_use_can_be_read_to_the_end_though_it_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    add(space(), "abc")
    found = space().find(list("abc"))
    monkeypatch.setenv(room.LIMIT_VARIABLE, "0")
    make_room(1)
    np.testing.assert_array_equal(found.take(np.array([2, 0])), rows("ca"))
    if sys.platform != "win32":
        assert space().find(["a"]).missing == [0]


def test_rows_of_a_killed_process_go_after_an_hour() -> None:
    add(space(), "ab")
    fresh, old = (space().folder / f"{name}{store.ROWS}" for name in ("fresh", "old"))
    for file, age in ((fresh, 60), (old, room.ORPHAN_SECONDS + 60)):
        file.write_bytes(b"1234")
        os.utime(file, (time.time() - age,) * 2)
    make_room(0)
    assert fresh.exists() and not old.exists()
    np.testing.assert_array_equal(taken(space(), "ab"), rows("ab"))


def test_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk:
        free = 6 * 10**9

    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk)
    assert limit_bytes() == 3 * 10**9  # half of what is free
    Disk.free = 10**12
    assert limit_bytes() == 20 * 10**9
    monkeypatch.setenv(room.LIMIT_VARIABLE, "0.5")
    assert limit_bytes() == 500_000_000


@pytest.mark.parametrize("value", ["much", "1,5", "nan", "inf", "-1"])
def test_a_bad_limit_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(room.LIMIT_VARIABLE, value)
    with pytest.raises(InputError, match=f"IMGCLF_CACHE_GB is '{value}'"):
        limit_bytes()


def test_usage_and_clear() -> None:
    assert usage() == [] and clear() == 0
    space("a").describe(what="MobileNetV2 at 224 px, pooled")
    add(space("a"), "abc", "de")
    add(space("b"), "a")
    touch(space("a"), 50)
    first, second = usage()
    assert (first.what, first.rows, second.rows) == ("MobileNetV2 at 224 px, pooled", 5, 1)
    assert second.what == space("b").name and first.used < second.used
    assert first.bytes >= 5 * ROW and second.bytes >= ROW
    whole = sum(file.stat().st_size for file in store.store_folder().rglob("*") if file.is_file())
    assert clear() == whole and not store.store_folder().exists()
    assert usage() == [] and space("a").find(["a"]).missing == [0]


# Several processes

PROGRAM = """
import sys
import numpy as np
from imgclf.cut import store
from imgclf.cut.store import Space

name, first, count, each, segment = sys.argv[1], *map(int, sys.argv[2:6])
store.SEGMENT_BYTES = segment
space = Space({"network": name}, (64,), "float32")
with space.writing() as writer:
    print("ready", flush=True)
    sys.stdin.readline()
    for start in range(first, first + count, each):
        numbers = range(start, min(start + each, first + count))
        rows = np.repeat(np.array(numbers, np.float32)[:, None], 64, axis=1)
        writer.add([f"key {number}" for number in numbers], rows)
        if len(sys.argv) > 6 and start - first >= count // 2:
            print("half", flush=True)
            sys.stdin.readline()  # killed here
"""


def start(*arguments: object) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, arguments)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def processes() -> Iterator[list["subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def numbers_in(where: Space, numbers: Sequence[int]) -> Any:
    found = where.find([f"key {number}" for number in numbers])
    assert found.missing == []
    return found.take(np.arange(len(numbers)))[:, 0].astype(int).tolist()


def test_two_processes_that_write_at_once_lose_nothing(processes: list["subprocess.Popen[str]"]) -> None:
    """Each writes 200 rows of its own and 100 that the other writes too, in some 20 segments."""
    processes += [start("both", first, 300, 7, 64 * 4 * 14) for first in (0, 200)]
    for process in processes:
        go(process)
    assert [process.wait(60) for process in processes] == [0, 0]
    numbers = np.random.default_rng(0).permutation(500).tolist()
    assert numbers_in(Space({"network": "both"}, (64,), "float32"), numbers) == numbers


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_killed_writer_leaves_a_store_that_the_next_completes(processes: list["subprocess.Popen[str]"]) -> None:
    processes.append(start("killed", 0, 400, 3, 64 * 4 * 60, "stop"))
    go(processes[0])
    assert processes[0].stdout is not None and processes[0].stdout.readline() == "half\n"
    processes[0].kill()
    assert processes[0].wait(30) == -signal.SIGKILL
    where = Space({"network": "killed"}, (64,), "float32")
    missing = where.find([f"key {number}" for number in range(400)]).missing
    assert len(missing) == 220, "finished segments are kept, at most one is lost"
    assert len(files(where, store.ROWS)) == len(files(where, store.KEYS)) + 1
    with where.writing() as writer:
        writer.add([f"key {n}" for n in missing], np.repeat(np.array(missing, np.float32)[:, None], 64, axis=1))
    assert numbers_in(where, range(400)) == list(range(400))


KEY = st.sampled_from("abcdefgh") | st.text("0123456789abcdef:/-", min_size=1)  # what keys are made of
ACTION = st.tuples(st.sampled_from(["add", "new segment", "find", "another process"]), st.lists(KEY, max_size=5))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTION))
def test_any_interleaving_gives_every_key_its_row(actions: list[tuple[str, list[str]]]) -> None:
    name = uuid.uuid4()  # every example has a space of its own
    where, known, pending = space(str(name)), set[str](), set[str]()
    writer = store.Writer(where)
    for action, keys in actions:
        if action == "add" and keys:
            writer.add(keys, rows(keys))
            pending |= set(keys)
        elif action == "new segment":
            writer.finish()
            known |= pending
            pending.clear()
        else:
            reader = where if action == "find" else space(str(name))
            found = reader.find(keys)
            assert found.missing == [index for index, key in enumerate(keys) if key not in known]
            here = np.array([index for index, key in enumerate(keys) if key in known], np.int64)
            if len(here):
                np.testing.assert_array_equal(found.take(here), rows([keys[index] for index in here]))
    writer.finish()
    everything = sorted(known | pending)
    if everything:
        np.testing.assert_array_equal(taken(space(str(name)), everything), rows(everything))


def test_a_network_is_converted_once_and_goes_with_what_is_longest_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converting = space()
    converted: list[int] = []

    def convert() -> bytes:
        converted.append(1)
        return b"network" * 100

    assert converting.network(convert) == converting.network(convert) == b"network" * 100
    assert len(converted) == 1
    file = converting.folder / "network.tflite"
    os.utime(file, (1, 1))
    monkeypatch.setenv(room.LIMIT_VARIABLE, "0.000001")
    make_room(500)
    assert not file.exists()
    file.mkdir()  # a place that cannot be written
    assert converting.network(convert) == b"network" * 100
