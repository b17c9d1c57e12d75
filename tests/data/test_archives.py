import gzip
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgclf.data.scan import scan
from imgclf.data.unpack import unpack
from imgclf.errors import InputError

RNG = np.random.default_rng(0)


def idx(array: Any, packed: bool = True) -> bytes:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes()) if packed else head + array.tobytes()


def mnist(folder: Path, packed: bool = True) -> tuple[list[Path], Any]:
    """A tiny MNIST: the four files and, by part, images and labels."""
    arrays = {"train": 30, "t10k": 20}
    files, truth = [], {}
    for name, count in arrays.items():
        images = RNG.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        truth["test" if name == "t10k" else "train"] = (images, labels)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            files.append(folder / (f"{name}-{kind}-ubyte" + (".gz" if packed else "")))
            files[-1].write_bytes(idx(array, packed))
    return files, truth


def read_back(folder: Path) -> dict[str, list[Any]]:
    return {
        path.name: [np.asarray(Image.open(file)) for file in sorted(path.iterdir())]
        for path in sorted(folder.iterdir())
    }


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_become_class_folders_pixel_by_pixel(tmp_path: Path, packed: bool) -> None:
    files, truth = mnist(tmp_path, packed)
    made = unpack(files, tmp_path / "out")
    assert made.counts == {"train": 30, "test": 20} and made.shape == (28, 28, 1)
    assert made.classes == tuple("0123456789")
    for part, (images, labels) in truth.items():
        found = read_back(tmp_path / "out" / part)
        for digit in range(10):
            np.testing.assert_array_equal(np.stack(found[str(digit)]), images[labels == digit])
    assert scan(tmp_path / "out").has_parts


def test_names_come_from_the_user_or_from_fashion_mnist(tmp_path: Path) -> None:
    (tmp_path / "fashion-mnist").mkdir()
    files, _ = mnist(tmp_path / "fashion-mnist")
    assert unpack(files, tmp_path / "a").classes[1] == "Trouser"
    names = [f"digit {number}" for number in range(10)]
    assert unpack(files, tmp_path / "b", names).classes == tuple(names)
    for bad in (
        names[:9],
        [*names[:9], "../up"],
        [*names[:9], "DIGIT 0"],
        [*names[:9], ".."],
        [*names[:9], "nul"],
        [*names[:9], ".h"],
    ):
        with pytest.raises(InputError):
            unpack(files, tmp_path / "c", bad)
    assert not (tmp_path / "c").exists()


class Python2Array:
    """An array that pickles as NumPy under Python 2 did."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __reduce__(self) -> Any:
        return self.array.__reduce__()


def cifar(folder: Path, protocol: int = 2) -> tuple[Path, Any]:
    images = RNG.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    rows = images.transpose(0, 3, 1, 2).reshape(12, -1)
    names = [b"cat", b"dog"]
    members = {
        "data_batch_1": {b"data": rows[:4], b"labels": [0, 1, 0, 1]},
        "data_batch_2": {b"data": rows[4:8], b"labels": [1, 1, 0, 0]},
        "test_batch": {b"data": rows[8:], b"labels": [1, 0, 1, 0], b"filenames": [b"a.png"] * 4},
        "batches.meta": {b"label_names": names, b"num_vis": 3072},
    }
    return tarred(folder, {name: pickle.dumps(value, protocol) for name, value in members.items()}), images


def tarred(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_cifar_batches_become_class_folders(tmp_path: Path, protocol: int) -> None:
    path, images = cifar(tmp_path, protocol)
    made = unpack([path], tmp_path / "out")
    assert made.classes == ("cat", "dog") and made.counts == {"train": 8, "test": 4}
    train, test = read_back(tmp_path / "out" / "train"), read_back(tmp_path / "out" / "test")
    np.testing.assert_array_equal(np.stack(train["cat"]), images[[0, 2, 6, 7]])
    np.testing.assert_array_equal(np.stack(test["dog"]), images[[8, 10]])


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, (str(Hostile.target),)

    target = Path()


@pytest.mark.parametrize("place", ["data_batch_1", "batches.meta"])
def test_a_pickle_that_would_do_something_is_refused_and_does_nothing(tmp_path: Path, place: str) -> None:
    Hostile.target = tmp_path / "owned"
    good = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [0], b"label_names": [b"a", b"b"]}
    members = {name: pickle.dumps(good, 2) for name in ("data_batch_1", "test_batch", "batches.meta")}
    members[place] = pickle.dumps({**good, b"extra": Hostile()}, 2)
    path = tarred(tmp_path, members)
    with pytest.raises(InputError, match=r"refused: it holds a pickle that calls posix\.mkdir|nt\.mkdir"):
        unpack([path], tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cifar-10-python.tar.gz"]


def test_the_npz_of_keras(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (10, 28, 28)).astype(np.uint8)
    np.savez(
        tmp_path / "mnist.npz", x_train=images[:6], y_train=np.arange(6) % 3, x_test=images[6:], y_test=[0, 1, 2, 0]
    )
    made = unpack([tmp_path / "mnist.npz"], tmp_path / "out")
    assert made.counts == {"train": 6, "test": 4} and made.classes == ("0", "1", "2")
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "test")["1"][0], images[7])


def test_an_npz_with_a_pickle_is_refused(tmp_path: Path) -> None:
    Hostile.target = tmp_path / "owned"
    np.savez(tmp_path / "bad.npz", x_train=np.array([Hostile()], object), y_train=[0])
    with pytest.raises(InputError, match=r"bad\.npz"):
        unpack([tmp_path / "bad.npz"], tmp_path / "out")
    assert not Hostile.target.exists()


def test_bad_archives_are_one_line_and_leave_nothing(tmp_path: Path) -> None:
    (images, labels, *_), _ = mnist(tmp_path)
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"hello, this is no data set"))
    (tmp_path / "cut.gz").write_bytes(images.read_bytes()[:500])
    (tmp_path / "short-images").write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, 100, 28, 28) + bytes(10))
    for files, words in (
        ([tmp_path / "none.gz"], "none.gz"), ([tmp_path / "text.gz"], "no archive that imgclf knows"),
        ([tmp_path / "cut.gz"], "cut.gz"), ([images], "images without labels"), ([labels], "labels without images"),
        ([tmp_path / "short-images"], "announces 100 x 28 x 28"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            unpack(files, tmp_path / "out")
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="already there"):
        unpack([images, labels], tmp_path / "out")


def test_a_folder_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    files, _ = mnist(tmp_path)
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "mine.txt").write_text("x")
    unpack(files, tmp_path / "out")
    with pytest.raises(InputError):
        unpack(files[:1], tmp_path / "other")
    assert (tmp_path / "out.part" / "mine.txt").read_text() == "x"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test", "train"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_names_with_a_prefix_are_still_train_and_test(tmp_path: Path) -> None:
    files, _ = mnist(tmp_path)
    renamed = [file.rename(file.with_name("emnist-" + file.name.replace("t10k", "test"))) for file in files]
    assert unpack(renamed, tmp_path / "out").counts == {"train": 30, "test": 20}


@pytest.mark.parametrize("labels", [[0, 10**12], [0.0, float("nan")], [None, 1], [2**70, 1]])
def test_labels_that_are_none_are_refused(tmp_path: Path, labels: list[Any]) -> None:
    rows = np.zeros((2, 3072), np.uint8)
    path = tarred(tmp_path, {"data_batch_1": pickle.dumps({b"data": rows, b"labels": labels}, 2)})
    with pytest.raises(InputError):
        unpack([path], tmp_path / "out")


def test_a_tar_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgclf.data import archives

    monkeypatch.setattr(archives, "MAX_BYTES", 100_000)
    path = tarred(tmp_path, {"data_batch_1": bytes(90_000), "data_batch_2": bytes(90_000)})
    monkeypatch.setattr(archives, "_unzipped", lambda path: gzip.decompress(path.read_bytes()))
    with pytest.raises(InputError, match="unpacks to more than"):
        unpack([path], tmp_path / "out")


@pytest.mark.shared
@pytest.mark.slow
def test_the_real_mnist(shared: Path, tmp_path: Path) -> None:
    made = unpack(sorted((shared / "data" / "mnist_idx").glob("*.gz")), tmp_path / "mnist")
    assert made.counts == {"train": 60_000, "test": 10_000}
    assert len(list((tmp_path / "mnist" / "test" / "7").iterdir())) == 1028  # as published
