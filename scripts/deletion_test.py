"""The deletion test of heat maps: hiding the hottest fifth of each image must cost more than hiding as much at random.

    python scripts/deletion_test.py RUN IMAGES... [--limit 50]     a run folder; images or folders of them

Pixels are hidden by the mean colour of the image, in cells of a fourteenth of its side; what is lost is the probability
of the class that was named before (deletion: Petsiuk et al. 2018, arXiv 1806.07421).
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np

import imgclf
from imgclf.pixels import fitted, read

CELLS = 14  # to a side
SHARE = 0.2
DRAWS = 10  # random choices of cells, averaged


def without(images: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Images `(n, H, W, 3)` with their fifth of highest `cells` `(n, CELLS, CELLS)` painted over."""
    hidden = images.copy()
    rows = np.arange(images.shape[1]) * CELLS // images.shape[1]
    columns = np.arange(images.shape[2]) * CELLS // images.shape[2]
    number = round(SHARE * CELLS**2)
    for image, each in zip(hidden, cells, strict=True):
        chosen = np.zeros(CELLS**2, bool)
        chosen[np.argsort(-each.ravel(), kind="stable")[:number]] = True
        image[chosen.reshape(CELLS, CELLS)[rows][:, columns]] = image.mean((0, 1))
    return hidden


def coarse(heat: np.ndarray) -> np.ndarray:
    """Heat of an image in CELLS x CELLS means."""
    rows = np.linspace(0, heat.shape[0], CELLS + 1).astype(int)
    columns = np.linspace(0, heat.shape[1], CELLS + 1).astype(int)
    return np.array([[heat[top:bottom, left:right].mean() for left, right in pairwise(columns)]
                     for top, bottom in pairwise(rows)])  # fmt: skip


def main() -> None:
    """Measure both kinds of map and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=50)
    options = parser.parse_args()
    classifier = imgclf.load(options.run)
    paths = sorted(path for each in options.images for path in (each.rglob("*.*") if each.is_dir() else [each]))
    rng = np.random.default_rng(0)
    paths = [paths[at] for at in np.sort(rng.permutation(len(paths))[: options.limit])]
    height, width = classifier.predictor.input_shape[:2]
    images = np.stack([fitted(read(path).pixels, height, width) for path in paths]).astype(np.float32)
    scores = classifier.predictor.scores(images)
    named, row = scores.argmax(1), np.arange(len(paths))

    def lost(cells: np.ndarray) -> np.ndarray:
        return scores[row, named] - classifier.predictor.scores(without(images, cells))[row, named]

    random = np.mean([lost(rng.random((len(paths), CELLS, CELLS))) for _ in range(DRAWS)], axis=0)
    print(f"{len(paths)} images; a random fifth hidden: {random.mean():.3f} of probability lost")
    for method in ("gradcam", "occlusion"):
        cells = np.stack([coarse(each.heat) for each in classifier.explain(paths, method=method)])
        found = lost(cells)
        print(f"{method}: the hottest fifth {found.mean():.3f}, the coldest {lost(-cells).mean():.3f}; "
              f"the hottest costs more than random in {int((found > random).sum())} of {len(paths)}")  # fmt: skip


if __name__ == "__main__":
    main()
