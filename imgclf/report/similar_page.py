"""The page of an image and its neighbours: one self-contained HTML file. Imports explaining, document and pictures."""

from collections import Counter
from pathlib import Path

from imgclf.explaining.similar import Similar
from imgclf.report import document
from imgclf.report.pictures import thumbnail
from imgclf.runs import write_text

ASKED_SIDE = 420  # pixels


def render_similar(found: Similar, root: Path) -> str:
    """The whole page as one HTML document that needs no network and no other file.

    Args:
        found: the image and its neighbours.
        root: the folder of the training images, which paths are shown without.
    """
    labels = Counter(neighbour.label for neighbour in found.neighbours)
    shown = [(neighbour, _shown(neighbour.path, root), thumbnail(neighbour.path)) for neighbour in found.neighbours]
    return document.page(
        "similar.html.j2",
        ("style.css", "similar.css"),
        found=found,
        picture=thumbnail(found.path, ASKED_SIDE),
        labels=labels.most_common(),
        shown=shown,
    )


def write_similar_page(found: Similar, root: Path, path: Path) -> Path:
    """Write the page to a file, all of it or nothing.

    Raises:
        SetupError: the file cannot be written.
    """
    return write_text(path, render_similar(found, root))


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
