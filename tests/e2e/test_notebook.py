"""docs/tutorials/notebook.ipynb runs from top to bottom as it is, in a kernel of its own, on the pictures it names."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "notebook.ipynb"


def outputs(cell: Any, kind: str) -> list[str]:
    """What a cell has shown in a form, such as "image/png"."""
    return [output["data"][kind] for output in cell.get("outputs", []) if kind in output.get("data", {})]


def test_it_is_kept_without_outputs() -> None:
    page = nbformat.read(PAGE, as_version=4)
    nbformat.validate(page)
    code = [cell for cell in page.cells if cell.cell_type == "code"]
    assert not [cell.source for cell in code if cell.outputs or cell.execution_count]


def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "docs" / "tutorials"
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "sample_data" / "objects", tmp_path / "sample_data" / "objects")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    page = nbformat.read(PAGE, as_version=4)
    nbclient.NotebookClient(
        page, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    shown = {cell.source.splitlines()[-1]: cell for cell in page.cells if cell.cell_type == "code"}
    for last, kind in {
        "found": "text/html",
        "classifier.metrics": "text/html",
        "classifier.history": "text/html",
        "classifier.metrics.plot_confusion()": "image/png",
        "classifier.metrics.plot_reliability()": "image/png",
        "classifier.history.plot()": "image/png",
        "classifier.show([neighbour.path for neighbour in similar])": "image/png",
        'classifier.explain(f"{DATA}/cup/cup_001.jpg")[0]': "image/png",
    }.items():
        assert len(outputs(shown[last], kind)) == 1, last
    assert "leaf_truncated.jpg" in outputs(shown["found"], "text/html")[0]
    run = folder / "runs" / "notebook"
    assert (run / "exports" / "model_float16.tflite").is_file()
    assert len(list((run / "tensorboard").glob("*/events.out.tfevents.*"))) == 2
