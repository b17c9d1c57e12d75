"""The facts of a run, read from its folder, for the report and the model card. May import runs and report/."""

import csv
from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.errors import InputError
from imgclf.evaluation.metrics import Metrics
from imgclf.report.card import write_card
from imgclf.report.facts import Answered, ExportRow, HistoryRow, Picture, ReportFacts
from imgclf.report.kept import read_heat, read_learning, read_samples, read_slices, read_sureness
from imgclf.report.layers import INDEX
from imgclf.report.page import write_report
from imgclf.storage.naming import told
from imgclf.storage.places import below, place

BEST = "best"  # of a search: its winner's run
SCORE = "p:"  # what the columns of predictions.csv with the classes' probabilities begin with
NEEDED = (runs.CONFIG, runs.SPLIT, runs.CLASSES, runs.HISTORY, runs.METRICS, runs.PREDICTIONS, runs.MODEL)


def write_run_report(run: runs.Run) -> tuple[Path, Path]:
    """Write RUN/report.html and RUN/MODEL_CARD.md from what the run folder holds."""
    facts = collect(run)
    return write_report(facts, run / runs.REPORT), write_card(facts, run / runs.MODEL_CARD)


def rebuild(root: Path) -> tuple[Path, Path]:
    """Write the report and the model card of a finished run again.

    Returns:
        The two files.

    Raises:
        InputError: no run, or not finished.
        SetupError: they cannot be written.
    """
    run = runs.Run.open(root)
    if not (run / runs.METRICS).is_file() and (run / BEST / runs.STATE).is_file():
        raise InputError(f"{root} is a search", f"its winner is a run: imgclf report {root / BEST}")
    state = run.state["state"]
    if state != "done":
        raise InputError(f"{root} is not finished ({state})", f"finish it: imgclf train --resume {root}")
    facts_missing = [name for name in NEEDED if not (run / name).is_file()]
    if facts_missing:
        raise InputError(f"{run / facts_missing[0]} is missing", "expected a finished run folder of imgclf")
    return write_run_report(run)


def collect(run: runs.Run) -> ReportFacts:
    """Read a finished run.

    Raises:
        InputError: a file of the run is missing or damaged.
    """
    from imgclf.models import backbones

    config = runs.read_json(run / runs.CONFIG)
    settings = {**config["settings"], **config["decided"]}
    folder = place(config["data"]["folder"])
    return ReportFacts(
        title=folder.name,
        run_name=run.root.resolve().name,
        created=config["created"],
        command=config["command"],
        classes=run.classes,
        counts=_counts(run),
        data_notes=config["data"]["notes"],
        backbone=backbones.title(settings["backbone"]),
        image_size=(settings["image_size"], settings["image_size"]),
        parameters=config["parameters"],
        plan=config["notes"],
        metrics=Metrics.from_json(runs.read_json(run / runs.METRICS)),
        history=_history(run),
        tested=answered(run, folder),
        exports=_exports(run),
        settings={name: _shown(value) for name, value in settings.items()},
        versions={"imgclf": config["imgclf"], **config["versions"]},
        seed=settings["seed"],
        fingerprint=config["data"]["fingerprint"],
        layers=_layers(run),
        folds=_folds(run),
        run_path=told(str(run.root)),
        data_path=str(folder),
        sureness=read_sureness(run),
        slices=read_slices(run),
        heat=read_heat(run),
        samples=read_samples(run),
        learning=read_learning(run),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        return list(csv.DictReader(handle))


def _counts(run: runs.Run) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for row in _rows(run / runs.SPLIT):
        part = counts.setdefault(row["part"], dict.fromkeys(run.classes, 0))
        part[_line(row["label"])] += 1
    return counts


def _history(run: runs.Run) -> tuple[HistoryRow, ...]:
    return tuple(
        HistoryRow(
            stage=row["stage"],
            epoch=int(row["epoch"]),
            loss=float(row["loss"]),
            accuracy=float(row["accuracy"]),
            val_loss=float(row["val_loss"]),
            val_accuracy=float(row["val_accuracy"]),
            learning_rate=float(row["learning_rate"]),
            seconds=float(row["seconds"]),
            kept=row["kept"] == "1",
        )
        for row in _rows(run / runs.HISTORY)
    )


def answered(run: runs.Run, folder: Path) -> tuple[Answered, ...]:
    """The test images of a run with their predictions.

    Args:
        run: with its predictions written.
        folder: that their paths are relative to.
    """
    with (run / runs.PREDICTIONS).open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        rows = csv.reader(handle)
        header = next(rows, [])
        names = [name[len(SCORE) :] for name in header if name.startswith(SCORE)]
        first = len(header) - len(names)
        return tuple(_image(folder, row, names, first) for row in rows)


def _image(folder: Path, row: list[str], names: list[str], first: int) -> Answered:
    path, label, prediction = row[:3]
    scores = [float(cell) for cell in row[first:]]
    best = names.index(prediction)  # not the largest: figures are rounded, and two may be equal
    second = max((at for at in range(len(scores)) if at != best), key=scores.__getitem__)
    return Answered(below(folder, path), path, _line(label), _line(prediction), scores[best],
                    scores[names.index(label)], _line(names[second]), scores[second])  # fmt: skip


def _line(label: str) -> str:
    """A class name as classes.txt has it: on one line."""
    return " ".join(label.splitlines())


def _exports(run: runs.Run) -> tuple[ExportRow, ...]:
    # a cross-validation's accuracy is that of other models
    accuracy = None if _folds(run) else runs.read_json(run / runs.METRICS)["accuracy"]
    keras = ExportRow(runs.MODEL, "Keras", (run / runs.MODEL).stat().st_size, accuracy=accuracy)
    results = run / runs.EXPORTS / "verify.json"
    found: dict[str, Any] = runs.read_json(results) if results.is_file() else {}
    return (
        *(
            ExportRow(
                f"{runs.EXPORTS}/{row['path']}", name, row["bytes"], row["litert"]["agreement"],
                row["litert"]["max_difference"], row["litert"]["n"], row["litert"]["accuracy"], row["litert"]["drop"],
                row["mediapipe"]["agreement"] if row["mediapipe"] else None, row["milliseconds"],
                "; ".join(row["faults"]), name == found["recommended"],
            )
            for name, row in found.get("files", {}).items()
        ),
        keras,
    )  # fmt: skip


def _layers(run: runs.Run) -> tuple[Picture, ...]:
    index = run / runs.LAYERS / INDEX
    rows = runs.read_json(index) if index.is_file() else []
    return tuple(Picture(index.parent / Path(name).name, title, caption) for name, title, caption in rows)


def _folds(run: runs.Run) -> tuple[float, ...]:
    path = run / runs.CROSS_VALIDATION
    return tuple(row["accuracy"] for row in runs.read_json(path)["folds"]) if path.is_file() else ()


def _shown(value: Any) -> str:
    if value is None:
        return "auto"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
