"""What the dataset doctor says: findings, each with the files it names. Imports imageset, progress and notebook."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from imgclf import notebook
from imgclf.data.imageset import ImageSet
from imgclf.data.suspects import Suspect
from imgclf.progress import plural, printable

# error: images are lost, or the measured accuracy would be wrong. warning: worth a look before training. note: handled.
Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")

SHOWN_ITEMS = 3  # of a finding, where not all are asked for


@dataclass(frozen=True)
class Item:
    """One thing that a finding is about: a file, several files that belong together, or a class.

    Attributes:
        paths: the user's files; empty where a class is meant.
        note: what there is to say of it ("truncated after 312 bytes"); may be empty.
        label: the class in question; "" where the paths tell.
    """

    paths: tuple[Path, ...] = ()
    note: str = ""
    label: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of problem and everything that has it.

    Attributes:
        kind: a name for programs ("near-duplicates").
        level: how bad it is.
        title: what was found, in a few words, with the number.
        why: why it matters.
        fix: what to do.
        items: what it is about, worst first.
    """

    kind: str
    level: Level
    title: str
    why: str
    fix: str
    items: tuple[Item, ...]

    @property
    def files(self) -> int:
        """How many different files are named."""
        return len({path for item in self.items for path in item.paths})


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a folder of images.

    Attributes:
        images: every file, inspected, with parts where the folder has them.
        findings: worst first.
        suspects: images whose label is probably wrong, where a trained run was asked; the most suspicious first.
    """

    images: ImageSet
    findings: tuple[Finding, ...]
    suspects: tuple[Suspect, ...] = ()

    def with_suspects(self, suspects: Sequence[Suspect]) -> "Diagnosis":
        """The same with the images whose label is probably wrong, as the first of the warnings: they were asked for."""
        if not suspects:
            return self
        own = {image.path.absolute(): image.path for image in self.images.images}
        items = tuple(Item((own.get(suspect.path, suspect.path),),
                           f"{suspect.label}, perhaps {suspect.suggested} ({suspect.confidence:.2f})")
                      for suspect in suspects)  # fmt: skip
        found = Finding("label-errors", "warning", f"Labels that are probably wrong: {len(items)}",
                        "wrong labels teach the network mistakes and make a good one look bad",
                        "write them with --csv suspects.csv, go through them with `imgclf review suspects.csv`, and "
                        "train with --fixes suspects.csv", items)  # fmt: skip
        ordered = sorted([found, *self.findings], key=lambda finding: LEVELS.index(finding.level))
        return Diagnosis(self.images, tuple(ordered), tuple(suspects))

    def of(self, kind: str) -> Finding | None:
        """The finding of a kind, or None."""
        return next((finding for finding in self.findings if finding.kind == kind), None)

    def count(self, level: Level) -> int:
        """How many findings there are of a level."""
        return sum(finding.level == level for finding in self.findings)

    def shown(self, path: Path) -> str:
        """A path as it is shown: below the folder of images, with forward slashes."""
        return self.images.shown(path)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON types; paths below the folder, with forward slashes."""
        return {
            "folder": str(self.images.root),
            "images": len(self.images.usable),
            "classes": {label: sum(part[label] for part in self.images.counts().values())
                        for label in self.images.classes},
            "parts": {part or "all": sum(row.values()) for part, row in sorted(self.images.counts().items())},
            "findings": [
                {
                    "kind": finding.kind, "level": finding.level, "title": finding.title, "why": finding.why,
                    "fix": finding.fix, "files": finding.files,
                    "items": [{"paths": [printable(self.shown(path)) for path in item.paths], "note": item.note,
                               "class": item.label} for item in finding.items],
                }
                for finding in self.findings
            ],
        }  # fmt: skip

    def lines(self, limit: int | None = SHOWN_ITEMS) -> Iterator[str]:
        """The findings as text, worst first, with as many items of each as `limit` (None: all)."""
        usable, classes = self.images.usable, self.images.classes
        counts = sorted(self.images.counts().items(), key=_by_part)
        parts = [f"{sum(row.values())} {part}" for part, row in counts if part]
        yield (f"{printable(str(self.images.root))}: {plural(len(usable), 'image')} in {plural(len(classes), 'class')}"
               + (f" ({', '.join(parts)})" if parts else ""))  # fmt: skip
        for finding in self.findings:
            yield ""
            yield f"{finding.level:<8} {finding.title}"
            for item in finding.items[:limit]:
                yield f"           {self.line(item)}"
            if limit is not None and len(finding.items) > limit:
                yield f"           ... and {len(finding.items) - limit} more"
            yield f"         {finding.why}"
            yield f"         -> {finding.fix}"
        yield ""
        yield self._summary()

    def line(self, item: Item) -> str:
        """An item in one line."""
        named = " = ".join(self.shown(path) for path in item.paths[:4])
        if len(item.paths) > 4:
            named += f" = ... ({len(item.paths)} files)"
        return printable(": ".join(filter(None, [named or item.label, item.note])))

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        head = self.images._repr_html_() + notebook.paragraph(self._summary())
        if not self.findings:
            return head
        rows = [
            (
                [finding.level],
                [finding.title, *map(self.line, finding.items[:SHOWN_ITEMS]),
                 *([f"... and {len(finding.items) - SHOWN_ITEMS} more"] if len(finding.items) > SHOWN_ITEMS else [])],
                [finding.why, f"→ {finding.fix}"],
            )
            for finding in self.findings
        ]  # fmt: skip
        return head + notebook.listing(("", "finding", "why it matters, what to do"), rows)

    def _summary(self) -> str:
        numbers = [plural(self.count(level), level) for level in LEVELS if self.count(level)]
        return ", ".join(numbers) if numbers else "nothing found"


def _by_part(entry: tuple[str, Any]) -> int:
    return ("train", "val", "test", "").index(entry[0])
