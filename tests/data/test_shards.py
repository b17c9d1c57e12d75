import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imgclf.data import members, samples, unpacked_shards
from imgclf.data.inspect import inspect
from imgclf.data.sources import open_source, run_name
from imgclf.errors import InputError, SetupError
from tests.conftest import imgclf, imgclf_here

posix = pytest.mark.skipif(sys.platform == "win32", reason="no such kill")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(level: int = 0) -> bytes:
    content = io.BytesIO()
    Image.new("L", (4, 4), level).save(content, "PNG")
    return content.getvalue()


def tarred(path: Path, files: dict[str, bytes], packing: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, f"w:{packing}") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def cls(*labels: object, start: int = 0) -> dict[str, bytes]:
    """Samples with a .cls each."""
    files = {}
    for number, label in enumerate(labels, start):
        files |= {f"{number:04d}.cls": str(label).encode(), f"{number:04d}.png": png(number)}
    return files


def table(path: Path, metadata: dict[str, str] | None = None, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = pa.table(columns)
    pq.write_table(found.replace_schema_metadata(metadata) if metadata else found, path, row_group_size=2)
    return path


def structs(*contents: bytes | None, names: tuple[str | None, ...] = ()) -> pa.Array:
    paths = names or (None,) * len(contents)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": data, "path": path} for data, path in zip(contents, paths, strict=True)], kind)


CLASS_LABEL = {"huggingface": json.dumps({"info": {"features": {
    "image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}})}  # fmt: skip


def labels(data: Path) -> dict[str, str]:
    images = open_source(data)
    return {images.name_of(image): image.label for image in images.images}


def unpacked(cache: Path) -> set[Path]:
    return {path for path in (cache / "shards").rglob("*") if path.is_file()}


# --- WebDataset


def test_samples_of_a_tar(tmp_path):
    path = tarred(tmp_path / "pets.tar", cls("cat", "dog", "cat"))
    assert labels(path) == {
        "pets.tar/0000.png": "cat",
        "pets.tar/0001.png": "dog",
        "pets.tar/0002.png": "cat",
    }
    assert [image.path.read_bytes() for image in open_source(path).images] == [png(0), png(2), png(1)]
    assert run_name(path, None) == "pets"


@pytest.mark.parametrize("packing, suffix", [("gz", ".tar.gz"), ("bz2", ".tar.bz2")])
def test_packed_tars(tmp_path, packing, suffix):
    assert set(labels(tarred(tmp_path / f"a{suffix}", cls("cat", "dog"), packing)).values()) == {"cat", "dog"}


@pytest.mark.parametrize(
    "files",
    [
        {"a.png": png(), "a.json": b'{"label": "cat"}', "b.png": png(), "b.json": b'{"label": "dog"}'},
        {"a.png": png(), "a.json": b'{"url": "x", "class_name": "cat"}', "b.png": png(), "b.json": b'"dog"'},
        {"a.png": png(), "b.png": png(), "b.txt": b"dog\n", "a.txt": b"cat"},  # in any order
        {"a.png": png(), "a.cls": b"0", "a.json": b'{"label": "cat"}', "b.png": png(), "b.cls": b"dog", "b.txt": b"x"},
        {"a.png": png(), "a.cls": b"0", "b.png": png(), "b.cls": b"1", "classes.txt": b"cat\ndog\n"},
        {"x/a.PNG": png(), "x/a.cls": b"cat", "y/z/b.left.png": png(), "y/z/b.cls": b"dog"},
    ],
)
def test_where_a_label_may_stand(tmp_path, files):
    found = labels(tarred(tmp_path / "a.tar", files))
    assert {name.split("/")[-1][0]: label for name, label in found.items()} == {"a": "cat", "b": "dog"}


@pytest.mark.parametrize(
    "name, text",
    [
        ("classes.txt", "cat\ndog\n"),
        ("labels.txt", "cat\r\ndog"),
        ("classes.json", '["cat", "dog"]'),
        ("labels.json", '{"1": "dog", "0": "cat"}'),
        ("classes.json", '{"cat": 0, "dog": 1}'),
        ("dataset_info.json", '{"features": {"image": {}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}'),
        ("dataset.json", '{"name": "pets", "classes": ["cat", "dog"]}'),
    ],
)
def test_names_of_numbers_beside_the_shards(tmp_path, name, text):
    path = tarred(tmp_path / "set/a.tar", cls(0, 1, 1))
    assert set(labels(path).values()) == {"0", "1"}
    (tmp_path / "set" / name).write_text(text, encoding="utf-8")
    assert list(labels(path).values()) == ["cat", "dog", "dog"]  # nothing is unpacked again for that


def test_a_name_may_look_like_a_number(tmp_path):
    files = {"a.png": png(), "a.json": b'{"label": "1"}', "b.png": png(), "b.json": b'{"label": "003", "label_id": 0}'}
    rows = table(tmp_path / "a.parquet", image=[png(0), png(1)], label=["1", "003"])
    (tmp_path / "classes.txt").write_text("wrong\nwrong too")
    for path in (rows, tarred(tmp_path / "a.tar", files)):
        assert list(labels(path).values()) == ["003", "1"]


def test_a_number_without_a_name(tmp_path):
    path = tarred(tmp_path / "set/a.tar", cls(0, 1, 2))
    (tmp_path / "set/classes.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match=r"a\.tar holds the label 2, and there are names for 2 classes"):
        open_source(path)


def test_a_tar_of_class_folders_stays_one(tmp_path):
    photos = {f"{label}/{number}.png": png(number) for label in ("cat", "dog") for number in range(3)}
    boxes = {name.replace(".png", ".txt"): b"0 0.5 0.5 0.1 0.1" for name in photos}
    notes = {name.replace(".png", ".json"): b'{"label": "x"}' for name in photos}
    for extra in ({}, boxes, notes):
        images = open_source(tarred(tmp_path / f"a{len(extra)}{len(str(extra))}.tar", photos | extra))
        assert images.classes == ("cat", "dog") and "bundles" in images.root.parts


def test_what_is_no_sample_is_counted_and_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "unpickled"),))

    more = {
        "0000.pyd": pickle.dumps(Bomb()), "x.pkl": pickle.dumps(Bomb()), "alone.cls": b"cat", "bare.png": png(9),
        "negative.png": png(8), "negative.cls": b"-1", "._0000.png": png(7), "odd.png": png(6), "odd.json": b"[" * 9999,
    }  # fmt: skip
    path = tarred(tmp_path / "a.tar", cls("cat", "dog") | more)
    images = open_source(path)
    found = {kind: [Path(name).name for name in names] for kind, names in images.ignored.items()}
    assert found == {
        samples.OTHER_FILE: ["0000.pyd", "x.pkl"],
        samples.UNLABELLED: ["bare.png", "negative.png", "odd.png"],
        samples.NO_PICTURE: ["alone"],
    }
    assert not (tmp_path / "unpickled").exists()
    told = imgclf_here("check", path).stdout
    assert "a.tar/bare.png: sample without a label" in told and "a.tar/0000.pyd" in told


def test_captions_are_no_classes(tmp_path):
    with pytest.raises(InputError, match="60 images with 60 different labels, as captions"):
        open_source(tarred(tmp_path / "a.tar", cls(*(f"a picture of {number} cats" for number in range(60)))))
    with pytest.raises(InputError, match=r"only one class \('cat'\)"):
        open_source(tarred(tmp_path / "b.tar", cls("cat", "cat")))


# --- Parquet


@pytest.mark.parametrize(
    "columns, metadata",
    [
        ({"image": structs(png(0), png(1)), "label": [0, 1]}, CLASS_LABEL),
        ({"image": structs(png(0), png(1)), "label": ["cat", "dog"]}, None),
        ({"id": ["x", "y"], "jpg": [png(0), png(1)], "cls": ["cat", "dog"]}, None),
        ({"Img": [png(0), png(1)], "Target": ["cat", "dog"], "mask": [b"", b""]}, None),
        ({"pixels": pa.array([png(0), png(1)], pa.large_binary()), "Class": ["cat", "dog"]}, None),
        ({"image": [png(0), png(1)], "coarse_label": ["a", "a"], "fine_label": ["cat", "dog"]}, None),
        ({"image": [png(0), png(1)], "label": pa.array(["cat", "dog"]).dictionary_encode()}, None),
    ],
)
def test_columns_that_are_found(tmp_path, columns, metadata):
    path = table(tmp_path / "pets.parquet", metadata, **columns)
    assert labels(path) == {"pets.parquet/0.png": "cat", "pets.parquet/1.png": "dog"}


def test_numbers_names_and_paths(tmp_path):
    names = ("cat/a.png", "../../b.png", "C:\\x\\c.png", None, "b.png", "note.txt")
    path = table(tmp_path / "data/all.parquet", image=structs(*map(png, range(6)), names=names),
                 label=[0.0, 1.0, 1.0, None, 0.0, 1.0])  # fmt: skip
    found = labels(path)
    assert sorted(name for name in found if "c.png" not in name) == [
        "all.parquet/b.png", "all.parquet/b~2.png", "all.parquet/cat/a.png", "all.parquet/note.txt.png",
    ]  # fmt: skip
    assert set(found.values()) == {"0", "1"} and len(found) == 5
    (tmp_path / "classes.txt").write_text("cat\ndog")  # above the folder of the shards
    assert set(labels(path).values()) == {"cat", "dog"}


def test_rows_without_an_image_or_a_label(tmp_path):
    path = table(tmp_path / "a.parquet", image=structs(png(0), png(1), None, png(3), b"", png(5)),
                 label=["cat", "dog", "cat", None, "dog", ""])  # fmt: skip
    images = open_source(path)
    assert len(images.images) == 2
    found = {kind: [Path(name).name for name in names] for kind, names in images.ignored.items()}
    assert found == {samples.NO_PICTURE: ["row 2", "row 4"], samples.UNLABELLED: ["row 3", "row 5"]}


def test_columns_in_doubt_are_named_by_the_user(tmp_path):
    path = table(tmp_path / "a.parquet", front=[png(0), png(1)], back=[png(2), png(3)], kind=["cat", "dog"],
                 colour=["red", "blue"])  # fmt: skip
    with pytest.raises(InputError, match=r"surely the image.*front: binary, back: binary, kind: string.*DATA::image="):
        open_source(path)
    with pytest.raises(InputError, match=r"surely the label .*DATA::label=COLUMN"):
        open_source(Path(f"{path}::image=back"))
    chosen = Path(f"{path}::image=back,label=kind")
    images = open_source(chosen)
    assert [image.path.read_bytes() for image in images.images] == [png(2), png(3)]
    assert images.classes == ("cat", "dog") and run_name(chosen, None) == "a"
    assert open_source(Path(f"{path}::image=front,label=colour")).classes == ("blue", "red")
    for bad, message in (("label=front", "is binary, not text"), ("label=x", "is not there"), ("x=y", "names no col")):
        with pytest.raises(InputError, match=message):
            open_source(Path(f"{path}::image=back,{bad}" if bad != "x=y" else f"{path}::{bad}"))


def test_files_that_are_no_parquet(tmp_path):
    path = table(tmp_path / "a.parquet", image=[png(0), png(1)] * 40, label=["cat", "dog"] * 40)
    content = path.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-100])
    (tmp_path / "text.parquet").write_bytes(b"no")
    (tmp_path / "bent.parquet").write_bytes(content[:40] + b"\xff" * 400 + content[440:])
    for name in ("cut", "text", "bent"):
        with pytest.raises(InputError, match=f"{name}.parquet is damaged or no Parquet file"):
            open_source(tmp_path / f"{name}.parquet")
    texts = table(tmp_path / "texts.parquet", image=["a.jpg"], label=["cat"])
    with pytest.raises(InputError, match="surely the image"):
        open_source(texts)
    (tmp_path / "unnamed").write_bytes(content)  # told by its content
    assert len(labels(tmp_path / "unnamed")) == 80


def test_without_pyarrow_the_extra_is_named(tmp_path):
    path = table(tmp_path / "a.parquet", image=[png(0), png(1)], label=["cat", "dog"])
    (tmp_path / "blocked/pyarrow").mkdir(parents=True)
    (tmp_path / "blocked/pyarrow/__init__.py").write_text("raise ImportError('blocked')")
    search = os.pathsep.join([str(tmp_path / "blocked"), *filter(None, sys.path)])
    for command in (("check", path), ("data", "pack", path.parent, "--out", tmp_path / "o", "--format", "parquet")):
        done = imgclf(*command, PYTHONPATH=search)
        assert done.returncode == 3 and "pip install 'imgclf[parquet]'" in done.stderr


@posix
def test_a_kill_costs_the_shard_that_was_read(tmp_path, cache):
    for number in range(3):
        tarred(tmp_path / f"s/{number}.tar", cls("cat", "dog", start=2 * number))
    code = (
        "import os, signal, sys; from pathlib import Path; from imgclf.data import sources, unpacked_shards as shards\n"
        "real = shards._Files.add\n"
        "def add(files, parts, pieces):\n"
        "    parts == ('0003.png',) and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(files, parts, pieces)\n"
        "shards._Files.add = add\n"
        "sources.open_source(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    first = {path: path.stat().st_ino for path in unpacked(cache) if "0.tar" in path.parts}
    assert first and not [path for path in unpacked(cache) if "1.tar" in path.parts]
    assert len(labels(tmp_path / "s")) == 6
    assert {path: path.stat().st_ino for path in first} == first


# --- many shards


def test_parts_by_name_and_by_folder(tmp_path):
    for name in ("data/train-00000-of-00002", "data/train-00001-of-00002", "data/validation-0", "data/test-0"):
        table(tmp_path / "hub" / f"{name}.parquet", image=[png(len(name)), png(99)], label=["cat", "dog"])
    (tmp_path / "hub/sample.png").write_bytes(png())  # as a page of the set may show
    images = open_source(tmp_path / "hub")
    parts = {images.name_of(image).split("/")[1]: image.part for image in images.images}
    assert images.has_parts and len(images.images) == 8
    assert [parts[name] for name in sorted(parts)] == ["test", "train", "train", "val"]
    only = open_source(tmp_path / "hub/data/test-*.parquet")
    assert not only.has_parts and len(only.images) == 2
    for part in ("Train", "TEST"):
        tarred(tmp_path / "tars" / part / "a-000000.tar", cls("cat", "dog"))
    images = open_source(tmp_path / "tars")
    assert [image.part for image in images.images] == ["train", "train", "test", "test"]
    tarred(tmp_path / "tars/train-test.tar", cls("cat"))
    with pytest.raises(InputError, match="may be for test or train"):
        open_source(tmp_path / "tars")


def test_patterns(tmp_path, monkeypatch):
    for number in range(12):
        tarred(tmp_path / f"s/part-{number:06d}.tar", cls("cat", "dog", start=2 * number))
    monkeypatch.chdir(tmp_path)
    data = Path("s/part-{000000..000010}.tar")
    assert len(labels(data)) == 22 and run_name(data, None) == "s"
    assert len(labels(tmp_path / "s/part-00000{0,3}.tar")) == 4
    assert len(labels(Path("s/*.tar"))) == 24
    with pytest.raises(InputError, match=r"there is no file s.part-12\.tar"):
        open_source(Path("s/part-{10..12}.tar".replace("10", "12")))
    with pytest.raises(InputError, match="no files match"):
        open_source(Path("s/x*.parquet"))
    with pytest.raises(InputError, match="is no range"):
        open_source(Path("s/part-{9..1}.tar"))


def test_a_folder_of_other_things_is_read_as_before(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.png").write_bytes(png())
    table(tmp_path / "photos/measures.parquet", width=[1], height=[2])
    assert open_source(tmp_path / "photos").root == tmp_path / "photos"
    table(tmp_path / "two/a.parquet", image=[png()], label=["cat"])
    tarred(tmp_path / "two/a.tar", cls("cat", "dog"))
    with pytest.raises(InputError, match=r"both a\.parquet and a\.tar"):
        open_source(tmp_path / "two")
    tarred(tmp_path / "folders/a.tar", {"cat/1.png": png(), "dog/1.png": png()})
    with pytest.raises(InputError, match="holds no WebDataset samples"):
        open_source(tmp_path / "folders")


# --- the cache


def test_an_added_or_changed_shard_costs_only_itself(tmp_path, cache):
    first = tarred(tmp_path / "s/a-0.tar", cls("cat", "dog"))
    assert len(labels(tmp_path / "s")) == 2
    before = {path: path.stat().st_mtime_ns for path in unpacked(cache)}
    changed = tarred(tmp_path / "s/a-1.tar", cls("cat", "dog", start=2))
    assert len(labels(tmp_path / "s")) == 4
    assert {path: path.stat().st_mtime_ns for path in unpacked(cache) if path in before} == before
    tarred(changed, cls("cat", start=7))
    assert sorted(labels(tmp_path / "s")) == ["a-0.tar/0000.png", "a-0.tar/0001.png", "a-1.tar/0007.png"]
    assert sum(path.suffix == ".png" for path in unpacked(cache)) == 3  # what was there of it is gone
    assert len(labels(first)) == 2  # of the same folder: nothing is unpacked twice
    assert len({path.parent.parent for path in unpacked(cache) if path.suffix == ".png"}) == 1
    root = open_source(first).root
    with pytest.raises(InputError, match="name the shards themselves as DATA"):
        open_source(root)


def test_what_goes_wrong_leaves_nothing(tmp_path, cache, monkeypatch):
    path = tarred(tmp_path / "s/a.tar", cls("cat", "dog"))
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    with pytest.raises(InputError, match=r"a\.tar is damaged"):
        open_source(path)
    path.write_bytes(whole)
    tarred(tmp_path / "s/b.tar", cls("cat", "dog") | {"../x.png": png()})
    with pytest.raises(InputError, match="leads out of the archive"):
        open_source(tmp_path / "s/b.tar")
    large = table(tmp_path / "p/a.parquet", image=[b"\0" * 2_000_000] * 2, label=["cat", "dog"])
    with monkeypatch.context() as limits:
        limits.setattr(members, "RATIO_FROM", 1_000_000)
        limits.setattr(members, "MAX_RATIO", 10)
        with pytest.raises(InputError, match="unpacks to more than"):
            open_source(large)
    with monkeypatch.context() as limits:
        limits.setattr(unpacked_shards, "KEEP_FREE", 1 << 62)
        with pytest.raises(SetupError, match=r"too little room.*IMGCLF_CACHE"):
            open_source(path)
    assert not [name for name in unpacked(cache) if name.name != "imgclf-shards.json"]
    assert len(labels(path)) == 2


def test_broken_images_are_named_by_shard_and_sample(tmp_path):
    files = cls("cat", "dog") | {"bad.jpg": b"\xff\xd8\xff\xe0 no more", "bad.cls": b"cat"}
    images = inspect(open_source(tarred(tmp_path / "a.tar", files)), workers=0)
    assert [images.name_of(image) for image in images.unreadable] == ["a.tar/bad.jpg"]
