"""What was found about a run's mobile files: verify.json, the file to ship, and what is refused. May import verify."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.errors import CheckFailed, InputError
from imgclf.evaluation.metrics import wilson
from imgclf.export.catalog import FORMATS, TO_SHIP
from imgclf.export.convert import Made
from imgclf.export.verify import Exported, Limits, Reference, verify
from imgclf.progress import warn

RESULTS = "verify.json"
REFUSED = "refused"  # folder in exports/ for what costs too much to be shipped
UNITS = {"": 1.0, "ms": 1.0, "kb": 1e3, "mb": 1e6}


@dataclass(frozen=True)
class Budget:
    """What the file to ship may cost.

    Attributes:
        bytes: its size; None: whatever it is.
        milliseconds: one image on one thread of this computer; None: whatever it takes.
    """

    bytes: float | None = None
    milliseconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read "size=4MB,ms=20", or one of both.

        Raises:
            InputError: not of this form.
        """
        found: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            match = re.fullmatch(r"(size|ms)\s*=\s*([0-9.]+)\s*(kb|mb|ms|)", part.lower())
            try:
                if match is None or (match[1] == "ms") != (match[3] in ("ms", "")):
                    raise ValueError
                number = float(match[2])
            except ValueError:
                raise InputError(f"--budget is {text!r}", "expected a size, a time or both: size=4MB,ms=20") from None
            found[match[1]] = number * UNITS[match[3]]
        if not found:
            raise InputError("--budget is empty", "expected a size, a time or both: size=4MB,ms=20")
        return cls(found.get("size"), found.get("ms"))

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a file of verify.json is within it."""
        return (self.bytes is None or row["bytes"] <= self.bytes) and (
            self.milliseconds is None or row["milliseconds"] <= self.milliseconds
        )


def to_ship(files: Mapping[str, Mapping[str, Any]], budget: Budget | None = None) -> str | None:
    """The format to ship: the first of TO_SHIP without a fault; within a budget the most accurate.

    Args:
        files: format to row, as in verify.json.
        budget: what it may cost.
    """
    fit = [name for name in TO_SHIP if name in files and not files[name]["faults"]]
    if budget is not None:
        fit = [name for name in fit if budget.holds(files[name])]
        fit.sort(key=lambda name: -float(files[name]["litert"]["accuracy"]))
    return fit[0] if fit else None


def write_results(
    folder: Path, rows: Sequence[Exported], reference: Reference, budget: Budget | None = None
) -> str | None:
    """Write exports/verify.json; what it says of files that are there and were not looked at now stays.

    Returns:
        The format to ship, if any.
    """
    path = folder / RESULTS
    earlier = runs.read_json(path).get("files", {}) if path.exists() else {}
    now = {row.format: to_json(row) for row in rows}
    kept = {name: row for name, row in earlier.items() if name not in now and (folder / row["path"]).is_file()}
    files = {name: {**kept, **now}[name] for name in FORMATS if name in kept or name in now}
    chosen = to_ship(files, budget)
    right = int((reference.scores[:, : reference.known].argmax(axis=1) == reference.labels).sum())
    low, high = wilson(right, len(reference.labels))
    runs.write_json(path, {
        "keras": {"accuracy": right / len(reference.labels), "low": low, "high": high, "n": len(reference.labels)},
        "recommended": chosen,
        "files": files,
    })  # fmt: skip
    return chosen


def to_json(row: Exported) -> dict[str, Any]:
    """A row as verify.json has it; the file by its name in the exports folder."""
    inside = row.path.parent.name == REFUSED
    return {**asdict(row), "path": f"{REFUSED}/{row.path.name}" if inside else row.path.name}


def refuse(rows: Sequence[Exported], limits: Limits) -> tuple[tuple[Exported, ...], CheckFailed | None]:
    """Take what must not be shipped out of the exports folder.

    A file that ought to answer as Keras does and does not is removed: it is of no use to anybody. An 8-bit file that
    costs too much goes to the folder refused/.

    Returns:
        The rows with their files where they are now, and the error to raise once everything else is written.
    """
    left: list[Exported] = []
    broken: list[Exported] = []
    for row in rows:
        if not row.faults:
            left.append(row)
        elif FORMATS[row.format].exact:
            row.path.unlink()
            broken.append(row)
        else:
            place = row.path.parent / REFUSED / row.path.name
            place.parent.mkdir(exist_ok=True)
            row.path.replace(place)
            left.append(replace(row, path=place))
            warn(f"{row.path.name} is kept out of the exports, in {REFUSED}/: {'; '.join(row.faults)}")
    if broken:
        worst = broken[0]
        return tuple(left), CheckFailed(f"{worst.path.name} does not behave like the Keras model: {worst.faults[0]}",
                                        f"{' and '.join(row.path.name for row in broken)} removed")  # fmt: skip
    costly = [row for row in left if row.faults]
    if costly and limits.strict:
        return tuple(left), CheckFailed(f"{costly[0].path.name}: {costly[0].faults[0]}", "--max-drop allows more")
    return tuple(left), None


def prove(
    run: runs.Run, made: Mapping[str, Made], reference: Reference, limits: Limits, budget: Budget | None = None
) -> tuple[tuple[Exported, ...], CheckFailed | None]:  # fmt: skip
    """Verify a run's files, take out what must not be shipped, and write down what was found.

    Args:
        run: the run.
        made: format to file.
        reference: the images and what Keras says of them.
        limits: what may differ.
        budget: what the file to ship may cost.

    Returns:
        One row per file that is left, and the error to raise once everything else is written.
    """
    if not made:
        return (), None
    take_back(run / runs.EXPORTS, tuple(made))
    rows, error = refuse(verify(made, reference, limits), limits)
    chosen = write_results(run / runs.EXPORTS, rows, reference, budget)
    if error is None and budget is not None and chosen is None:
        costs = (f"{row.path.name} has {row.bytes / 1e6:.2f} MB and takes {row.milliseconds:.1f} ms" for row in rows)
        error = CheckFailed("no file is within the budget", "; ".join(costs))
    return rows, error


def take_back(folder: Path, names: Sequence[str]) -> None:
    """Remove what was refused before of files that are made anew."""
    for name in names:
        (folder / REFUSED / FORMATS[name].file).unlink(missing_ok=True)
    if (folder / REFUSED).is_dir() and not any((folder / REFUSED).iterdir()):
        shutil.rmtree(folder / REFUSED)
