"""The dataset doctor's page: a diagnosis in, one self-contained HTML file out. May import data/, document and pictures.

Pictures are read again in worker processes with limits, and only those that the inspection could read: whatever else a
finding names (a web page called .jpg, a pipe, a folder) is shown by its name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from imgclf.data.diagnosis import LEVELS, Diagnosis, Finding, Item, Level
from imgclf.data.imageset import PARTS, ImageFile
from imgclf.progress import plural
from imgclf.report import document, pictures
from imgclf.report.document import View, folded
from imgclf.runs import write_text
from imgclf.workers.parallel import map_items

MAX_ITEMS = 24  # of a finding that are drawn
MAX_PICTURES = 6  # of a group that are drawn
MAX_PATHS = 200  # of a finding that are listed beyond those
MAX_CLASSES = 1000  # in the table of classes
MAX_TEXT = 200  # characters of a path or a note; the middle of a longer one is left out

# All pictures together, in characters of the page. Each may take an equal share of it, but no more than ALLOWANCE: a
# photo of 240 pixels a side takes 14,000 characters, one of 112 takes 4,500.
PICTURE_BUDGET, ALLOWANCE = 4_500_000, 22_000
SIDES = ((14_000, 240), (8_000, 176), (4_500, 128), (0, 96))  # a share of at least that many characters, pixels
ITEM_TIMEOUT = 30.0  # seconds; the file has been read before within the limit of the inspection

PART_TITLES = {"train": "training", "val": "validation", "test": "test", "": ""}

ADVICE: dict[Level | None, str] = {
    "error": "Look at the errors before you train: images are lost, or the accuracy you measure will not be true.",
    "warning": "Nothing is broken. The warnings are worth a look before you train.",
    "note": "Nothing needs to be done. The notes say what is unusual here, and how imgclf deals with it.",
    None: "Every file can be read, no picture is there twice, no class is short of images, and none looks out of "
    "place. Well kept: go ahead and train.",
}
NO_IMAGES = "There is nothing here to look at."


@dataclass(frozen=True, slots=True)
class Picture:
    """One file as it is shown.

    Attributes:
        folder: the path below the images' folder up to the name, with a final slash; may be empty.
        name: of the file.
        source: the `data:` address of the thumbnail; None where there is none.
        readable: whether the inspection could read it, so that there should be a thumbnail.
        kind: the extension in capitals, for a file that is not drawn.
        label: its class; "" where unknown.
        part: "training", "validation", "test" or "".
    """

    folder: str
    name: str
    source: str | None
    readable: bool
    kind: str
    label: str
    part: str


@dataclass(frozen=True, slots=True)
class Group:
    """Files that belong together, side by side: what tells them apart is marked.

    Attributes:
        pictures: those that are drawn.
        total: how many files there are.
        note: what the finding says of them, where their captions do not.
        classes_differ: whether they are in several classes.
        parts_differ: whether they are in several parts.
    """

    pictures: tuple[Picture, ...]
    total: int
    note: str
    classes_differ: bool
    parts_differ: bool


def render_check(diagnosis: Diagnosis, workers: int | None = None) -> str:
    """The whole diagnosis as one HTML document that needs no network and no other file.

    Args:
        diagnosis: what the page shows; the images it draws are read again.
        workers: the number of processes that read them; None takes one per processor, 0 reads them in this one.

    Returns:
        HTML text of at most some 6 MB that can be written as UTF-8 whatever the file names in it are.

    Raises:
        SetupError: the processes cannot be started.
    """
    return document.page("check.html.j2", ("style.css", "check.css"), **_Gallery(diagnosis, workers).view())


def write_check_page(diagnosis: Diagnosis, path: Path, workers: int | None = None) -> Path:
    """Write the page of a diagnosis to a file, all of it or nothing.

    Args:
        diagnosis: what the page shows.
        path: the file to write; an old one is replaced.
        workers: as for `render_check`.

    Returns:
        The path.

    Raises:
        SetupError: the file cannot be written, or the processes cannot be started.
    """
    return write_text(path, render_check(diagnosis, workers))


class _Gallery:
    """A diagnosis with its thumbnails, turned into what the templates show."""

    def __init__(self, diagnosis: Diagnosis, workers: int | None) -> None:
        self.diagnosis = diagnosis
        self.files = {image.path: image for image in diagnosis.images.images}
        self.sources = self._thumbnails(workers)

    def view(self) -> View:
        """All that `check.html.j2` shows."""
        diagnosis = self.diagnosis
        root = diagnosis.images.root
        worst = next((level for level in LEVELS if diagnosis.count(level)), None)
        return {
            "folder": (root if root.name not in ("", "..") else root.resolve()).name or str(root),
            "images": len(diagnosis.images.usable),
            "classes": len(diagnosis.images.classes),
            "levels": [(level, diagnosis.count(level)) for level in LEVELS if diagnosis.count(level)],
            "worst": worst,
            "advice": ADVICE[worst] if worst or diagnosis.images.usable else NO_IMAGES,
            "findings": [self._section(number, found) for number, found in enumerate(diagnosis.findings, start=1)],
            **_class_rows(diagnosis),
        }

    def _thumbnails(self, workers: int | None) -> dict[Path, str]:
        """Thumbnails of all pictures that are drawn, together no larger than the budget."""
        drawn = [path for finding in self.diagnosis.findings for item in finding.items[:MAX_ITEMS]
                 for path in self._ordered(item)[:MAX_PICTURES] if self._is_readable(path)]  # fmt: skip
        paths = list(dict.fromkeys(drawn))
        if not paths:
            return {}
        most = min(ALLOWANCE, PICTURE_BUDGET // len(drawn))
        side = next(side for least, side in SIDES if most >= least)
        make = partial(pictures.thumbnail, side=side, most=most)
        results = map_items(make, paths, title="drawing thumbnails", workers=workers, item_timeout=ITEM_TIMEOUT)
        return {path: result.value for path, result in zip(paths, results, strict=True) if result.value is not None}

    def _ordered(self, item: Item) -> list[Path]:
        """The files of an item, first one of each class and part, so that these are among those that are drawn."""
        first: dict[tuple[int, str], Path] = {}
        for path in item.paths:
            first.setdefault(self._place(path), path)
        leading = set(first.values())
        return [*first.values(), *(path for path in item.paths if path not in leading)]

    def _place(self, path: Path) -> tuple[int, str]:
        """The part and class of a file, to sort by."""
        image = self.files.get(path)
        return (PARTS.index(image.part) if image and image.part else 0, image.label if image else "")

    def _is_readable(self, path: Path) -> bool:
        return path in self.files and self.files[path].verdict != "unreadable"

    def _section(self, number: int, finding: Finding) -> View:
        items = finding.items[:MAX_ITEMS]
        alone = [(self._picture(item.paths[0]), _shortened(item.note)) for item in items
                 if len(item.paths) == 1 and _is_files(item)]  # fmt: skip
        further, unlisted = self._further(finding)
        return {
            "anchor": f"finding-{number}",
            "level": finding.level,
            "title": finding.title.removesuffix(f": {len(finding.items)}"),
            "number": len(finding.items),
            "amount": _amount(finding),
            "why": _sentence(finding.why),
            "fix": _sentence(finding.fix),
            "named": [(_shortened(item.label), _shortened(item.note)) for item in items if not _is_files(item)],
            "groups": [self._group(item) for item in items if len(item.paths) > 1],
            "photos": [entry for entry in alone if entry[0].readable],
            "others": [entry for entry in alone if not entry[0].readable],
            "shown": len(items),
            "undrawn": sum(len(paths) or 1 for _, paths in self._undrawn(finding)),
            "further": further,
            "unlisted": unlisted,
        }

    def _group(self, item: Item) -> Group:
        known = [self.files[path] for path in item.paths if path in self.files]
        labels, parts = {image.label for image in known}, {image.part for image in known}
        # what the captions under the pictures say already is not said again above them
        said = {text for image in known for text in (image.label, image.part)} | {""}
        note = "" if set(item.note.split(" and ")) <= said else _shortened(item.note)
        drawn = sorted(self._ordered(item)[:MAX_PICTURES], key=self._place)
        return Group(tuple(map(self._picture, drawn)), len(item.paths), note, len(labels) > 1, len(parts) > 1)

    def _picture(self, path: Path) -> Picture:
        image = self.files.get(path, ImageFile(path, ""))
        folder, slash, name = _shortened(self.diagnosis.shown(path)).rpartition("/")
        return Picture(
            folder + slash, name, self.sources.get(path), self._is_readable(path), path.suffix[1:5].upper() or "–",
            _shortened(image.label), PART_TITLES[image.part],
        )  # fmt: skip

    def _undrawn(self, finding: Finding) -> Iterator[tuple[Item, Sequence[Path]]]:
        """Items of which something is not drawn, with the paths in question (none for a class)."""
        for item in finding.items[:MAX_ITEMS]:
            if len(item.paths) > MAX_PICTURES:
                yield item, self._ordered(item)[MAX_PICTURES:]
        for item in islice(finding.items, MAX_ITEMS, None):
            yield item, item.paths

    def _further(self, finding: Finding) -> tuple[list[tuple[list[str], str]], int]:
        """What is not drawn, as lines of paths and a note; and how many files are not even listed."""
        lines: list[tuple[list[str], str]] = []
        left = MAX_PATHS
        unlisted = 0
        for item, paths in self._undrawn(finding):
            listed = paths[:left]
            left -= max(len(listed), 1)
            unlisted += len(paths) - len(listed)
            if listed:
                lines.append(([_shortened(self.diagnosis.shown(path)) for path in listed], _shortened(item.note)))
            elif not item.paths and left >= 0:
                lines.append(([_shortened(item.label)], _shortened(item.note)))
            elif not item.paths:
                unlisted += 1
        return lines, unlisted


def _is_files(item: Item) -> bool:
    """Whether an item is about files, rather than about a class (whose folder it may name)."""
    return bool(item.paths) and not item.label


def _amount(finding: Finding) -> str:
    """How much a finding is about, in the unit that it is about."""
    groups = sum(len(item.paths) > 1 for item in finding.items)
    if groups and all(len(item.paths) == 2 for item in finding.items):
        return _counted(groups, "pair")
    if groups:
        return f"{_counted(groups, 'group')}, {_counted(finding.files, 'file')}"
    labels = {item.label for item in finding.items if not _is_files(item)}
    return _counted(len(labels), "class") if labels else _counted(finding.files, "file")


def _counted(number: int, noun: str) -> str:
    return plural(number, noun).replace(str(number), f"{number:,}", 1)


def _class_rows(diagnosis: Diagnosis) -> View:
    """Each class with its number of images, by part where there are parts."""
    counts = diagnosis.images.counts()
    parts = [part for part in (*PARTS, "") if part in counts]
    rows = [(_shortened(label), [counts[part][label] for part in parts]) for label in diagnosis.images.classes]
    most = max((sum(numbers) for _, numbers in rows), default=0)
    totals = [sum(counts[part].values()) for part in parts]
    return {
        "parts": [PART_TITLES[part] for part in parts],
        "totals": totals,
        "most": max(most, 1),
        "hidden_classes": max(0, len(rows) - MAX_CLASSES),
        **folded(rows[:MAX_CLASSES]),
    }


def _sentence(text: str) -> str:
    """A remark as a sentence: a capital in front, a stop at the end."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}" if text else ""


def _shortened(text: str) -> str:
    """A text that fits a caption; of a very long one the middle is left out, as both ends tell something."""
    half = MAX_TEXT // 2
    return text if len(text) <= MAX_TEXT else f"{text[:half]} … {text[-half:]}"
