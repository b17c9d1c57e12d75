"""Runs at addresses: fsspec's memory, and a bucket of a server on this computer behind a proxy that fails on demand."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import imgclf
from imgclf import runs
from imgclf.errors import InputError
from imgclf.storage import mirror
from imgclf.storage.places import place
from tests.conftest import TINY, imgclf_here
from tests.storage.faulty_proxy import Proxy

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


class Shelf:
    """A folder of fsspec's memory, with a run put there by hand."""

    def __init__(self, root: str) -> None:
        self.root, self.files = root, fsspec.filesystem("memory")

    @property
    def names(self) -> set[str]:
        return {name.removeprefix(f"/{self.root}/") for name in self.files.find(f"/{self.root}")}

    def put(self, name: str, data: bytes) -> None:
        self.files.pipe_file(f"/{self.root}/{name}", data)

    def get(self, name: str) -> bytes:
        return bytes(self.files.cat_file(f"/{self.root}/{name}"))

    @property
    def address(self) -> str:
        return f"memory://{self.root}"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """An empty place in memory, and an empty cache."""
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    return Shelf(f"{tmp_path.name}/runs & more/first")


@pytest.fixture
def filled(shelf: Shelf, run: Path) -> Shelf:
    """The run of `training` in memory."""
    for path in run.rglob("*"):
        if path.is_file() and path.name != runs.LOCK:
            shelf.put(path.relative_to(run).as_posix(), path.read_bytes())
    return shelf


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects in memory whose content is asked for, as they are."""
    asked: list[str] = []
    kind = type(fsspec.filesystem("memory"))
    plain = kind.cat_file

    def cat_file(self, path, *arguments, **options):  # type: ignore[no-untyped-def]
        asked.append(path)
        return plain(self, path, *arguments, **options)

    monkeypatch.setattr(kind, "cat_file", cat_file)
    return asked


def test_what_a_run_there_answers_is_what_it_answers_here(
    filled: Shelf, run: Path, photos: Path, read: list[str]
) -> None:
    images = (photos / "disc", "--format", "csv", "--quiet")
    here, there = imgclf_here("predict", run, *images), imgclf_here("predict", filled.address, *images)
    names = {name.removeprefix(f"/{filled.root}/") for name in read}
    measured = [imgclf_here("evaluate", place, "--quiet").stdout for place in (run, filled.address)]

    assert there.stdout == here.stdout and there.stdout
    assert names == {"state.json", "config.json", "classes.txt", "calibration.json", "metrics.json", "model.keras"}
    assert measured[0] == measured[1] != ""
    again = [name for name in read if name.endswith("model.keras")]
    assert len(again) == 1, "what has not changed comes out of the cache"


def test_a_model_file_there_finds_its_classes(filled: Shelf, run: Path, photos: Path) -> None:
    image = str(photos / "disc" / "disc 3.png")
    expected = imgclf.load(run / "exports" / "model_float32.tflite").predict(image)

    for name in ("exports/model_float32.tflite", "model.keras"):
        found = imgclf.load(f"{filled.address}/{name}")
        assert found.classes == ("bar & co", "disc", "frame")
        assert found.predict(image)[0].scores == pytest.approx(expected[0].scores, abs=1e-4)


def test_the_report_goes_back_and_only_what_changed(filled: Shelf, run: Path) -> None:
    filled.put("report.html", b"old")
    kept = filled.get("state.json"), filled.get("metrics.json")

    done = imgclf_here("report", filled.address)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{filled.address}/report.html", f"{filled.address}/MODEL_CARD.md"]
    assert filled.get("report.html").startswith(b"<!") and b"mirrors" not in filled.get("report.html")
    assert (filled.get("state.json"), filled.get("metrics.json")) == kept
    assert filled.names == {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} - {".lock"}


def make(root: Path, **files: str) -> None:
    """A run as a training would make it, with the files of a stage and temporary ones."""
    run = runs.Run.create(root, overwrite=True)
    runs.write_text(run / runs.STAGE / "train" / "x.png", "never")
    (root / ".half.part").write_text("never")
    for name, text in files.items():
        runs.write_text(root / name.replace("__", "/").replace("_txt", ".txt"), text)
    run.set_state("done", folder=str(root))


def test_what_was_there_goes_when_it_is_replaced_and_nothing_else(shelf: Shelf) -> None:
    with mirror.making(place(shelf.address)) as root:
        make(root, classes_txt="a\nb\n", heat__1_txt="old", exports__m="old")
    first = shelf.names
    shelf.put("notes of somebody.txt", b"mine")

    refused = pytest.raises(InputError, match=f"{shelf.address} exists already; use --overwrite")
    with refused, mirror.making(place(shelf.address)):
        pytest.fail("it is there")
    with pytest.raises(ZeroDivisionError), mirror.making(place(shelf.address), overwrite=True):
        raise ZeroDivisionError  # before the new run is begun, such as when its images are no good
    untouched = shelf.names
    with mirror.making(place(shelf.address), overwrite=True) as root:
        assert (root / "classes.txt").read_text() == "a\nb\n"
        make(root, exports__m="new")

    assert first == {"classes.txt", "heat/1.txt", "exports/m", "state.json"}
    assert untouched == {*first, "notes of somebody.txt"}
    assert shelf.names == {"exports/m", "state.json", "notes of somebody.txt"}
    assert shelf.get("exports/m") == b"new"
    assert json.loads(shelf.get("state.json"))["folder"] == shelf.address


def test_done_comes_last_also_where_an_earlier_run_was_done(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    with mirror.making(place(shelf.address)) as root:
        make(root, exports__m="old", heat__1_txt="old")
    seen: list[tuple[str, set[str]]] = []
    kind = type(shelf.files)
    plain = kind.pipe_file

    def pipe_file(self, path, *arguments, **options):  # type: ignore[no-untyped-def]
        plain(self, path, *arguments, **options)
        seen.append((json.loads(shelf.get("state.json"))["state"], shelf.names - {".imgclf"}))

    monkeypatch.setattr(kind, "pipe_file", pipe_file)
    with mirror.making(place(shelf.address), overwrite=True) as root:
        make(root, exports__m="new", classes_txt="a\nb\n")

    states = [state for state, _ in seen]
    assert states == ["done", *["running"] * (len(states) - 2), "done"]  # the first one is the question for permission
    assert seen[-1][1] == {"exports/m", "classes.txt", "state.json"}


def test_a_training_that_leaves_nothing_here_leaves_nothing_there(shelf: Shelf) -> None:
    with pytest.raises(ZeroDivisionError), mirror.making(place(shelf.address)) as root:
        make(root, classes_txt="a\nb\n")
        deadline = time.monotonic() + 60
        runs.Run(root).set_state("running")
        made = {"classes.txt", "state.json"}  # the state goes first
        while not made <= shelf.names and time.monotonic() < deadline:
            threading.Event().wait(0.1)
        begun = shelf.names
        for name in made:  # as `guarded` does
            (root / name).unlink()
        raise ZeroDivisionError

    assert made <= begun
    assert shelf.names == set()


def test_another_computer_that_is_training_is_left_alone(filled: Shelf) -> None:
    state = json.loads(filled.get("state.json"))
    alive = {**state, "state": "running", "host": "elsewhere", "alive": runs.timestamp()}
    filled.put("state.json", json.dumps(alive).encode())

    refused = imgclf_here("train", "--resume", filled.address)
    filled.put("state.json", json.dumps({**alive, "alive": "2024-01-01T00:00:00+0000"}).encode())
    with mirror.writing(filled.address) as root:
        with pytest.raises(InputError, match="another process is training in memory://"), mirror.making(
            place(filled.address), overwrite=True
        ):  # fmt: skip
            pytest.fail("it is held")
        assert (root / "model.keras").is_file()

    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: elsewhere is training in {filled.address} (") and "\n" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_what_is_no_place_for_a_run_is_one_error(filled: Shelf, photos: Path) -> None:
    other = f"{filled.address}-photos"
    Shelf(f"{filled.root}-photos").put("a/1.png", b"x")
    cases = {
        "https://example.invalid/runs/first": "can be read but not written",
        other: "exists and is not a run of imgclf",
        filled.address: "exists already; use --overwrite",
    }
    for address, words in cases.items():
        done = imgclf_here("train", photos, "--out", address, *TINY)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    missing = imgclf_here("predict", f"{filled.address}-2", photos)
    inside = imgclf_here("train", other, "--out", f"{other}/run", *TINY)

    itself = imgclf_here("train", photos, "--out", filled.address, "--overwrite", "--weights", filled.address)

    assert itself.returncode == 2 and "which is to be made" in itself.stderr
    assert missing.returncode == inside.returncode == 2
    assert f"{filled.address}-2 does not exist" in missing.stderr
    assert "lies inside the image folder" in inside.stderr


def test_without_an_address_nothing_of_it_is_imported(run: Path, photos: Path) -> None:
    code = (
        "import sys\nfrom imgclf.cli.main import run\ntry:\n run(sys.argv[1:])\nexcept SystemExit as stop:\n"
        " assert not stop.code\n"
        "print({'fsspec', 's3fs', 'imgclf.storage.returning', 'tensorflow'} & {*sys.modules})"
    )
    model = run / "exports" / "model_float32.tflite"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(model), str(photos / "disc" / "disc 3.png")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout.splitlines()[-1] == "set()", done.stdout + done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[Proxy]:
    """A bucket behind the proxy that AWS_ENDPOINT_URL leads to."""
    import boto3
    import s3fs

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    upstream = moto.get_host_and_port()[1]
    with pytest.MonkeyPatch.context() as patch, Proxy(upstream) as between:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("IMGCLF_REMOTE_SECONDS", "60")
        boto3.client("s3", endpoint_url=f"http://127.0.0.1:{upstream}").create_bucket(Bucket="shelf")
        patch.setenv("AWS_ENDPOINT_URL", between.url)
        s3fs.S3FileSystem.clear_instance_cache()  # one that another test has made leads to its own server
        yield between
        s3fs.S3FileSystem.clear_instance_cache()
    moto.stop()


@pytest.fixture
def bucket(server: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The proxy, well behaved, and an empty cache."""
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    server.behave()
    yield server
    server.behave()


def client(bucket: Proxy):  # type: ignore[no-untyped-def]
    """Straight to the server, past the proxy."""
    import boto3

    return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{bucket.upstream}")


def objects(bucket: Proxy, prefix: str) -> dict[str, bytes]:
    s3 = client(bucket)
    keys = [row["Key"] for row in s3.list_objects_v2(Bucket="shelf", Prefix=prefix).get("Contents", [])]
    return {key.removeprefix(prefix): s3.get_object(Bucket="shelf", Key=key)["Body"].read() for key in keys}


def test_a_place_that_may_not_be_written_is_said_before_the_work(bucket: Proxy, photos: Path) -> None:
    bucket.refused = {"PUT"}

    done = imgclf_here("train", photos, "--out", "s3://shelf/refused", *TINY, "--quiet")

    assert done.returncode == 3
    assert done.stderr.startswith("error: no permission to write s3://shelf/refused") and "AWS_" in done.stderr
    assert done.stderr.count("\n") == 1
    assert objects(bucket, "refused/") == {}


def test_what_cannot_go_back_at_the_end_is_kept_here(bucket: Proxy) -> None:
    raised = pytest.raises(imgclf.SetupError, match="no permission to write")
    with raised as caught, mirror.making(place("s3://shelf/lost")) as root:
        bucket.refused = {"PUT"}
        make(root, classes_txt="a\nb\n")

    assert f"the run is kept in {root}" in str(caught.value)
    assert (root / "classes.txt").read_text() == "a\nb\n"


def test_who_may_write_but_not_remove_is_told_what_is_left(bucket: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    bucket.refused = {"DELETE"}
    with mirror.making(place("s3://shelf/kept")) as root:
        make(root, classes_txt="a\nb\n")

    assert set(objects(bucket, "kept/")) == {".imgclf", "classes.txt", "state.json"}
    assert "no permission to remove s3://shelf/kept/.imgclf" in capsys.readouterr().err
    with mirror.writing("s3://shelf/kept") as root:
        assert {path.name for path in root.iterdir()} == {"classes.txt", "state.json"}


@pytest.mark.slow
def test_a_training_there_is_that_of_the_folder_while_every_tenth_request_fails(
    bucket: Proxy, run: Path, photos: Path
) -> None:
    bucket.fail_every = 10
    over, states = threading.Event(), dict[str, set[str]]()

    def look() -> None:
        s3 = client(bucket)
        while not over.wait(0.2):
            try:
                state = json.loads(s3.get_object(Bucket="shelf", Key="runs/first/state.json")["Body"].read())["state"]
            except s3.exceptions.NoSuchKey:
                continue
            found = s3.list_objects_v2(Bucket="shelf", Prefix="runs/first/")["Contents"]
            states.setdefault(state, {row["Key"].removeprefix("runs/first/") for row in found})

    reader = threading.Thread(target=look)
    reader.start()
    done = imgclf_here("train", photos, "--out", "s3://shelf/runs/first", *TINY, "--formats", "float32", "--quiet")
    found = objects(bucket, "runs/first/")
    over.wait(0.5)
    over.set()
    reader.join()

    assert done.returncode == 0, done.stderr
    assert bucket.counts["failed"] > 3
    assert "  report   s3://shelf/runs/first/report.html" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("next: imgclf predict s3://shelf/runs/first/exports/")
    same = ("split.csv", "classes.txt", "metrics.json", "predictions.csv", "calibration.json", "slices.json")
    for name in same:
        assert (name in found) == (run / name).is_file() and found.get(name) == (
            (run / name).read_bytes() if name in found else None
        ), name
    local = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    of_formats = {name for name in local if name.endswith(".tflite")} - {"exports/model_float32.tflite"}
    assert set(found) | {".lock"} == local - of_formats
    config = json.loads(found["config.json"])
    assert config["settings"]["backbone"] == "tiny" and config["data"]["folder"] == str(photos)
    assert not [name for name, data in found.items() if b"mirrors/" in data]
    assert "running" in states
    assert states.get("done", set(found)) >= set(found)
    image = photos / "disc" / "disc 3.png"
    answers = [imgclf_here("predict", place, image, "--quiet").stdout for place in (run, "s3://shelf/runs/first")]
    assert answers[0] == answers[1] != ""
    classifier = imgclf.load("s3://shelf/runs/first")
    assert repr(classifier).startswith("<imgclf.Classifier s3://shelf/runs/first:")
    assert classifier.is_exported
    assert classifier.export("float16")[0].path.name == "model_float16.tflite"
    assert set(objects(bucket, "runs/first/")) == {*found, "exports/model_float16.tflite"}


KILLED = """
import os, signal, sys, threading
from imgclf.storage import returning
from imgclf.training import checkpoint
put, save, there = returning.put, checkpoint.save, threading.Event()
def putting(address, data):
    put(address, data)
    if address.name == checkpoint.FILE:
        there.set()
def saving(*arguments):
    save(*arguments)
    if there.wait(100):
        os.kill(os.getpid(), signal.SIGKILL)
returning.put, checkpoint.save = putting, saving
from imgclf.cli.main import run
run(sys.argv[1:])
"""  # killed as soon as its first checkpoint is at the address


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills like a power cut")
def test_a_training_that_was_killed_goes_on_on_another_computer(
    bucket: Proxy, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "train", str(photos), "--out", "s3://shelf/killed", *TINY, "--formats", ""],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    there = objects(bucket, "killed/")
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "another"))

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert json.loads(there["state.json"])["state"] == "running"
    assert {"config.json", "split.csv", "checkpoints/latest.npz"} <= set(there)
    done = imgclf_here("train", "--resume", "s3://shelf/killed")
    after = objects(bucket, "killed/")

    assert done.returncode == 0, done.stderr
    assert "going on with s3://shelf/killed: imgclf train" in done.stderr
    assert json.loads(after["state.json"])["state"] == "done"
    assert not [name for name in after if name.startswith(("checkpoints/", "stage/", "."))]
    rows = list(csv.DictReader(after["history.csv"].decode().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
