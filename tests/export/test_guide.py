"""What people get who put the files into an app: a guide whose code runs, and images with their scores."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from imgclf import predict, runs
from imgclf.export.guide import write_guide
from imgclf.export.results import RESULTS
from imgclf.markdown import plain


def test_the_python_of_the_guide_runs_and_says_what_predict_says(run: Path, tmp_path: Path) -> None:
    exports = run / runs.EXPORTS
    guide = (exports / "README.md").read_text()
    name = runs.read_json(exports / RESULTS)["files"][runs.read_json(exports / RESULTS)["recommended"]]["path"]
    assert f"**Ship `{name}`**" in guide and guide.count(name) >= 5
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    for file in (name, "classes.txt"):
        shutil.copy(exports / file, tmp_path / file)
    shutil.copy(exports / "golden" / "0.png", tmp_path / "photo.jpg")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": ""})  # fmt: skip
    assert done.returncode == 0, done.stderr
    (expected,) = predict.load(exports / name).each([exports / "golden" / "0.png"])
    assert isinstance(expected, predict.Prediction)
    label, score = done.stdout.strip().rsplit(" ", 1)
    assert label == expected.label and abs(float(score) - expected.probability) < 0.05


def test_golden_scores_are_what_each_file_gives(run: Path) -> None:
    folder = run / runs.EXPORTS / "golden"
    found = json.loads((folder / "golden.json").read_text())
    assert tuple(found["classes"]) == runs.read_classes(run / runs.CLASSES)
    assert 3 <= len(found["images"]) <= 10 and {entry["label"] for entry in found["images"]} == set(found["classes"])
    for name in found["images"][0]["scores"]:
        predictor = predict.load(run if name == "keras" else run / runs.EXPORTS / name)
        for entry in found["images"]:
            (row,) = predictor.each([folder / entry["image"]])
            assert isinstance(row, predict.Prediction)
            np.testing.assert_allclose(row.scores, entry["scores"][name], atol=1e-4)


def test_names_are_text_in_the_guide(run_copy: Path) -> None:
    run = runs.Run.open(run_copy)
    runs.write_classes(run / runs.CLASSES, ["<img src=x onerror=1>", "a|b `c`", "[x](javascript:1)"])
    write_guide(run)
    guide = (run_copy / runs.EXPORTS / "README.md").read_text()
    assert "<img" not in guide and "[x](" not in guide and plain("a|b `c`") in guide


def test_no_guide_where_nothing_may_be_shipped(run_copy: Path) -> None:
    run = runs.Run.open(run_copy)
    results = runs.read_json(run / runs.EXPORTS / RESULTS)
    runs.write_json(run / runs.EXPORTS / RESULTS, {**results, "recommended": None})
    assert write_guide(run) is None and not (run_copy / runs.EXPORTS / "README.md").exists()
