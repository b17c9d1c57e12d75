"""What a training says about its images, on the screen and in its report. May import data/ and progress."""

from imgclf.data.diagnosis import Diagnosis, Level
from imgclf.data.imageset import PARTS, ImageSet
from imgclf.data.inspect import problems
from imgclf.data.similar import Pair
from imgclf.data.split import leaks, torn_groups
from imgclf.progress import plural, say, warn

SHOWN_LEAKS = 5
TOLD = ("unreadable", "leaks")  # kinds of findings that are told file by file


def announce(images: ImageSet, diagnosis: Diagnosis, pairs: tuple[Pair, ...], split: str | None = None) -> None:
    """Say what was found: counts, every unreadable file once, leaks, and the other findings in a line each.

    Args:
        images: with parts.
        diagnosis: of the images.
        pairs: of nearly the same pictures.
        split: the file or run that the parts were taken from, if any.
    """
    for line in data_notes(images, split):
        say(line)
    for problem in problems(images):
        warn(problem)
    found = leaks(images, pairs)
    for kept, copy in found[:SHOWN_LEAKS]:
        warn(f"{copy.path} ({copy.part}) is nearly or quite the same picture as {kept.path} ({kept.part})")
    if found:
        warn(f"{plural(len(found), 'picture')} in more than one part: the accuracy will look too good; "
             "--drop-leaks leaves the training copies out")  # fmt: skip
    torn = torn_groups(images)
    if torn:
        example = next(iter(torn))
        warn(f"{plural(len(torn), 'group')} in more than one part, as {example!r}: the accuracy will look too good")
    for line in finding_notes(diagnosis, "error"):
        warn(line)
    for line in finding_notes(diagnosis, "warning"):
        say(f"worth a look: {line}")


def data_notes(images: ImageSet, split: str | None = None) -> list[str]:
    """What the images are, as sentences."""
    counts = images.counts()
    shown = ", ".join(f"{sum(counts[part].values())} {part}" for part in PARTS if part in counts)
    own = "the table's own parts" if images.listed else "the folder's own parts"
    origin = f"parts of {split}" if split else own if images.has_parts else "split by content"
    told = f": {shown} ({origin})" if shown else ""
    notes = [f"{plural(len(images.usable), 'image')} in {plural(len(images.classes), 'class')}{told}"]
    repaired = sum(image.verdict == "repairable" for image in images.images)
    if repaired:
        notes.append(f"not plain upright JPEG or PNG, so brought into that form in a copy: {plural(repaired, 'image')}")
    if images.unreadable:
        notes.append(f"cannot be read, so left out: {plural(len(images.unreadable), 'file')}")
    if images.ignored:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(images.ignored_counts.items()))
        notes.append(f"ignored: {kinds}")
    return notes


def finding_notes(diagnosis: Diagnosis, *levels: Level) -> list[str]:
    """One line per finding of these levels that has not been told file by file."""
    lines = []
    for finding in diagnosis.findings:
        if finding.level in levels and finding.kind not in TOLD:
            such_as = "" if len(finding.items) == 1 else "such as "
            lines.append(f"{finding.title} ({such_as}{diagnosis.line(finding.items[0])})")
    return lines
