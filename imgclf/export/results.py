"""What was found about a run's mobile files: verify.json, the file to ship, and what is refused. May import verify."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.errors import CheckFailed
from imgclf.evaluation.metrics import wilson
from imgclf.export.catalog import FORMATS, TO_SHIP
from imgclf.export.convert import Made
from imgclf.export.verify import Exported, Limits, Reference, verify
from imgclf.progress import warn

RESULTS = "verify.json"
REFUSED = "refused"  # folder in exports/ for what costs too much to be shipped


def recommended(rows: Sequence[Exported]) -> Exported | None:
    """The file to ship: the first of TO_SHIP without a fault."""
    return min((row for row in rows if not row.faults), key=lambda row: TO_SHIP.index(row.format), default=None)


def write_results(folder: Path, rows: Sequence[Exported], reference: Reference) -> None:
    """Write exports/verify.json; what it says of files that are there and were not looked at now stays."""
    path = folder / RESULTS
    earlier = runs.read_json(path).get("files", {}) if path.exists() else {}
    now = {row.format: to_json(row) for row in rows}
    kept = {name: row for name, row in earlier.items() if name not in now and (folder / row["path"]).is_file()}
    files = {name: {**kept, **now}[name] for name in FORMATS if name in kept or name in now}
    fit = [name for name in TO_SHIP if name in files and not files[name]["faults"]]
    right = int((reference.scores.argmax(axis=1) == reference.labels).sum())
    low, high = wilson(right, len(reference.labels))
    runs.write_json(path, {
        "keras": {"accuracy": right / len(reference.labels), "low": low, "high": high, "n": len(reference.labels)},
        "recommended": fit[0] if fit else None,
        "files": files,
    })  # fmt: skip


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
    run: runs.Run, made: Mapping[str, Made], reference: Reference, limits: Limits
) -> tuple[tuple[Exported, ...], CheckFailed | None]:  # fmt: skip
    """Verify a run's files, take out what must not be shipped, and write down what was found.

    Returns:
        One row per file that is left, and the error to raise once everything else is written.
    """
    if not made:
        return (), None
    take_back(run / runs.EXPORTS, tuple(made))
    rows, error = refuse(verify(made, reference, limits), limits)
    write_results(run / runs.EXPORTS, rows, reference)
    return rows, error


def take_back(folder: Path, names: Sequence[str]) -> None:
    """Remove what was refused before of files that are made anew."""
    for name in names:
        (folder / REFUSED / FORMATS[name].file).unlink(missing_ok=True)
    if (folder / REFUSED).is_dir() and not any((folder / REFUSED).iterdir()):
        shutil.rmtree(folder / REFUSED)
