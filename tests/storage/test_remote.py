"""Images in a bucket of a server on this computer, behind a proxy that counts requests and fails on demand."""

import csv
import json
import logging
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgclf.data import download
from imgclf.data.inspect import inspect
from imgclf.data.scan import scan
from imgclf.data.sources import open_source
from imgclf.errors import InputError, SetupError
from imgclf.storage import bytecache
from imgclf.storage.places import Address, Found, place
from tests.conftest import TINY, draw, imgclf_here
from tests.storage.faulty_proxy import Proxy

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

ROOT = "s3://bucket/photos"


@pytest.fixture(scope="module")
def proxy(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The photos in a bucket, also as a zip; AWS_ENDPOINT_URL leads to the proxy."""
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    upstream = server.get_host_and_port()[1]
    archive = tmp_path_factory.mktemp("zip") / "photos.zip"
    with pytest.MonkeyPatch.context() as patch, Proxy(upstream) as between, zipfile.ZipFile(archive, "w") as packed:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("IMGCLF_REMOTE_SECONDS", "60")
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{upstream}")
        client.create_bucket(Bucket="bucket", ACL="public-read")
        for path in sorted(photos.rglob("*")):
            if path.is_file():
                name = path.relative_to(photos).as_posix()
                client.put_object(Bucket="bucket", Key=f"photos/{name}", Body=path.read_bytes())
                packed.write(path, name)
        client.put_object(Bucket="bucket", Key="photos/disc/", Body=b"")  # as a console makes a folder
        packed.close()
        client.put_object(Bucket="bucket", Key="photos.zip", Body=archive.read_bytes(), ACL="public-read")
        patch.setenv("AWS_ENDPOINT_URL", between.url)
        yield between
    server.stop()


@pytest.fixture
def bucket(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The proxy, well behaved, and an empty cache."""
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    proxy.behave()
    return proxy


def test_a_check_finds_what_it_finds_in_the_folder_and_then_reads_the_listing_only(bucket: Proxy, photos: Path) -> None:
    local = json.loads(imgclf_here("check", photos, "--format", "json", "--quiet").stdout)

    first = imgclf_here("check", ROOT, "--format", "json", "--quiet")
    images = bucket.counts["GET"]
    bucket.counts.clear()
    second = imgclf_here("check", ROOT, "--format", "json", "--quiet")

    assert first.returncode == second.returncode == 0, first.stderr
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert json.loads(first.stdout.replace(ROOT, str(photos))) == local
    assert images == len(scan(photos).images)
    assert (bucket.counts["GET"], bucket.counts["LIST"]) == (0, 5), bucket.counts  # the broken one is in the cache
    assert bucket.most_at_once > 4


@pytest.mark.parametrize("fault", ["fail_every", "cut_every"])
def test_what_fails_by_chance_is_read_again(bucket: Proxy, photos: Path, fault: str) -> None:
    setattr(bucket, fault, 5)
    found = inspect(scan(ROOT))

    assert [image.key for image in found.images] == [image.key for image in inspect(scan(photos)).images]
    assert bucket.counts["GET"] > len(found.images)


def test_a_server_that_stalls_ends_in_one_error(bucket: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGCLF_REMOTE_SECONDS", "2")
    bucket.stall_after = 20
    start = time.monotonic()

    done = imgclf_here("check", ROOT, "--quiet")

    assert done.returncode == 3
    assert done.stderr.count("error:") == 1 and "did not answer in time" in done.stderr, done.stderr
    assert time.monotonic() - start < 30


def test_a_missing_permission_is_one_error(bucket: Proxy) -> None:
    bucket.fail_every, bucket.status = 1, 403

    done = imgclf_here("check", ROOT, "--quiet")

    assert done.returncode == 3
    assert done.stderr.startswith("error: no permission to read s3://bucket/photos") and "AWS_" in done.stderr
    assert bucket.counts["all"] < 10  # nothing is tried again


def test_nothing_there_is_bad_input(bucket: Proxy) -> None:
    folder, other = imgclf_here("check", "s3://bucket/photo"), imgclf_here("check", "s3://nobody/photos")
    scheme, library = imgclf_here("check", "nowhere://a/b"), imgclf_here("check", "gs://a/b")

    assert folder.returncode == other.returncode == scheme.returncode == 2
    assert "there is no folder s3://bucket/photo; did you mean s3://bucket/photos?" in folder.stderr
    assert "there is no folder s3://nobody/photos" in other.stderr
    assert "nowhere" in scheme.stderr
    if library.returncode != 2:  # gcsfs is installed
        assert (library.returncode, "pip install gcsfs" in library.stderr) == (3, True)


@pytest.mark.slow
def test_a_training_from_an_address_is_that_of_the_folder(bucket: Proxy, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    done = imgclf_here("train", ROOT, "--out", out, *TINY, "--formats", "float32", "--quiet")
    read = bucket.counts["GET"]
    again = imgclf_here("evaluate", out, "--quiet", "--format", "json")

    assert done.returncode == 0, done.stderr
    for name in ("split.csv", "metrics.json", "predictions.csv"):
        assert (out / name).read_text() == (run / name).read_text(), name
    assert json.loads((out / "config.json").read_text())["data"]["folder"] == ROOT
    assert not (out / "stage").exists()
    assert bucket.counts["GET"] == read, "the cache has the test images"
    assert json.loads(again.stdout)["accuracy"] == json.loads((out / "metrics.json").read_text())["accuracy"]


def test_images_are_staged_when_they_are_read_and_only_for_epochs_as_files(
    bucket: Proxy, photos: Path, tmp_path: Path
) -> None:
    from imgclf.data.batches import batches, read_in_order
    from imgclf.data.stage import stage

    def staged(root: str | Path, folder: Path, size: int):  # type: ignore[no-untyped-def]
        images = inspect(scan(root))
        return stage(images.with_images(replace(image, part="train") for image in images.images), folder, (size, size))

    for size in (8, 48):  # at 8 pixels all of them are shrunk
        here, there = staged(photos, tmp_path / f"here{size}", size), staged(ROOT, tmp_path / f"there{size}", size)
        paths = [[item.path for item in each.parts["train"]] for each in (here, there)]
        read = [np.concatenate([pixels for pixels, _ in read_in_order(some, (size, size), 16)]) for some in paths]

        assert np.array_equal(*read)
        assert not [path for path in there.root.rglob("*") if path.is_file() and path.name != "stage.txt"]
        asfiles = [
            np.concatenate([pixels for pixels, _ in batches(each, "train", (size, size))]) for each in (here, there)
        ]
        assert np.array_equal(*asfiles)


def test_a_reader_within_tensorflow_says_what_happened(bucket: Proxy, tmp_path: Path) -> None:
    from imgclf.data.batches import read_in_order, taken
    from imgclf.data.stage import stage

    images = inspect(scan(ROOT))
    staged = stage(
        images.with_images(replace(image, part="train") for image in images.images), tmp_path / "s", (48, 48)
    )
    bytecache.clear()
    bucket.fail_every, bucket.status = 1, 403

    with pytest.raises(SetupError, match="no permission"):
        list(taken(read_in_order([item.path for item in staged.parts["train"]], (48, 48), 16)))


def test_files_folders_and_globs_are_predicted(bucket: Proxy, run: Path, photos: Path) -> None:
    model = run / "exports" / "model_float32.tflite"
    local = imgclf_here("predict", model, photos / "disc", "--format", "csv", "--quiet")

    folder = imgclf_here("predict", model, f"{ROOT}/disc", "--format", "csv", "--quiet")
    several = imgclf_here(
        "predict", model, f"{ROOT}/*/*1[12].png", f"{ROOT}/disc/disc 3.png", "--format", "csv", "--quiet"
    )
    nothing = imgclf_here("predict", model, f"{ROOT}/disc/*.gif", "--quiet")

    assert (folder.returncode, folder.stdout.replace(ROOT, str(photos))) == (1, local.stdout), folder.stderr
    paths = [row["path"] for row in csv.DictReader(several.stdout.splitlines())]
    assert [Path(path).name for path in paths] == [
        *(f"{name} {number}.png" for name in ("bar & co", "disc", "frame") for number in (11, 12)), "disc 3.png",
    ]  # fmt: skip
    assert nothing.returncode == 2 and f"no images at {ROOT}/disc/*.gif" in nothing.stderr


def test_an_archive_is_fetched_once_and_goes_on_where_it_stopped(
    bucket: Proxy, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    url = f"{bucket.url}/bucket/photos.zip"
    monkeypatch.setattr(download, "PIECE", 20_000)
    monkeypatch.setenv("IMGCLF_REMOTE_SECONDS", "4")
    bucket.stall_after = 6
    stopped = imgclf_here("check", f"{url}?X-Amz-Signature=secret", "--quiet")
    part = next(bytecache.folder().glob("downloads/*/photos.zip.part")).stat().st_size
    bucket.behave()
    monkeypatch.setenv("IMGCLF_REMOTE_SECONDS", "60")

    done = imgclf_here("check", f"{url}?X-Amz-Signature=secret", "--format", "json", "--quiet")
    pieces, begun = bucket.counts["GET"], bucket.counts["from the start"]
    again = imgclf_here("check", f"{url}?X-Amz-Signature=secret", "--format", "json", "--quiet")

    assert stopped.returncode == 3 and "secret" not in stopped.stderr, stopped.stderr
    assert part > 0 and begun == 0, "what came before is not read again"
    assert done.returncode == 0, done.stderr
    assert (bucket.counts["GET"], again.stdout) == (pieces, done.stdout)
    assert json.loads(done.stdout)["images"] == len(inspect(scan(photos)).usable)


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_a_shard_is_fetched_once(bucket: Proxy, photos: Path, tmp_path: Path, form: str) -> None:
    packed = imgclf_here("data", "pack", photos, "--out", tmp_path / "shards", "--format", form, "--quiet")
    assert packed.returncode == 0, packed.stderr
    (shard,) = (path for path in (tmp_path / "shards").rglob("*") if path.suffix in (".parquet", ".tar"))
    s3fs.S3FileSystem().put(str(shard), f"bucket/{form}/{shard.name}")
    bucket.counts.clear()

    found, local = open_source(place(f"s3://bucket/{form}/{shard.name}")), open_source(shard)
    fetched = bucket.counts["GET"]
    again = open_source(place(f"s3://bucket/{form}/{shard.name}"))

    assert fetched == 1 and bucket.counts["GET"] == 1
    assert again.images == found.images and len(found.images) == 61
    assert [(image.path.name, image.label) for image in found.images] == [
        (image.path.name, image.label) for image in local.images
    ]
    damaged = b"PAR1 and no more" if form == "parquet" else shard.read_bytes()[:700]
    s3fs.S3FileSystem().pipe(f"bucket/{form}/{shard.name}", damaged)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=rf"^s3://bucket/{form}/{shard.name}"):
        open_source(place(f"s3://bucket/{form}/{shard.name}"))


def test_without_the_extra_an_address_says_which(tmp_path: Path) -> None:
    code = "import sys; sys.modules['fsspec'] = None; from imgclf.cli.main import run; run(['check', 's3://a/b'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    code = "import sys, imgclf.data.sources, imgclf.predict; print([x for x in sys.modules if x in ('fsspec', 's3fs')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 3 and "pip install 'imgclf[remote]'" in done.stderr, done.stderr
    assert loaded.stdout.strip() == "[]", loaded.stderr


def test_the_cache_stays_within_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path))
    monkeypatch.setenv("IMGCLF_REMOTE_CACHE_GB", "0.0001")
    names = [bytecache.name_of("s3://b/x", number, "") for number in range(60)]
    left = bytecache.folder() / names[0][:2] / ".killed.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    for age, name in enumerate(names):
        bytecache.put(name, bytes(4000))
        os.utime(bytecache.folder() / name[:2] / name, (1e9 + age, 1e9 + age))

    assert bytecache.used_bytes() <= 110_000
    assert bytecache.get(names[-1], 4000) == bytes(4000) and bytecache.get(names[0], 4000) is None
    assert bytecache.get(names[-2], 4001) is None, "another size is another content"
    assert not left.exists()
    bytecache.put("f" * 32, bytes(90_000))
    assert bytecache.get("f" * 32, 90_000) is None, "larger than a quarter of all"
    assert bytecache.clear() > 0 and bytecache.used_bytes() == 0


def test_another_version_of_an_object_is_read_anew(bucket: Proxy, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=bucket.url)
    draw(0, 1).save(tmp_path / "a.png")
    draw(1, 2).save(tmp_path / "b.png")
    contents = [(tmp_path / name).read_bytes() for name in ("a.png", "b.png")]
    for content in contents:
        client.put_object(Bucket="bucket", Key="other/x/a.png", Body=content)
        client.put_object(Bucket="bucket", Key="other/y/a.png", Body=contents[0])
        images = inspect(scan("s3://bucket/other")).images
        assert images[0].path.read_bytes() == content
    assert images[0].key != images[1].key


def test_a_file_system_in_memory_needs_no_server(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path))
    memory = fsspec.filesystem("memory")
    for path in photos.rglob("*.png"):
        memory.pipe(f"/box/{path.relative_to(photos).as_posix()}", path.read_bytes())

    found = inspect(scan("memory://box"))

    assert len(found.usable) == 60 and {image.path.parent.name for image in found.images} == set(found.classes)
    one = place("memory://box/disc/disc 1.png")
    assert isinstance(one, Address) and one.is_file() and one.parent.is_dir() and not (one.parent / "no").exists()
    assert isinstance(one.found, Found) and one.stat().st_size == len(one.read_bytes())
