"""The commands of docs/tutorials run as they are printed, on small drawn data and with one epoch."""

import gzip
import io
import pickle
import re
import shlex
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import draw, imgclf_here, write_photos

pytestmark = pytest.mark.slow

PAGES = Path(__file__).parents[2] / "docs" / "tutorials"


def commands(page: str) -> list[list[str]]:
    """The `imgclf` commands of a page, word by word."""
    text = (PAGES / page).read_text(encoding="utf-8")
    lines = "".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL)).splitlines()
    return [shlex.split(line)[2:] for line in lines if line.startswith("$ imgclf ")]


def expanded(word: str) -> list[str]:
    """What the shell would make of a word; the small data has fewer digits in its file names."""
    word = word.replace("00000.png", "00.png")
    return sorted(str(path) for path in Path().glob(word)) if "*" in word else [word]


def run_page(page: str, shorten: list[str]) -> tuple[list[str], str]:
    """Run a page's commands in the working directory; returns their verbs and what the last one printed."""
    verbs, printed = [], ""
    for words in commands(page):
        arguments = [name for word in words for name in expanded(word)]
        if words[0] == "train":
            arguments += ["--epochs", "1", "--quiet", *shorten]
        done = imgclf_here(*arguments)
        assert done.returncode == 0, (words, done.stderr)
        verbs.append(words[0])
        printed = done.stdout
    return verbs, printed


def grey(label: int, number: int) -> np.ndarray:
    return np.asarray(draw(label % 3, number, 28).convert("L"))


def test_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist_idx").mkdir()
    for part, count in (("train", 60), ("t10k", 20)):
        labels = ((np.arange(count) + 7) % 10).astype(np.uint8)  # the first test image is a 7, as in the real set
        images = np.stack([grey(int(label), number) for number, label in enumerate(labels)])
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (tmp_path / "mnist_idx" / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    verbs, _ = run_page("mnist.md", [])
    assert verbs == ["data", "train", "backbones", "explain", "train", "predict"]
    assert (tmp_path / "seen" / "00-kernels.png").is_file()


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def batch(count: int) -> bytes:
        images = np.stack([np.asarray(draw(number % 3, number, 32)) for number in range(count)])
        return pickle.dumps(
            {b"data": images.transpose(0, 3, 1, 2).reshape(count, -1), b"labels": [n % 3 for n in range(count)]}
        )

    members = {"data_batch_1": batch(60), "test_batch": batch(30),
               "batches.meta": pickle.dumps({b"label_names": [b"cat", b"dog", b"ship"]})}  # fmt: skip
    with tarfile.open("cifar-10-python.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    verbs, _ = run_page("cifar10.md", ["--formats", ""])
    assert verbs == ["data", "train", "train"]


def test_two_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "faces", ("with_mask", "without_mask"), 14)
    verbs, printed = run_page("two_classes.md", ["--weights", "none", "--image-size", "64"])
    assert verbs == ["train", "data", "train", "train", "predict"]
    assert len(printed.splitlines()) == 15 and printed.startswith("path,label_1,probability_1")


def test_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgclf.models import backbones
    from imgclf.models.build import build_backbone

    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "clothing", ("hat", "shoe", "skirt"), 8)
    build_backbone(backbones.get("inception_v3"), None, (75, 75)).save_weights("file.weights.h5")
    Path("file.weights.h5").rename("inception_v3_notop.h5")
    verbs, _ = run_page("inception.md", ["--image-size", "96", "--fine-tune-epochs", "0", "--formats", ""])
    assert verbs == ["backbones", "train", "train"]
