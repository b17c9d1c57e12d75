"""Images -> one shard: a WebDataset tar or a Parquet file, as other tools read them. May import parquet (pyarrow).

Both hold the files' own bytes, the class as name and number, and the hash that split.csv knows an image by.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgclf.data.parquet import import_pyarrow

BLOCK = 512  # bytes of a tar's header, and what its files are filled up to
ROW_GROUP_BYTES = 64_000_000  # that are in memory at once; Hugging Face's viewer takes 300 MB
ROW_GROUP_ROWS = 10_000
PAGE_ROWS = 16  # values between two looks at a page's size: who reads it holds a page in memory
ROW_BYTES = 120  # of a row beside its image


@dataclass(frozen=True)
class Item:
    """One image to pack.

    Attributes:
        path: the user's file.
        name: what it is called in the shard, class folder first: `cat/IMG.1.jpg`.
        key: the key of its sample in a WebDataset, without a dot behind the last slash: `cat/IMG_1`.
        ending: what its file ends in within the sample: `jpg`.
        label: the class.
        number: index of the class.
        digest: hash of its bytes, as split.csv has it.
        size: bytes.
        group: what it belongs to; "" for none.
    """

    path: Path
    name: str
    key: str
    ending: str
    label: str
    number: int
    digest: str
    size: int
    group: str = ""


Contents = Iterable[tuple[Item, bytes]]


@dataclass(frozen=True)
class Form:
    """A kind of shard.

    Attributes:
        write: writes one, from items and their bytes, with all class names.
        size: bytes that an item will take in it.
        name: of the n-th (from 0) of some number of shards of a part.
        parts: what parts are called in names.
    """

    write: Callable[[Path, Contents, Sequence[str]], None]
    size: Callable[[Item], int]
    name: Callable[[str, int, int], str]
    parts: dict[str, str]


def _write_tar(path: Path, contents: Contents, classes: Sequence[str]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for item, content in contents:
            for ending, data in ((item.ending, content), ("cls", str(item.number).encode()), ("json", _json(item))):
                info = tarfile.TarInfo(f"{item.key}.{ending}")
                info.size, info.mode = len(data), 0o644
                archive.addfile(info, io.BytesIO(data))


def _json(item: Item) -> bytes:
    told: dict[str, Any] = {"label": item.label, "index": item.number, "path": item.name, "key": item.digest}
    if item.group:
        told["group"] = item.group
    return json.dumps(told, ensure_ascii=False).encode()


def _tar_size(item: Item) -> int:
    return sum(BLOCK + -(-size // BLOCK) * BLOCK for size in (item.size, 1, len(_json(item))))


def _write_parquet(path: Path, contents: Contents, classes: Sequence[str]) -> None:
    pa, pq = import_pyarrow()
    texts = ["class", "key", "group"]
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            *((name, pa.string()) for name in texts),
        ],
        metadata={"huggingface": _features(classes, texts)},
    )
    with path.open("wb") as file, pq.ParquetWriter(
        file, schema, compression={"image.bytes": "none", "image.path": "zstd", "label": "zstd", "class": "zstd",
                                   "key": "none", "group": "zstd"},
        use_dictionary=["class", "group"], write_statistics=["label", "class"], write_batch_size=PAGE_ROWS,
    ) as writer:  # fmt: skip
        rows: list[dict[str, Any]] = []
        held = 0
        for item, content in contents:
            rows.append({"image": {"bytes": content, "path": item.name}, "label": item.number, "class": item.label,
                         "key": item.digest, "group": item.group})  # fmt: skip
            held += len(content)
            if held >= ROW_GROUP_BYTES or len(rows) >= ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows, held = [], 0
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _features(classes: Sequence[str], texts: Iterable[str]) -> str:
    """The schema's metadata for Hugging Face: an image, its ClassLabel, and columns of text."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        **{name: {"dtype": "string", "_type": "Value"} for name in texts},
    }
    return json.dumps({"info": {"features": features}})


FORMS: dict[str, Form] = {
    "webdataset": Form(
        _write_tar, _tar_size, lambda part, index, count: f"{part}-{index:06d}.tar",
        {"": "images", "train": "train", "val": "val", "test": "test"},
    ),
    "parquet": Form(
        _write_parquet, lambda item: item.size + ROW_BYTES,
        lambda part, index, count: f"{part}-{index:05d}-of-{count:05d}.parquet",
        {"": "images", "train": "train", "val": "validation", "test": "test"},
    ),
}  # fmt: skip
