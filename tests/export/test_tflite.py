import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgclf import predict, runs
from imgclf.errors import CheckFailed
from imgclf.export.tflite import Bound, Exported, prove


@pytest.fixture
def proof(run_copy: Path, photos: Path) -> tuple[runs.Run, dict[str, Path], list[Path], Any]:
    """A run, its mobile files, some images, and what the float32 file says of them."""
    run = runs.Run.open(run_copy)
    files = {name: run / runs.EXPORTS / f"model_{name}.tflite" for name in ("float32", "float16")}
    images = sorted((photos / "frame").iterdir())
    scores = np.array([row.scores for row in predict.load(files["float32"]).each(images)], np.float32)  # type: ignore[union-attr]
    return run, files, images, scores


def listed(run: runs.Run) -> set[str]:
    return set(json.loads((run / runs.EXPORTS / "verify.json").read_text())["files"])


def test_files_that_agree_are_kept_with_their_figures(proof: Any) -> None:
    run, files, images, scores = proof
    labels = scores.argmax(axis=1)
    labels[:5] = (labels[:5] + 1) % 3
    rows = prove(run, files, images, labels, scores)
    assert [row.format for row in rows] == ["float32", "float16"]
    assert rows[0].agreement == 1.0 and rows[0].max_difference == 0.0
    assert rows[0].accuracy == pytest.approx(15 / 20) and rows[0].n == 20
    assert 0 < rows[1].max_difference < 0.1 and rows[1].bytes < rows[0].bytes
    assert listed(run) == {"float32", "float16"}


@pytest.mark.parametrize("wrong", ["other answers", "not a number"])
def test_files_that_differ_are_all_removed_and_one_error_says_so(proof: Any, wrong: str) -> None:
    run, files, images, scores = proof
    reference = np.roll(scores, 1, axis=1) if wrong == "other answers" else np.full_like(scores, np.nan)
    with pytest.raises(CheckFailed, match=r"model_float32\.tflite does not behave .* model_float16\.tflite removed"):
        prove(run, files, images, scores.argmax(axis=1), reference)
    assert not any(path.exists() for path in files.values())
    assert listed(run) == set()


def test_one_image_may_differ_for_a_tie_but_not_two() -> None:
    def row(differing: int) -> Exported:
        return Exported(Path("x"), "float32", 1, 1 - differing / 100, 1e-4, 1.0, 100)

    assert Bound(0.999, 1e-3).holds(row(1))
    assert not Bound(0.999, 1e-3).holds(row(2))
