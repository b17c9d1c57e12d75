"""The page of a comparison: models on the same images in, one self-contained HTML file out. Imports evaluation/compare.

A page holds as many thumbnails as fit its size; the images beyond them are named.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from imgclf.evaluation.compare import KINDS, Comparison, Flip, Kind, Scored
from imgclf.report import document, pictures
from imgclf.report.document import View
from imgclf.runs import write_text

MAX_PICTURES = 600  # on the page, shared by the models
SIDE, MOST = 128, 9_000  # a thumbnail's longest side in pixels, and its characters: 5.4 MB at most
MAX_NAMES = 500  # of a model and kind, beyond the thumbnails
CHANCE = 0.05  # p below which a change is called more than chance

TITLES: dict[Kind, tuple[str, str]] = {
    "lost": ("Lost", "The baseline had these right, this model has not."),
    "won": ("Won", "The baseline had these wrong, this model has them right."),
    "changed": ("Wrong in another way", "Both models are wrong, with different answers."),
}


def render_compare(found: Comparison) -> str:
    """The whole comparison as one HTML document that needs no network and no other file.

    Args:
        found: what the page shows; the images that flipped are read again.

    Returns:
        HTML text that can be written as UTF-8 whatever the file names in it are.
    """
    others = found.models[1:]
    groups = {model.name: _by_kind(model.flips) for model in others}
    each = MAX_PICTURES // max(1, sum(len(kinds) for kinds in groups.values()))
    drawn = [flip.path for kinds in groups.values() for flips in kinds.values() for flip in flips[:each]]
    sources = _thumbnails(list(dict.fromkeys(drawn)))
    return document.page(
        "compare.html.j2", ("style.css", "compare.css"), "page.js",
        found=found, baseline=found.models[0], others=others, chance=CHANCE, pairs=zip(found.models, found.totals,
                                                                                        strict=True),
        sections=[_section(model, groups[model.name], each, sources) for model in others],
        recalls=_recalls(found),
    )  # fmt: skip


def write_compare_page(found: Comparison, path: Path) -> Path:
    """Write the page of a comparison to a file, all of it or nothing.

    Raises:
        SetupError: the file cannot be written.
    """
    return write_text(path, render_compare(found))


def _by_kind(flips: Sequence[Flip]) -> dict[Kind, list[Flip]]:
    groups: dict[Kind, list[Flip]] = defaultdict(list)
    for flip in flips:
        groups[flip.kind].append(flip)
    return {kind: groups[kind] for kind in KINDS if kind in groups}


def _section(model: Scored, kinds: dict[Kind, list[Flip]], each: int, sources: dict[Path, str]) -> View:
    return {
        "model": model,
        "kinds": [
            {
                "title": TITLES[kind][0], "why": TITLES[kind][1], "kind": kind, "n": len(flips),
                "shown": [(flip, sources.get(flip.path)) for flip in flips[:each]],
                "named": flips[each : each + MAX_NAMES], "unnamed": max(0, len(flips) - each - MAX_NAMES),
            }
            for kind, flips in kinds.items()
        ],
    }  # fmt: skip


def _recalls(found: Comparison) -> list[View]:
    """A row per class: its images, and for each model how many were found, as a share and against the baseline."""
    return [
        {
            "label": label, "n": n,
            "cells": [(model.found[label] / n, model.found[label] - found.models[0].found[label])
                      for model in found.models],
        }
        for label, n in found.supports.items()
    ]  # fmt: skip


def _thumbnails(paths: Sequence[Path]) -> dict[Path, str]:
    draw = partial(pictures.thumbnail, side=SIDE, most=MOST)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        drawn = pool.map(draw, paths)
        return {path: source for path, source in zip(paths, drawn, strict=True) if source is not None}
