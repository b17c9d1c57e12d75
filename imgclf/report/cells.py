"""The images behind each cell of the confusion matrix, as data for the page's script. May import facts and pictures.

The page is one file, so its size is bounded: every cell shows its most telling images as thumbnails and names the
others; where there are more names than a page should hold, the last ones are counted only.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from imgclf.progress import track
from imgclf.report import pictures
from imgclf.report.facts import Answered

MAX_PICTURES = 1_200  # on the whole page
MAX_IN_CELL = {True: 12, False: 60}  # thumbnails of a cell: of right answers, of mistakes
SIDE, MOST = 112, 7_000  # a thumbnail's longest side in pixels, and its characters: 1,200 are 8.4 MB at most
MAX_NAMES = 4_000_000  # characters of all names together
MANY = 200  # thumbnails, from which on progress is shown

Cell = tuple[int, int]


@dataclass(frozen=True)
class Cells:
    """What the page's script shows of each cell.

    Attributes:
        classes: their names.
        cells: "true-said", as numbers of classes, to the number of images (`n`) and those that are shown (`images`: the
            path, the probability of the predicted and of the true class, 0..1, the thumbnail's number or None).
        pictures: `data:` addresses.
    """

    classes: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Any]]
    pictures: Sequence[str] = field(repr=False)

    def has(self, true: int, said: int) -> bool:
        """Whether there is anything to be shown of a cell."""
        return f"{true}-{said}" in self.cells

    def number(self, true: int, said: int) -> int:
        """How many images a cell has."""
        count: int = self.cells.get(f"{true}-{said}", {"n": 0})["n"]
        return count

    def to_json(self) -> dict[str, Any]:
        """As the script takes it."""
        return {"classes": self.classes, "cells": self.cells, "pictures": self.pictures}


def cells(tested: Iterable[Answered], classes: Sequence[str]) -> Cells:
    """Sort test images into the cells of the confusion matrix.

    Args:
        tested: the images.
        classes: in the order of the matrix.

    Returns:
        Mistakes with those first that the model was surest of, right answers with those first that it was least sure
        of. Thumbnails go to the cells in turn, first to those of mistakes.
    """
    index = {label: number for number, label in enumerate(classes)}
    sorted_in: dict[Cell, list[Answered]] = defaultdict(list)
    for image in tested:
        if image.true_label in index and image.predicted_label in index:
            sorted_in[index[image.true_label], index[image.predicted_label]].append(image)
    for cell, images in sorted_in.items():
        images.sort(key=lambda image, hit=cell[0] == cell[1]: (image.margin if hit else -image.probability,
                                                               image.shown_path))  # type: ignore[misc]  # fmt: skip
    drawn = _chosen(sorted_in)
    addresses = _thumbnails(drawn)
    numbers = {path: number for number, path in enumerate(addresses)}
    room = MAX_NAMES
    shown: dict[str, dict[str, Any]] = {}
    for cell in sorted(sorted_in, key=lambda cell: (cell[0] == cell[1], cell)):  # mistakes are named first
        rows = []
        for place, image in enumerate(sorted_in[cell]):
            room -= _length(image.shown_path)
            if room < 0:
                break
            picture = numbers.get(image.path) if place < MAX_IN_CELL[cell[0] == cell[1]] else None
            rows.append(
                [_text(image.shown_path), round(image.probability, 4), round(image.true_probability, 4), picture]
            )
        shown[f"{cell[0]}-{cell[1]}"] = {"n": len(sorted_in[cell]), "images": rows}
    return Cells(tuple(map(_text, classes)), shown, list(addresses.values()))


def _chosen(sorted_in: Mapping[Cell, Sequence[Answered]]) -> list[Path]:
    """The files that are drawn: of mistakes the first of every cell, then the second ...; then of right answers.

    A quarter is kept for right answers, where there are so many.
    """
    turns = {hit: _in_turn(sorted_in, hit) for hit in (False, True)}
    kept = min(len(turns[True]), MAX_PICTURES // 4)
    mistakes = list(islice(turns[False], MAX_PICTURES - kept))
    return list(dict.fromkeys((*mistakes, *islice(turns[True], MAX_PICTURES - len(mistakes)))))


def _in_turn(sorted_in: Mapping[Cell, Sequence[Answered]], hit: bool) -> dict[Path, None]:
    lists = [images for cell, images in sorted(sorted_in.items()) if (cell[0] == cell[1]) == hit]
    found: dict[Path, None] = {}
    for place in range(MAX_IN_CELL[hit]):
        found.update(dict.fromkeys(images[place].path for images in lists if place < len(images)))
    return found


def _thumbnails(paths: Sequence[Path]) -> dict[Path, str]:
    """Thumbnails of the files that can be read; in threads, as decoding releases Python's lock."""
    draw = partial(pictures.thumbnail, side=SIDE, most=MOST)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        drawn: Iterable[str | None] = pool.map(draw, paths)
        if len(paths) > MANY:
            drawn = track(drawn, "drawing thumbnails", len(paths))
        return {path: address for path, address in zip(paths, drawn, strict=True) if address is not None}


def _length(name: str) -> int:
    """How many characters of the page an image's row takes at most: what is not ASCII is six, and so is markup."""
    return len(json.dumps(name)) + 5 * sum(map(name.count, "<>&'")) + 36


def _text(name: str) -> str:
    """A name as the rest of the page shows it: what is no Unicode is written out."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
