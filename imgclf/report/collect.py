"""The facts of a run, read from its folder, for the report. May import runs and report/."""

import csv
from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.evaluation.metrics import Metrics
from imgclf.report.facts import ExportRow, HistoryRow, Mistake, Picture, ReportFacts
from imgclf.report.layers import INDEX
from imgclf.report.page import write_report


def write_run_report(run: runs.Run) -> Path:
    """Write RUN/report.html from what the run folder holds."""
    return write_report(collect(run), run / runs.REPORT)


def collect(run: runs.Run) -> ReportFacts:
    """Read a finished run.

    Raises:
        InputError: a file of the run is missing or damaged.
    """
    from imgclf.models import backbones

    config = runs.read_json(run / runs.CONFIG)
    settings = {**config["settings"], **config["decided"]}
    folder = Path(config["data"]["folder"])
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
        mistakes=_mistakes(run, folder),
        exports=_exports(run),
        settings={name: _shown(value) for name, value in settings.items()},
        versions={"imgclf": config["imgclf"], **config["versions"]},
        seed=settings["seed"],
        fingerprint=config["data"]["fingerprint"],
        layers=_layers(run),
        folds=_folds(run),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        return list(csv.DictReader(handle))


def _counts(run: runs.Run) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for row in _rows(run / runs.SPLIT):
        part = counts.setdefault(row["part"], dict.fromkeys(run.classes, 0))
        part[row["label"]] += 1
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


def _mistakes(run: runs.Run, folder: Path) -> tuple[Mistake, ...]:
    return tuple(
        Mistake(
            path=folder / row["path"],
            shown_path=row["path"],
            true_label=row["label"],
            predicted_label=row["prediction"],
            probability=float(row["probability"]),
            true_probability=float(row[f"p:{row['label']}"]),
        )
        for row in _rows(run / runs.PREDICTIONS)
        if row["label"] != row["prediction"]
    )


def _exports(run: runs.Run) -> tuple[ExportRow, ...]:
    keras = ExportRow(runs.MODEL, "Keras", (run / runs.MODEL).stat().st_size)
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
