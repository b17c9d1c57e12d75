"""WebDataset shards: tar files in which files that share a name are a sample. May import bundle, members, samples.

The format (https://github.com/webdataset/webdataset): what comes before the first dot of a name, its folders included,
is the sample's key, what comes after it says what the file is: `cat/0001.jpg`, `cat/0001.cls`, `cat/0001.json`. Of all
that may be in a sample, images and labels are read; nothing is ever unpickled.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from imgclf.data.bundle import image_pieces, is_left_out
from imgclf.data.members import Member, open_archive, reading
from imgclf.data.samples import (
    GROUP_NAMES,
    LABEL_NAMES,
    MAX_NAMES_BYTES,
    NAME_FILES,
    NO_PICTURE,
    OTHER_FILE,
    UNLABELLED,
    Content,
    Label,
    Sample,
    Sink,
    class_names,
    label_of,
    label_of_text,
)
from imgclf.data.scan import is_image_name

MAX_LABEL = 1_000_000  # bytes of a file that may be a label; a caption with all its metadata has a few thousand
MAX_LINE = 200  # characters of a .txt that may be a label


class _Found(NamedTuple):
    label: Label | None
    group: str = ""


def _of_text(content: bytes) -> _Found:
    return _Found(label_of_text(content.decode("utf-8-sig")))


def _of_line(content: bytes) -> _Found:
    """A name on one line; several numbers are boxes, and much text is a caption."""
    text = content.decode("utf-8-sig").strip()
    words = text.replace(",", " ").split()
    boxes = len(words) > 1 and all(word.lstrip("+-").replace(".", "", 1).isdecimal() for word in words)
    return _Found(None if boxes or len(text) > MAX_LINE or "\n" in text else label_of_text(text))


def _of_json(content: bytes) -> _Found:
    value: Any = json.loads(content.decode("utf-8-sig"))
    if not isinstance(value, dict):
        return _Found(label_of(value))
    group = next((str(value[name]) for name in GROUP_NAMES if isinstance(value.get(name), str | int)), "")
    labels = (label_of(value[name]) for name in LABEL_NAMES if name in value)
    return _Found(next((label for label in labels if label is not None), None), group)


# What a file of a sample may say of it, by what comes after the first dot of its name; the first has the first word.
LABEL_FILES: dict[str, Callable[[bytes], _Found]] = {
    "cls": _of_text,
    "class": _of_text,
    "label": _of_text,
    "json": _of_json,
    "txt": _of_line,
}
SURE = ("cls",)  # in no folder of photos
ENOUGH = 200  # images after which a tar is known for what it is


def holds_samples(path: Path) -> bool:
    """Whether a tar holds WebDataset samples and not class folders.

    A .cls beside an image is a sample. A .json or .txt with a label may also lie in a class folder; it is a sample
    where all images of the archive lie in one folder, which would be one class.

    Raises:
        InputError: it is damaged.
    """
    images: set[str] = set()
    labels: set[str] = set()
    sure: set[str] = set()
    folders: set[tuple[str, ...]] = set()
    with open_archive(path) as found:
        for member in found:
            if not member.plain or is_left_out(member):
                continue
            key, ending = split_name(member.parts)
            if is_image_name(member.parts[-1]):
                images.add(key)
                folders.add(member.parts[:-1])
            elif ending in SURE:
                sure.add(key)
            elif ending in LABEL_FILES and len(labels) < 100 and _label(path, member, ending).label is not None:
                labels.add(key)
            if images & sure:
                return True
            if len(images) > ENOUGH and (len(folders) > 1 or not (labels or sure)):
                return False  # the files of a sample lie beside one another
    return len(folders) == 1 and bool(images & labels)


def split_name(parts: tuple[str, ...]) -> tuple[str, str]:
    """The key of a member's sample, and what the member is within it, in lower case."""
    name, _, ending = parts[-1].partition(".")
    return "/".join((*parts[:-1], name)), ending.lower()


def read_webdataset(path: Path, sink: Sink) -> Content:
    """Read a shard: every image goes to the sink, whatever the order of the files is.

    Args:
        path: the tar, packed or not.
        sink: takes the images.

    Returns:
        The labelled images. The label of a .cls goes before that of a .json and of a .txt, but a name before a number.

    Raises:
        InputError: the tar is damaged, leads out of its folder or is a bomb.
        SetupError: the disk has too little room.
        OSError: it cannot be written.
    """
    files: list[tuple[str, str]] = []
    labels: dict[str, dict[str, _Found]] = defaultdict(dict)
    names: tuple[str, ...] = ()
    left_out: dict[str, list[str]] = defaultdict(list)
    with open_archive(path) as found:
        for member in found:
            sink.reached(member.position)
            shown = "/".join(member.parts)
            key, ending = split_name(member.parts)
            if is_left_out(member):
                continue
            if member.plain and shown.casefold() in NAME_FILES:
                names = class_names(_content(path, member, MAX_NAMES_BYTES), ending == "json") or names
            elif member.plain and ending in LABEL_FILES:
                labels[key][ending] = _label(path, member, ending)
            elif (pieces := image_pieces(path, member)) is not None:
                files.append((sink.add(member.parts, pieces), key))
            else:
                left_out[OTHER_FILE].append(shown)
    samples = []
    for file, key in files:
        told = _chosen(labels.get(key, {}))
        if told.label is None:
            sink.drop(file)
            left_out[UNLABELLED].append(file)
        else:
            samples.append(Sample(file, told.label, told.group))
    left_out[NO_PICTURE].extend(sorted(labels.keys() - {key for _, key in files}))
    return Content(tuple(samples), names, {kind: tuple(items) for kind, items in left_out.items() if items})


def _chosen(found: dict[str, _Found]) -> _Found:
    told = [found[ending] for ending in LABEL_FILES if ending in found and found[ending].label is not None]
    group = next((item.group for item in found.values() if item.group), "")
    # a .txt is a caption as often as a label, so its text does not go before a number
    text = [found[ending] for ending in found if ending != "txt" and isinstance(found[ending].label, str)]
    best = told[0] if told else _Found(None)
    if isinstance(best.label, int) and text:
        best = text[0]
    return best._replace(group=group)


def _label(path: Path, member: Member, ending: str) -> _Found:
    content = _content(path, member, MAX_LABEL)
    try:
        return LABEL_FILES[ending](content)
    except (ValueError, RecursionError):  # no UTF-8, no JSON: nothing that says what the image is
        return _Found(None)


def _content(path: Path, member: Member, most: int) -> bytes:
    """The content of a small file; b"" where it is no small one."""
    with reading(path):
        content = member.open().read(most + 1)
    return content if len(content) <= most else b""
