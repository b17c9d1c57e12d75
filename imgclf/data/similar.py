"""Inspected images -> pairs of pictures that are the same or nearly. May import align, known, parallel, progress.

A perceptual hash proposes, the aligned thumbnails decide (`align`). Pictures with little information, such as digits,
are not compared by their looks at all: only equal pixels make them equal.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from imgclf.data.align import DETAIL, agreement, details, halved
from imgclf.data.imageset import THUMBNAIL_SIDE, ImageFile
from imgclf.data.known import Known
from imgclf.errors import SetupError
from imgclf.progress import Bar, step
from imgclf.workers.parallel import cpu_count, each_item, is_elsewhere

_Verdicts = tuple[NDArray[np.float32], NDArray[np.bool_]]
_T = TypeVar("_T")
_R = TypeVar("_R")

# Measured on 3,781 photos of clothes and 400 copies of them, a quarter each compressed at quality 60, resized to 70 %,
# cropped by 4 % on every side, and all of it (docs/benchmarks.md). What the bounds lose of the copies is in brackets.
RADIUS = 18  # bits of 64 in which the hashes of a pair may differ (1 %); 0.75 % of all pairs of different photos do
CROPPED = 12  # bits in which the hash of one may differ from that of the other without its rim
ROUGH = 0.5  # correlation of details at 16 pixels, not aligned (none)
NEIGHBOURS = 20  # candidates of one picture; the next ones of a burst are reached through these
LEAST = (0.7, 0.6)  # correlation of details at 16 and 32 pixels, aligned (1 %)
NEAR = 0.8  # the same at 64 pixels (1 %); of 7.1 million pairs of different photos one is above it
DOUBTFUL = 0.5  # from here on it is worth aligning the other way round as well
SAME = (
    12.0  # grey levels by which one place differs; of copies 0.2 to 5 (0.5 %), with a mask drawn onto a face 24 to 94
)

VERSION = "pairs 4"  # of everything above, for the memory of results
HASHES_AT_ONCE = 4_000_000  # pairs of hashes in memory
PAIRS_AT_ONCE = 256
THUMBNAILS_AT_ONCE = 2_000
# Other machines are asked where this one would take a minute: it holds the hashes and the thumbnails, and sends them.
MANY_PICTURES, MANY_PAIRS = 100_000, 50_000
SENT_AT_ONCE = 128  # chunks of pairs with their thumbnails, 2 MB each


class Pair(NamedTuple):
    """Two pictures that are nearly the same.

    Attributes:
        first: the `looks.pixels` of one.
        second: of the other; the smaller of the two is the first.
        correlation: of their details, 0.8 to 1.
        same: whether they agree everywhere; otherwise something in them differs, as a mask on the same face.
    """

    first: str
    second: str
    correlation: float
    same: bool


def find_pairs(images: Iterable[ImageFile], known: Known) -> tuple[Pair, ...]:
    """Find all pairs of nearly the same pictures with different pixels.

    Args:
        images: inspected; those without looks are passed over.
        known: holds their thumbnails, and the outcome for the same pictures.

    Returns:
        The pairs, sorted.
    """
    pictures: dict[str, ImageFile] = {}
    for image in images:
        if image.looks is not None and image.looks.telling:
            earlier = pictures.setdefault(image.looks.pixels, image)
            if image.key < earlier.key:
                pictures[image.looks.pixels] = image
    names = sorted(pictures)
    digest = hashlib.blake2b("".join(names).encode(), digest_size=16).hexdigest()
    noted = known.recall(VERSION, digest)
    if noted is None:
        pairs = _compare([pictures[name] for name in names], known)
        if known.has_thumbnails([pictures[name].key for name in names]):  # another process may have dropped some
            known.note(VERSION, digest, json.dumps(pairs))
        return tuple(pairs)
    return tuple(Pair(*row) for row in json.loads(noted))


def star_groups(pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """Groups in which everything is alike one and the same picture, which comes first, so that groups never chain."""
    neighbours: dict[str, set[str]] = {}
    for pair in pairs:
        neighbours.setdefault(pair.first, set()).add(pair.second)
        neighbours.setdefault(pair.second, set()).add(pair.first)
    groups: list[tuple[str, ...]] = []
    taken: set[str] = set()
    for centre in sorted(neighbours, key=lambda name: (-len(neighbours[name]), name)):  # the most connected first
        others = sorted(neighbours[centre] - taken)
        if centre not in taken and others:
            groups.append((centre, *others))
            taken.update(groups[-1])
    return sorted(groups)


def _compare(pictures: Sequence[ImageFile], known: Known) -> list[Pair]:
    if len(pictures) < 2:
        return []
    keys = [picture.key for picture in pictures]
    names = [picture.looks.pixels for picture in pictures if picture.looks is not None]
    hashes, inner = (np.array([getattr(picture.looks, name) for picture in pictures], np.uint64)
                     for name in ("phash", "inner"))  # fmt: skip
    with step("comparing pictures", len(pictures), "pictures") as bar:
        candidates = _candidates(hashes, inner, _rough(keys, known), bar)
    numbers = [_number(names[first], names[second]) for first, second in candidates.tolist()]
    noted = known.verdicts(numbers)
    pairs = [Pair(names[first], names[second], *noted[number])
             for (first, second), number in zip(candidates.tolist(), numbers, strict=True)
             if number in noted and noted[number][0]]  # fmt: skip
    candidates = candidates[[number not in noted for number in numbers]]
    verdicts = []
    with step("confirming look-alikes", len(candidates), "pairs") as bar:
        for some, (correlation, same) in _confirmed(candidates, keys, known):
            for (first, second), value, alike in zip(some.tolist(), correlation.tolist(), same.tolist(), strict=True):
                verdict = Pair(names[first], names[second], round(value, 3) if value >= NEAR else 0.0, alike)
                if verdict.correlation:
                    pairs.append(verdict)
                verdicts.append((_number(*verdict[:2]), verdict.correlation, alike))
            bar.update(len(some))
    if known.has_thumbnails(keys):  # another process may have dropped some, which then agreed with nothing
        known.note_verdicts(verdicts)
    return sorted(pairs)


def _number(first: str, second: str) -> int:
    """What a verdict on two pictures is remembered by; SQLite's integers have a sign."""
    digest = hashlib.blake2b(f"{VERSION} {first} {second}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _rough(keys: Sequence[str], known: Known) -> NDArray[np.float16]:
    """The details of every picture at 16 pixels as a vector of length 1; float16 `(n, 256)`."""
    rough = np.zeros((len(keys), 256), np.float16)
    for at in range(0, len(keys), THUMBNAILS_AT_ONCE):
        some = keys[at : at + THUMBNAILS_AT_ONCE]
        found = known.thumbnails(some)
        rows = [number for number, key in enumerate(some) if key in found]
        if not rows:
            continue
        images = np.stack([found[some[row]] for row in rows]).astype(np.float32)
        vectors = details(halved(halved(images)), DETAIL).reshape(len(rows), -1)
        vectors -= vectors.mean(1, keepdims=True)
        rough[at + np.array(rows)] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-3)
    return rough


@dataclass(frozen=True)
class _Search:
    """Start of some rows -> pairs worth aligning, of a row and a picture after it, `(m, 2)`.

    Alike in hash and details as they are, or one the middle of the other. All pairs are looked at: hashes that differ
    in 18 of 64 bits share no part that they could be sorted by.
    """

    hashes: NDArray[np.uint64]
    inner: NDArray[np.uint64]
    rough: NDArray[np.float16]
    height: int

    def __call__(self, start: int) -> NDArray[np.intp]:
        some = self.hashes[start : start + self.height]
        rows, columns, _ = _within(some, self.hashes[start:], RADIUS)
        rows, columns = rows[columns > rows] + start, columns[columns > rows] + start
        likeness = np.empty(len(rows), np.float32)
        for at in range(0, len(rows), 1 << 16):
            part = slice(at, at + (1 << 16))
            first, second = (self.rough[each[part]].astype(np.float32) for each in (rows, columns))
            likeness[part] = np.einsum("ij,ij->i", first, second)
        close = likeness >= ROUGH
        alike = _nearest(rows[close], columns[close], -likeness[close])
        rows, columns, distance = _within(some, self.inner, CROPPED)
        rows += start
        other = rows != columns
        cropped = _nearest(rows[other], columns[other], distance[other])
        return np.concatenate([alike, np.sort(cropped, axis=1)])


def _candidates(
    hashes: NDArray[np.uint64], inner: NDArray[np.uint64], rough: NDArray[np.float16], bar: Bar
) -> NDArray[np.intp]:
    """Pairs worth aligning, `(m, 2)`, sorted."""
    search = _Search(hashes, inner, rough, max(1, HASHES_AT_ONCE // len(hashes)))
    starts = range(0, len(hashes), search.height)
    found = []
    if is_elsewhere() and len(hashes) >= MANY_PICTURES:
        for _, pairs in _elsewhere(search, starts):
            found.append(pairs)
            bar.update(min(search.height, len(hashes)))
    else:
        with ThreadPoolExecutor(cpu_count()) as pool:
            for pairs in pool.map(search, starts):
                found.append(pairs)
                bar.update(min(search.height, len(hashes)))
    return np.unique(np.concatenate(found), axis=0)


def _elsewhere(function: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[tuple[int, _R]]:
    """Work done by other machines: the number of each item and what came of it, in any order."""
    for number, result in each_item(function, items, title="", memory=None, anywhere=True):
        if result.value is None:
            raise SetupError(
                f"pictures could not be compared ({result.error})", "look at the machines, and start again"
            )
        yield number, result.value


def _within(
    first: NDArray[np.uint64], second: NDArray[np.uint64], radius: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """Indices of the pairs whose hashes differ in `radius` bits at most, and in how many."""
    distance = np.bitwise_count(first[:, None] ^ second[None, :])
    rows, columns = np.nonzero(distance <= radius)
    return rows, columns, distance[rows, columns]


def _nearest(rows: NDArray[np.intp], columns: NDArray[np.intp], distance: NDArray[Any]) -> NDArray[np.intp]:
    """The NEIGHBOURS nearest of each row."""
    order = np.lexsort((columns, distance, rows))
    rows, columns = rows[order], columns[order]
    first = np.searchsorted(rows, rows, side="left")
    kept = np.arange(len(rows)) - first < NEIGHBOURS
    return np.stack([rows[kept], columns[kept]], axis=1)


def _confirmed(candidates: NDArray[np.intp], keys: Sequence[str], known: Known) -> Iterator[tuple[Any, _Verdicts]]:
    """Candidates with their verdicts, some at a time; all processors compare while the next thumbnails are fetched."""
    blank = np.zeros((THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)  # agrees with nothing

    def seen(some: NDArray[np.intp]) -> list[NDArray[np.uint8]]:
        thumbnails = known.thumbnails(sorted({keys[index] for index in some.ravel().tolist()}))
        return [np.stack([thumbnails.get(keys[index], blank) for index in column]) for column in some.T.tolist()]

    chunks = (candidates[at : at + PAIRS_AT_ONCE] for at in range(0, len(candidates), PAIRS_AT_ONCE))
    if is_elsewhere() and len(candidates) >= MANY_PAIRS:
        while batch := list(islice(chunks, SENT_AT_ONCE)):
            for number, found in _elsewhere(_confirm, [seen(some) for some in batch]):
                yield batch[number], found
        return
    waiting: deque[tuple[NDArray[np.intp], Future[_Verdicts]]] = deque()
    with ThreadPoolExecutor(cpu_count()) as pool:
        for some in chunks:
            waiting.append((some, pool.submit(_confirm, seen(some))))
            if len(waiting) > 2 * cpu_count():
                done, verdicts = waiting.popleft()
                yield done, verdicts.result()
        for done, verdicts in waiting:
            yield done, verdicts.result()


def _confirm(pairs: Sequence[NDArray[np.uint8]]) -> _Verdicts:
    """Correlation and sameness of pairs of thumbnails, aligned both ways where one way leaves a doubt.

    Args:
        pairs: the first picture of each pair `(m, 64, 64)`, and the second.
    """
    first, second = pairs
    found = agreement(first, second, LEAST)
    correlation, worst = found.correlation.copy(), found.worst.copy()
    doubtful = np.flatnonzero((correlation >= DOUBTFUL) & ((correlation < NEAR) | (worst > SAME)))
    if len(doubtful):
        back = agreement(second[doubtful], first[doubtful], LEAST)
        better = back.correlation > correlation[doubtful]
        correlation[doubtful] = np.maximum(correlation[doubtful], back.correlation)
        worst[doubtful] = np.where(better, back.worst, worst[doubtful])
    correlation[~np.isfinite(worst)] = 0  # given up before the finest comparison
    return correlation, worst <= SAME
