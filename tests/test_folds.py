"""Cross-validated training: the interval by hand, the whole through the command line, a kill in the middle."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgclf import runs
from imgclf.evaluation.metrics import Metrics, compute
from imgclf.folds import FoldRow, interval
from tests.conftest import imgclf_here, until

FOLDED = ["--backbone", "tiny", "--image-size", "32", "--epochs", "3", "--batch-size", "8", "--augment", "none",
          "--folds", "3", "--formats", "float32"]  # fmt: skip


def pooled(right: int, n: int) -> Metrics:
    labels = np.arange(n) % 2
    said = np.where(np.arange(n) < right, labels, 1 - labels)
    return compute(labels, np.eye(2)[said], ("a", "b"))


def test_folds_that_agree_have_the_interval_of_all_images_together() -> None:
    whole = pooled(90, 100)
    assert interval([FoldRow(20, 0.9)] * 5, whole) == (whole.accuracy_low, whole.accuracy_high)


def test_folds_that_differ_have_a_wider_one_by_hand() -> None:
    # mean 0.9, variance of the sample 0.005; factor 1/5 + 1/3 (a fold tests, one says when to stop, three train);
    # 97.5 % quantile of Student's t with 4 degrees of freedom: 2.776445
    rows = [FoldRow(20, accuracy) for accuracy in (0.8, 0.85, 0.9, 0.95, 1.0)]
    low, high = interval(rows, pooled(90, 100))
    variance = (0.01 + 0.0025 + 0 + 0.0025 + 0.01) / 4
    half = 2.776445 * (variance * (1 / 5 + 1 / 3)) ** 0.5
    assert low == pytest.approx(0.9 - half, abs=1e-6)
    assert high == 1.0


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def folded(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("folds") / "run"
    done = imgclf_here("train", photos, "--out", out, *FOLDED)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.mark.slow
def test_every_image_is_tested_once_by_a_network_that_has_not_seen_it(
    folded: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run, done = folded
    final = read(run / "split.csv")
    assert {row["part"] for row in final} == {"train", "val"} and len(final) == 61
    tested: list[str] = []
    for number in (1, 2, 3):
        parts = {row["path"]: row["part"] for row in read(run / "folds" / str(number) / "split.csv")}
        predicted = [row["path"] for row in read(run / "folds" / str(number) / "predictions.csv")]
        assert sorted(predicted) == sorted(path for path, part in parts.items() if part == "test")
        assert set(parts) == {row["path"] for row in final}
        tested += predicted
    together = read(run / "predictions.csv")
    assert sorted(tested) == sorted(row["path"] for row in together) == sorted(row["path"] for row in final)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["n"] == 61
    assert metrics["accuracy"] == pytest.approx(np.mean([row["label"] == row["prediction"] for row in together]))
    told = json.loads((run / "cross_validation.json").read_text())
    assert sum(fold["n"] for fold in told["folds"]) == 61
    assert metrics["accuracy_low"] == told["accuracy_low"] <= metrics["accuracy"] <= told["accuracy_high"]
    assert "3 folds, 61 images" in done.stdout
    assert json.loads((run / "exports" / "verify.json").read_text())["files"]["float32"]["litert"]["n"] == sum(
        row["part"] == "val" for row in final
    )
    report = (run / "report.html").read_text()
    assert "tested once, by a network that had never seen it" in report and "one of the 3 folds" in report
    assert runs.Run.open(run).state["state"] == "done" and not (run / runs.STAGE).exists()


@pytest.mark.slow
def test_what_has_no_test_part_says_so(
    folded: tuple[Path, subprocess.CompletedProcess[str]], photos: Path, tmp_path: Path
) -> None:
    run, _ = folded
    for words, expected in (
        (["evaluate", run], "cross-validation"),
        (["train", photos, "--from", run, "--out", tmp_path / "a"], "cross-validated"),
        (["train", photos, "--out", tmp_path / "b", *FOLDED, "--test-share", "0.2"], "--test-share means nothing"),
        (["train", photos, "--out", tmp_path / "b", *FOLDED, "--split", run], "--split means nothing"),
        (["train", photos, "--out", tmp_path / "b", *FOLDED, "--teacher", run], "--teacher means nothing"),
        (["train", photos, "--out", tmp_path / "b", *FOLDED[:-4], "--folds", "2"], "--folds is 2"),
        (["train", photos, "--out", tmp_path / "b", *FOLDED[:-4], "--folds", "50"], "too few for 50 folds"),
    ):
        done = imgclf_here(*words)
        assert done.returncode == 2 and expected in done.stderr, done.stderr
    assert not (tmp_path / "b").exists()
    again = imgclf_here("export", run, "--formats", "float16")
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_cross_validation_goes_on_with_the_fold_it_was_at(
    folded: tuple[Path, subprocess.CompletedProcess[str]], photos: Path, tmp_path: Path
) -> None:
    whole, killed = folded[0], tmp_path / "killed"
    command = [sys.executable, "-m", "imgclf", "train", str(photos), "--out", str(killed), *FOLDED]
    first = killed / "folds" / "1" / "predictions.csv"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: first.is_file(), process)
        process.send_signal(signal.SIGKILL)
    written = first.stat().st_mtime_ns
    shutil.rmtree(killed / runs.STAGE, ignore_errors=True)
    done = imgclf_here("train", "--resume", killed)
    assert done.returncode == 0, done.stderr
    assert "fold 1 of 3" not in done.stderr and "fold 3 of 3" in done.stderr
    assert first.stat().st_mtime_ns == written
    for name in ("metrics.json", "predictions.csv", "cross_validation.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
