"""Reads the archives that data sets of small images come in. May import NumPy and errors only.

What a file is, its content decides. Nothing in a file is ever executed: `.npz` is read without pickles, and the pickles
of CIFAR by a reader that can build numbers, lists and arrays, and nothing else.
"""

import gzip
import io
import pickle
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imgclf.errors import InputError

MAX_BYTES = 4 << 30  # of one unpacked array or member; the largest of these sets (CIFAR) has 0.15 GB in one

KNOWN = "the IDX files of MNIST (.gz or not), the python version of CIFAR-10 or CIFAR-100 (.tar.gz), or a Keras .npz"
FASHION = ("T-shirt-top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataclass(frozen=True)
class LabelledArrays:
    """Images with labels, as an archive holds them.

    Attributes:
        part: "train" or "test".
        images: uint8 `(N, H, W)` grey or `(N, H, W, 3 or 4)` RGB or RGBA.
        labels: class indices, int64 `(N,)`.
        names: class names by index, where the archive knows them.
    """

    part: Literal["train", "test"]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...] | None = None


def read_archives(paths: list[Path]) -> list[LabelledArrays]:
    """Read archives of one data set, whatever their kinds.

    Args:
        paths: files; the image and label files of IDX are matched by their names.

    Raises:
        InputError: a file that cannot be read, is damaged, of another kind, or holds a pickle that does more than
            hold data.
    """
    found: list[LabelledArrays] = []
    loose: dict[Path, NDArray[Any]] = {}  # IDX keeps images and labels in files of their own
    for path in paths:
        try:
            content = _unzipped(path)
            if content[:2] == b"\0\0" and len(content) > 4:
                loose[path] = _idx(content)
            elif content[:4] == b"PK\x03\x04":
                found += _npz(content)
            elif tarfile.is_tarfile(io.BytesIO(content)):
                found += _cifar(content)
            else:
                raise InputError(f"{path} is no archive that imgclf knows", f"expected {KNOWN}")
        except _Refused as error:
            raise InputError(f"{path} is refused: {error}", f"expected {KNOWN}") from None
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error})", f"expected {KNOWN}") from None
        except Exception as error:  # what is damaged fails in whatever its reader runs into
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{path} cannot be read ({reason})", "download or copy it again") from None
    found += _pairs(loose)
    for item in found:
        _check(item, paths)
    return found


class _Refused(Exception):
    """The file is well-formed but not what a data set is made of."""


def _unzipped(path: Path) -> bytes:
    """The content of a file, without gzip around it."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: Any = gzip.GzipFile(fileobj=file) if packed else file
        content: bytes = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _Refused(f"it unpacks to more than {MAX_BYTES >> 30} GB")
    return content


def _idx(content: bytes) -> NDArray[Any]:
    """An IDX array: two zeros, type, number of dimensions, the dimensions (http://yann.lecun.com/exdb/mnist)."""
    kind, rank = content[2], content[3]
    if kind != 0x08 or rank not in (1, 3, 4):
        raise _Refused(f"an IDX file of type {kind:#04x} with {rank} dimensions, not of images or labels")
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"it announces {' x '.join(map(str, shape))} values and holds {values.size}")
    return values.reshape(shape)


def _pairs(loose: dict[Path, NDArray[Any]]) -> list[LabelledArrays]:
    """Match IDX images with labels: `train-images-idx3-ubyte` with `train-labels-idx1-ubyte`."""
    labels = {_stem(path): (path, array) for path, array in loose.items() if array.ndim == 1}
    found = []
    for path, images in loose.items():
        if images.ndim == 1:
            continue
        if _stem(path) not in labels:
            raise InputError(f"{path} holds images without labels",
                             "give its label file too (train-images-... goes with train-labels-...)")  # fmt: skip
        beside, indices = labels.pop(_stem(path))
        if len(indices) != len(images):
            raise InputError(f"{path} holds {len(images)} images, {beside} {len(indices)} labels", "they must match")
        part: Literal["train", "test"] = "test" if re.search(r"(^|[-_.])(t10k|test)", _stem(path)) else "train"
        fashion = any("fashion" in piece.lower() for piece in path.resolve().parts)
        found.append(LabelledArrays(part, images, indices.astype(np.int64), FASHION if fashion else None))
    for path, _ in labels.values():
        raise InputError(f"{path} holds labels without images", "give its image file too")
    return found


def _stem(path: Path) -> str:
    """What an image file and its label file have in common: `train` of `train-images-idx3-ubyte.gz`."""
    name = path.name.lower()
    for word in ("images", "labels"):
        name = name.split(word)[0]
    return name.strip("-_. ")


def _npz(content: bytes) -> list[LabelledArrays]:
    """`x_train`, `y_train`, `x_test`, `y_test`, as `keras.datasets` keeps them."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(item.file_size for item in archive.infolist()) > MAX_BYTES:
            raise _Refused(f"it unpacks to more than {MAX_BYTES >> 30} GB")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        if not {"x_train", "y_train"} <= set(arrays.files):
            raise _Refused(f"it holds {', '.join(arrays.files[:5]) or 'nothing'}, not x_train and y_train")
        return [
            LabelledArrays(part, _as_images(arrays[f"x_{part}"]), _as_labels(arrays[f"y_{part}"]))
            for part in _PARTS
            if f"x_{part}" in arrays.files and f"y_{part}" in arrays.files
        ]


_PARTS: tuple[Literal["train", "test"], ...] = ("train", "test")


def _as_images(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise _Refused(f"its images are {array.dtype}, not uint8 (0..255)")
    return array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array


def _as_labels(array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype.kind not in "iu":
        raise _Refused(f"its labels are {array.dtype}, not whole numbers")
    return array.ravel().astype(np.int64)


def _cifar(content: bytes) -> list[LabelledArrays]:
    """The batches of CIFAR-10 or CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html), python version."""
    members = {PurePosixPath(name).name: data for name, data in _members(content)}
    names = _cifar_names(members)
    parts: dict[str, list[dict[Any, Any]]] = {"train": [], "test": []}
    for name in sorted(members):
        if name == "train" or name.startswith("data_batch"):
            parts["train"].append(_plain_pickle(members[name]))
        elif name in ("test", "test_batch"):
            parts["test"].append(_plain_pickle(members[name]))
    if not parts["train"]:
        raise _Refused("it holds no data_batch_1 and no train: not the python version of CIFAR")
    return [
        LabelledArrays(
            part,
            np.concatenate([_cifar_images(batch) for batch in parts[part]]),
            _as_labels(np.concatenate([np.asarray(_cifar_labels(batch)) for batch in parts[part]])),
            names,
        )
        for part in _PARTS
        if parts[part]
    ]


_CIFAR_MEMBER = re.compile(r"data_batch_\d+|train|test|test_batch|meta|batches\.meta")


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The plain files of a tar archive; they are read, never extracted, so that their names can do no harm."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        total = 0
        for member in archive:
            if member.isfile() and _CIFAR_MEMBER.fullmatch(PurePosixPath(member.name).name):
                total += member.size
                if total > MAX_BYTES:
                    raise _Refused(f"it unpacks to more than {MAX_BYTES >> 30} GB")
                file = archive.extractfile(member)
                yield member.name, file.read() if file else b""


def _cifar_names(members: dict[str, bytes]) -> tuple[str, ...] | None:
    for file, key in (("batches.meta", b"label_names"), ("meta", b"fine_label_names")):
        if file in members:
            return tuple(_text(name) for name in _plain_pickle(members[file])[key])
    return None


def _cifar_images(batch: dict[Any, Any]) -> NDArray[np.uint8]:
    """Rows of 3 x 32 x 32 to `(N, 32, 32, 3)`."""
    images: NDArray[np.uint8] = _as_images(np.asarray(batch[b"data"])).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images


def _cifar_labels(batch: dict[Any, Any]) -> list[int]:
    labels: list[int] = batch[b"labels"] if b"labels" in batch else batch[b"fine_labels"]
    return labels


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


# A pickle is a program. This reader knows three functions, all of them its own: they note down the pieces of an array,
# and whatever else a pickle asks for is refused before it is looked up.


class _ArrayPieces:
    """Stands for a NumPy array while a pickle is read."""

    value: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        self.value = np.frombuffer(raw, np.dtype(kind.code)).reshape(shape, order="F" if fortran else "C")


class _KindPieces:
    """Stands for a NumPy dtype: a plain number type or nothing."""

    def __init__(self, code: str, *_: object) -> None:
        if _text(code) not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "b1"):
            raise _Refused(f"an array of type {code!r}")
        self.code = _text(code)

    def __setstate__(self, state: object) -> None:
        """The byte order; CIFAR's arrays have one byte an item."""


def _as_bytes(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


_SAFE: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _ArrayPieces(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _ArrayPieces(),
    ("numpy", "ndarray"): _ArrayPieces,
    ("numpy", "dtype"): _KindPieces,
    ("_codecs", "encode"): _as_bytes,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _SAFE:
            raise _Refused(f"it holds a pickle that calls {module}.{name}")
        return _SAFE[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("it holds a pickle that refers to something outside")


def _plain_pickle(content: bytes) -> dict[Any, Any]:
    """A pickled dictionary of numbers, texts, lists and arrays; its keys as bytes, as Python 2 wrote them."""
    try:
        value = _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    except _Refused:
        raise
    except Exception as error:  # a damaged pickle fails in whatever it happens to say
        raise ValueError(f"damaged pickle: {error}") from None
    if not isinstance(value, dict):
        raise _Refused("its pickle is not a table")
    return {
        (key.encode() if isinstance(key, str) else key): item.value if isinstance(item, _ArrayPieces) else item
        for key, item in value.items()
    }


def _check(item: LabelledArrays, paths: list[Path]) -> None:
    shape = item.images.shape
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (3, 4)) or 0 in shape:
        raise InputError(f"{paths[0]} holds arrays of shape {shape}", "expected images (N, H, W) or (N, H, W, 3 or 4)")
    if len(item.labels) != len(item.images):
        raise InputError(f"{paths[0]} holds {len(item.images)} images and {len(item.labels)} labels of {item.part}",
                         "they must match")  # fmt: skip
    if item.labels.min() < 0 or (item.names and item.labels.max() >= len(item.names)):
        raise InputError(f"{paths[0]} has labels outside of its {len(item.names or ())} classes", "they must match")
