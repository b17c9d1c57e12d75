"""After a kill, on a grown folder, and what is kept for the next run."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from imgclf import runs
from tests.conftest import draw, imgclf_here, until

SETTINGS = ["--backbone", "tiny", "--image-size", "32", "--epochs", "6", "--batch-size", "8", "--patience", "6"]


def weights(run: Path) -> list[np.ndarray]:
    return [np.asarray(value) for value in keras.models.load_model(run / "model.keras", compile=False).get_weights()]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_training_goes_on_to_the_very_weights(photos: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert imgclf_here("train", photos, "--out", whole, *SETTINGS).returncode == 0
    command = [sys.executable, "-m", "imgclf", "train", str(photos), "--out", str(killed), *SETTINGS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        checkpoint = killed / runs.CHECKPOINTS / "latest.npz"
        for _ in process.stderr:
            if checkpoint.is_file():
                break
        until(lambda: _epochs(checkpoint), process)
        process.send_signal(signal.SIGKILL)
    assert json.loads((killed / "state.json").read_text())["state"] == "running"
    done = imgclf_here("train", "--resume", killed)
    assert done.returncode == 0, done.stderr
    assert "going on with" in done.stderr
    for ours, theirs in zip(weights(whole), weights(killed), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (whole / "metrics.json").read_bytes() == (killed / "metrics.json").read_bytes()
    config = json.loads((killed / "config.json").read_text())
    assert config["command"].startswith("imgclf train") and "--resume" not in config["command"]
    assert len(config["notes"]) == len(set(config["notes"]))
    assert not (killed / runs.CHECKPOINTS).exists() and not (killed / runs.STAGE).exists()
    again = imgclf_here("train", "--resume", killed)
    assert again.returncode == 2 and "is finished" in again.stderr and "--from" in again.stderr


def _epochs(checkpoint: Path) -> int:
    try:
        with np.load(checkpoint) as content:
            return int(json.loads(content["facts"].tobytes())["progress"]["epoch"])
    except (OSError, ValueError):
        return 0


def test_what_cannot_be_gone_on_with_is_said_in_a_line(run_copy: Path, photos: Path, tmp_path: Path) -> None:
    run = runs.Run(run_copy)
    run.set_state("running", stage="training")
    for arguments, words in (
        (["--resume", run_copy, "--epochs", "3"], "leave everything else out"),
        ([photos, "--resume", run_copy], "leave everything else out"),
        (["--resume", tmp_path / "nowhere"], "does not exist"),
        (["--resume", photos], "is not a run folder"),
    ):
        done = imgclf_here("train", *arguments)
        assert done.returncode == 2 and words in done.stderr, done.stderr
    with run.lock():
        held = imgclf_here("train", "--resume", run_copy)
    assert held.returncode == 2 and "another process is training" in held.stderr
    (run_copy / "split.csv").unlink()
    early = imgclf_here("train", "--resume", run_copy)
    assert early.returncode == 2 and "before its images were split" in early.stderr


def test_a_resumed_training_wants_its_images_as_they_were(run_copy: Path, photos: Path) -> None:
    runs.Run(run_copy).set_state("running", stage="training")
    split = run_copy / "split.csv"
    lines = split.read_text().splitlines()
    path, label, part, key = lines[1].rsplit(",", 3)
    split.write_text("\n".join([lines[0], ",".join([path, label, part, "0" * len(key)]), *lines[2:]]) + "\n")
    done = imgclf_here("train", "--resume", run_copy)
    assert done.returncode == 2 and "1 image of" in done.stderr and "not as they were" in done.stderr, done.stderr
    assert json.loads((run_copy / "state.json").read_text())["state"] == "running"


def test_more_photos_and_a_new_class(run: Path, photos: Path, tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    shutil.copytree(photos, grown)
    (grown / "a star").mkdir()
    for number in range(12):
        draw(number % 3, 500 + number).rotate(45).save(grown / "a star" / f"{number}.png")
    out = tmp_path / "out"
    done = imgclf_here("train", grown, "--from", run, "--out", out, "--epochs", "4", "--formats", "")
    assert done.returncode == 0, done.stderr
    assert "new class a star (12)" in done.stderr and "12 new images" in done.stderr, done.stderr
    before, after = runs.Run.open(run), runs.Run.open(out)
    assert after.classes == (*before.classes, "a star")
    old = {line.rsplit(",", 1)[1]: line for line in (run / "split.csv").read_text().splitlines()[1:]}
    new = {line.rsplit(",", 1)[1]: line for line in (out / "split.csv").read_text().splitlines()[1:]}
    assert all(new[key].rsplit(",", 2)[1] == line.rsplit(",", 2)[1] for key, line in old.items())
    compared = json.loads((out / "comparison.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    assert compared["n"] == metrics["n"] and compared["before"] == pytest.approx(metrics["accuracy"])
    assert f"on the {compared['n']} test images of before" in done.stderr
    # a little later, and a little more: what held the head in bounds is known
    draw(0, 700).rotate(45).save(grown / "a star" / "late.png")
    found = json.loads((out / "config.json").read_text())["head"]
    assert found["weight_decay"] > 0
    for options, known in (([], True), (["--head-search"], False), (["--weight-decay", "0.123"], False)):
        later = tmp_path / "later"
        done = imgclf_here("train", grown, "--from", out, "--out", later, "--overwrite", "--epochs", "2",
                           "--formats", "", *options)  # fmt: skip
        assert done.returncode == 0, done.stderr
        line = f"head: weight decay {found['weight_decay']:g}, dropout {found['dropout']:g}, as {out} found"
        assert (line in done.stderr) is known, done.stderr
        assert ("is best of" in done.stderr) is not known, done.stderr


def test_a_run_to_continue_must_be_one(photos: Path, run: Path, tmp_path: Path) -> None:
    for options, words in (
        (["--from", tmp_path / "nowhere"], "does not exist"),
        (["--from", run, "--backbone", "resnet18"], "--backbone and --from exclude each other"),
        (["--from", run, "--split", "x.csv"], "--split and --from exclude each other"),
    ):
        done = imgclf_here("train", photos, "--out", tmp_path / "r", *options)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert not (tmp_path / "r").exists()


def test_the_cache_is_shown_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgclf.cut.store import Space

    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    empty = imgclf_here("cache", "info")
    assert empty.returncode == 0 and "0.0 MB" in empty.stdout
    space = Space({"network": "x"}, (4,), "float32")
    space.describe(what="a net, pooled")
    with space.writing() as writer:
        writer.add(["a", "b"], np.ones((2, 4), np.float32))
    shown = imgclf_here("cache", "info")
    assert "2 readings  a net, pooled" in shown.stdout
    told = json.loads(imgclf_here("cache", "info", "--format", "json").stdout)
    assert told["activations"][0]["readings"] == 2 and told["folder"] == str(tmp_path / "cache")
    assert imgclf_here("cache", "clear").returncode == 0
    assert not json.loads(imgclf_here("cache", "info", "--format", "json").stdout)["activations"]
    monkeypatch.setenv("IMGCLF_CACHE_GB", "much")
    wrong = imgclf_here("cache", "info")
    assert wrong.returncode == 2 and "IMGCLF_CACHE_GB is 'much'" in wrong.stderr
