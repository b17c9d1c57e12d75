import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from imgclf.config import TrainConfig
from imgclf.data import pack as packing
from imgclf.data.check import check
from imgclf.data.inspect import inspect
from imgclf.data.pack import pack, parse_size
from imgclf.data.sources import open_source
from imgclf.errors import InputError, SetupError
from tests.conftest import TINY, imgclf_here, write_photos

FORMATS = ("webdataset", "parquet")


def facts(data: Path) -> list[tuple[str, ...]]:
    """What must come back the same."""
    images = inspect(open_source(data), workers=0)
    return sorted((image.key, image.label, image.part, image.verdict, image.reason, image.group)
                  for image in images.usable)  # fmt: skip


def findings(data: Path) -> list[tuple[str, list[tuple[list[str], str]]]]:
    """The findings, files by their content."""
    found = check(open_source(data), workers=0)
    keys = {image.path: image.key for image in found.images.images}
    return [(one.kind, sorted((sorted(keys[path] for path in item.paths), item.note) for item in one.items))
            for one in found.diagnosis.findings]  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ready-made parts, with a copy across two of them, a wrong extension, and names that are not plain."""
    root = tmp_path_factory.mktemp("parts")
    for part, each in (("train", 9), ("validation", 4), ("test", 5)):
        write_photos(root / part, ("Café & co", "disc"), each)
    shutil.copy(root / "train/disc/disc 1.png", root / "test/disc/again.png")
    (root / "train/disc/disc 2.png").rename(root / "train/disc/v1.2 wrong.JPG")
    shutil.copy(root / "train/disc/disc 3.png", root / "train/disc/v1_2 wrong.png")
    return root


@pytest.mark.parametrize("form", FORMATS)
def test_classes_that_are_called_like_numbers(tmp_path, form):
    write_photos(tmp_path / "in", ("1", "10", "002"), 3)
    pack(tmp_path / "in", tmp_path / "out", form, TrainConfig(workers=0))
    assert facts(tmp_path / "out") == facts(tmp_path / "in")


@pytest.mark.parametrize("form", FORMATS)
def test_the_round_trip_is_exact(parts, tmp_path, form):
    before = {path: path.stat() for path in parts.rglob("*")}
    done = imgclf_here("data", "pack", parts, "--out", tmp_path / "out", "--format", form, "--shard-size", "20kB")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'out'}: 38 images (19 train, 8 val, 11 test), 2 classes, in " in done.stdout
    assert facts(tmp_path / "out") == facts(parts)
    assert (
        findings(tmp_path / "out")
        == [
            (
                kind,
                [([name.replace("v1.2 wrong.JPG", "v1_2 wrong.jpg") for name in names], note) for names, note in items],
            )
            for kind, items in findings(parts)
        ]
        if form == "webdataset"
        else findings(tmp_path / "out") == findings(parts)
    )
    assert {path: path.stat().st_mtime_ns for path in parts.rglob("*")} == {
        path: found.st_mtime_ns for path, found in before.items()
    }
    assert (tmp_path / "out/classes.txt").read_text(encoding="utf-8") == "Café & co\ndisc\n"
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_one_format_into_the_other(parts, tmp_path):
    config = TrainConfig(workers=0)
    pack(parts, tmp_path / "wds", "webdataset", config)
    pack(tmp_path / "wds", tmp_path / "pq", "parquet", config)
    pack(tmp_path / "pq", tmp_path / "again", "webdataset", config)
    assert facts(tmp_path / "again") == facts(parts)
    names = [path.name for path in sorted((tmp_path / "wds").iterdir())]
    assert names == ["classes.txt", "test-000000.tar", "train-000000.tar", "val-000000.tar"]
    for name in names[1:]:
        assert contents(tmp_path / "wds" / name) == contents(tmp_path / "again" / name)


def contents(shard: Path) -> list[bytes]:
    with tarfile.open(shard) as archive:
        files = [archive.extractfile(member) for member in archive if not member.name.endswith(".json")]
        return [file.read() for file in files if file is not None]


def test_the_webdataset_library_reads_it(parts, tmp_path):
    wds = pytest.importorskip("webdataset")
    packed = pack(parts, tmp_path / "out", "webdataset", TrainConfig(workers=0), "40kB")
    train = [name for name in packed.shards if name.startswith("train")]
    assert len(train) > 1
    seen = []
    for name in packed.shards:
        read = list(wds.WebDataset(str(tmp_path / "out" / name), shardshuffle=False).decode("rgb8"))
        assert len(read) == packed.shards[name]
        for sample in read:
            told = sample["json"]
            assert (sample["cls"], told["index"]) == (packed.classes.index(told["label"]),) * 2
            picture = next(value for value in sample.values() if isinstance(value, np.ndarray))
            assert picture.shape == (48, 48, 3)
            seen.append((told["key"], told["label"]))
    assert sorted(seen) == [fact[:2] for fact in facts(parts)]
    mixed = [sample["cls"] for sample in wds.WebDataset(str(tmp_path / "out" / train[0]), shardshuffle=False)]
    assert len(set(mixed)) == 2


def test_parquet_is_as_hugging_face_has_it(parts, tmp_path):
    packed = pack(parts, tmp_path / "out", "parquet", TrainConfig(workers=0), "60kB")
    assert {name.split("-")[0] for name in packed.shards} == {"train", "validation", "test"}
    total = sum(name.startswith("train") for name in packed.shards)
    assert f"train-00000-of-{total:05d}.parquet" in packed.shards
    for name in packed.shards:
        found = pq.read_table(tmp_path / "out" / name)
        features = json.loads(found.schema.metadata[b"huggingface"])["info"]["features"]
        assert features["image"] == {"_type": "Image"}
        assert features["label"] == {"names": ["Café & co", "disc"], "_type": "ClassLabel"}
        assert set(features) == set(found.column_names)
        for row in found.to_pylist():
            folder = {"train": "train", "validation": "validation", "test": "test"}[name.split("-")[0]]
            assert (parts / folder / row["image"]["path"]).read_bytes() == row["image"]["bytes"]
            assert packed.classes[row["label"]] == row["class"] == row["image"]["path"].split("/")[0]


def test_the_order_is_mixed_and_the_same_every_time(two_photos, tmp_path):
    orders = []
    for number, seed in enumerate((0, 0, 1)):
        pack(two_photos, tmp_path / str(number), "parquet", TrainConfig(seed=seed, workers=0))
        (name,) = (path.name for path in (tmp_path / str(number)).glob("*.parquet"))
        assert name == "images-00000-of-00001.parquet"
        orders.append(pq.read_table(tmp_path / str(number) / name).column("key").to_pylist())
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])


def test_unreadable_images_are_named_and_left_out(photos, tmp_path):
    done = imgclf_here("data", "pack", photos, "--out", tmp_path / "out", "--format", "webdataset")
    assert "disc/broken.jpg is left out: " in done.stderr and ", 1 left out" in done.stdout
    images = open_source(tmp_path / "out")
    assert len(images.images) == 61 and facts(tmp_path / "out") == facts(photos)


def test_parts_of_a_split_and_groups_of_a_table(two_photos, tmp_path):
    rows = [f"{path},{path.parent.name},g{index % 5}\n" for index, path in enumerate(sorted(two_photos.rglob("*.png")))]
    (tmp_path / "all.csv").write_text("".join(["path,label,group\n", *rows]), encoding="utf-8")
    done = imgclf_here("data", "split", "--csv", tmp_path / "all.csv", "--out", tmp_path / "split.csv")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "split.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "split.csv").write_text("\n".join(lines[:-1]), encoding="utf-8")
    for form in FORMATS:
        out = tmp_path / form
        done = imgclf_here("data", "pack", "--csv", tmp_path / "all.csv", "--split", tmp_path / "split.csv",
                           "--out", out, "--format", form)  # fmt: skip
        assert "1 image that" in done.stderr and "does not know" in done.stderr
        found = {image.key: (image.part, image.group) for image in inspect(open_source(out), workers=0).images}
        split = {line.split(",")[-1]: line.split(",")[-2] for line in lines[1:-1]}
        assert {key: part for key, (part, _) in found.items()} == split
        assert {group for _, group in found.values()} == {f"g{index}" for index in range(5)}


def test_what_is_refused(two_photos, tmp_path, monkeypatch):
    for out, size, message in (
        (two_photos / "out", "1MB", "lies inside the images"),
        (tmp_path, "1MB", "is already there"),
        (tmp_path / "out", "1 parsec", "is not a size"),
        (tmp_path / "out", "0", "is not a size"),
    ):
        with pytest.raises(InputError, match=message):
            pack(two_photos, out, "parquet", TrainConfig(workers=0), size)
    monkeypatch.setattr(packing, "KEEP_FREE", 1 << 62)
    with pytest.raises(SetupError, match="too little room"):
        pack(two_photos, tmp_path / "out", "parquet", TrainConfig(workers=0))
    assert [parse_size(text) for text in ("500MB", "1.5 g", "2kb", "7")] == [500_000_000, 1_500_000_000, 2000, 7]


@pytest.mark.skipif(sys.platform == "win32", reason="no such kill")
def test_the_same_command_goes_on_after_a_kill(two_photos, tmp_path):
    pack(two_photos, tmp_path / "whole", "webdataset", TrainConfig(workers=0), "30kB")
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len(names) > 3
    # killed while it writes its third shard
    code = (
        "import os, signal; from pathlib import Path; from imgclf.config import TrainConfig;"
        "from imgclf.data import pack; real, seen = pack._contents, []\n"
        "def contents(shard, bar):\n"
        "    seen.append(shard)\n"
        "    for item in real(shard, bar):\n"
        "        yield item\n"
        "        len(seen) == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "pack._contents = contents\n"
        f"data, out = Path({str(two_photos)!r}), Path({str(tmp_path / 'out')!r})\n"
        "pack.pack(data, out, 'webdataset', TrainConfig(workers=0), '30kB')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, env=os.environ, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = (path for path in tmp_path.iterdir() if path.name != "whole")
    kept = {path.name: path.stat().st_ino for path in left.glob("images-*.tar")}
    assert len(kept) == 2 and not (tmp_path / "out").exists()
    pack(two_photos, tmp_path / "out", "webdataset", TrainConfig(workers=0), "30kB")
    assert {name: (tmp_path / "out" / name).stat().st_ino for name in kept} == kept
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "out"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


@pytest.mark.slow
def test_a_training_on_shards_is_the_same_as_on_the_folder(run, photos, tmp_path):
    assert imgclf_here("data", "pack", photos, "--out", tmp_path / "out", "--format", "parquet").returncode == 0
    done = imgclf_here("train", tmp_path / "out", "--out", tmp_path / "shards", *TINY, "--formats", "float32")
    assert done.returncode == 0, done.stderr
    predictions = [(root / "predictions.csv").read_text(encoding="utf-8") for root in (run, tmp_path / "shards")]
    assert predictions[1].replace("images-00000-of-00001.parquet/", "") == predictions[0]
    assert (tmp_path / "shards" / "metrics.json").read_bytes() == (run / "metrics.json").read_bytes()
    done = imgclf_here("evaluate", run, tmp_path / "out")
    assert done.returncode == 0, done.stderr
