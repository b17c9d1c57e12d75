"""`imgclf tune` through the command line: from folder to trained winner, killed and gone on with."""

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from tests.conftest import imgclf, imgclf_here, write_photos
from tests.report.pages import Page

CLASSES = ("disc", "frame &lt;b&gt;")
# What is left to search: augmentation and learning rate.
TINY = ["--backbone", "tiny", "--image-size", "32", "--batch-size", "8", "--epochs", "2", "--workers", "0"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("tune") / "photos & more", CLASSES, 14)


@pytest.fixture(scope="module")
def tuned(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    out = tmp_path_factory.mktemp("runs") / "found"
    done = imgclf_here("tune", pictures, "--out", out, "--trials", "3", *TINY)
    assert done.returncode == 0, done.stderr
    return out, done


def trials(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_the_search_and_the_winner(tuned: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    out = tuned[0]
    assert {path.name for path in out.iterdir()} - {".lock"} == {
        "study.db", "trials.csv", "tune.html", "config.json", "state.json", "split.csv", "classes.txt", "best",
    }  # fmt: skip
    rows = trials(out)
    assert [row["trial"] for row in rows] == ["1", "2", "3"]
    assert {row["network"] for row in rows} == {"tiny"} and "image_size" not in rows[0], "what is given is not searched"
    assert len({(row["augment"], row["learning_rate"]) for row in rows}) == 3
    assert (out / "best" / "split.csv").read_text() == (out / "split.csv").read_text()
    state = json.loads((out / "state.json").read_text())
    winner = rows[state["winner"] - 1]
    settings = json.loads((out / "best" / "config.json").read_text())["settings"]
    assert state["state"] == "done"
    assert (settings["augment"], settings["epochs"]) == (winner["augment"], 2)
    assert settings["learning_rate"] == pytest.approx(float(winner["learning_rate"]))


def test_what_is_printed(tuned: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    out, done = tuned
    lines = done.stdout.splitlines()
    metrics = json.loads((out / "best" / "metrics.json").read_text())
    assert lines[0].startswith("3 trials") and "validation images" in lines[0]
    assert any(line.startswith("winner: trial ") for line in lines)
    assert f"accuracy {metrics['accuracy']:.3f} on {metrics['n']} test images" in done.stdout
    assert "trial 3 of 3" in done.stderr and "training the head" not in done.stderr


def test_the_page_escapes_what_others_wrote(tuned: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    source = (tuned[0] / "tune.html").read_text(encoding="utf-8")
    page = Page(source)
    assert "frame &amp;lt;b&amp;gt;" in source and "photos &amp; more" in source
    assert "frame &lt;b&gt;" in page.text and "photos & more" in page.text
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _ in page.tags}
    assert all(value.startswith("#") for value in page.values("href"))
    assert [tag for tag, _ in page.tags].count("svg") == 3


def test_a_finished_search_is_left_alone_unless_more_is_asked_for(
    tuned: tuple[Path, "subprocess.CompletedProcess[str]"], pictures: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(tuned[0], tmp_path / "copy"))
    before = trials(out)
    done = imgclf_here("tune", pictures, "--out", out, "--trials", "4", *TINY)
    assert done.returncode == 2 and "--resume" in done.stderr
    other = imgclf_here("tune", pictures, "--out", out, "--resume", "--trials", "4", *TINY[:-4], "--epochs", "1")
    assert other.returncode == 2 and "other settings (--epochs)" in other.stderr
    more = imgclf_here(
        "tune", pictures, "--out", out, "--resume", "--trials", "4", "--no-train", "--format", "json", *TINY
    )
    assert more.returncode == 0, more.stderr
    found = json.loads(more.stdout)
    assert trials(out)[:3] == before and len(found["trials"]) == 4
    assert set(found["front"]) <= {1, 2, 3, 4} and found["winner"] in range(1, 5)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--resume"], 2, "no search to go on with"),
        (["--resume", "--overwrite"], 2, "exclude each other"),
        (["--time-budget", "soon"], 2, "90s, 10m"),
        (["--prefer", "beauty"], 2, "--prefer"),
        (["--trials", "0"], 2, "--trials"),
        (["--backbone", "tinny"], 2, "did you mean tiny"),
        ([*TINY, "--learning-rate", "0.01", "--augment", "none"], 2, "nothing to search"),
    ],
)
def test_bad_options_leave_nothing_behind(
    pictures: Path, tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    done = imgclf_here("tune", pictures, "--out", tmp_path / "r", *options)
    assert done.returncode == code and words in done.stderr, done.stderr
    assert done.stderr.count("error: ") == 1 and not (tmp_path / "r").exists()


def test_without_optuna_the_fix_is_named(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgclf import tuning

    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    done = imgclf_here("tune", pictures, "--out", tmp_path / "r", *TINY)
    assert done.returncode == 3 and "pip install 'imgclf[tune]'" in done.stderr
    assert not (tmp_path / "r").exists()


def test_a_training_is_not_taken_for_a_search(run: Path, pictures: Path) -> None:
    done = imgclf_here("tune", pictures, "--out", run, *TINY)
    assert done.returncode == 2 and "exists already" in done.stderr


def test_help_is_fast() -> None:
    code = (
        "import sys; from imgclf.cli.main import run\n"
        "try: run(['tune', '--help'])\n"
        "except SystemExit: assert not {'tensorflow', 'numpy', 'PIL', 'optuna'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def finished(out: Path) -> dict[int, tuple[str, str]]:
    """The trials that have come to their end: number to state and end."""
    if not (out / "study.db").is_file():
        return {}
    try:
        with sqlite3.connect(f"file:{out / 'study.db'}?mode=ro", uri=True) as base:
            found = base.execute("SELECT number, state, datetime_complete FROM trials").fetchall()
    except sqlite3.OperationalError:  # in the making
        return {}
    return {number: (state, end) for number, state, end in found if state == "COMPLETE"}


def stopped(command: list[object], line: str, how: signal.Signals) -> tuple[int, str]:
    """Start a command and stop it when it has written a line that begins so: its code, and what it still wrote."""
    process = subprocess.Popen(
        [sys.executable, "-m", "imgclf", *map(str, command)], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stderr is not None
    try:
        next(found for found in process.stderr if found.startswith(line))
        process.send_signal(how)
        return process.wait(120), process.stderr.read()
    finally:
        process.kill()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.slow
def test_a_search_that_was_killed_and_interrupted_goes_on(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    command = ["tune", pictures, "--out", out, "--trials", "4", "--no-train", *TINY[:4], "--batch-size", "2",
               "--epochs", "6", "--workers", "0"]  # fmt: skip
    stopped(command, "trial 1 of 4", signal.SIGKILL)
    kept = finished(out)
    assert len(kept) >= 1
    assert json.loads((out / "state.json").read_text())["state"] == "running"
    code, rest = stopped(command, f"trial {len(kept) + 1} of 4", signal.SIGINT)
    assert code == 130 and "the same command goes on" in rest and "Traceback" not in rest, rest
    assert json.loads((out / "state.json").read_text())["state"] == "interrupted"
    more = finished(out)
    assert len(more) > len(kept) and {number: more[number] for number in kept} == kept, "none is lost or done again"
    done = imgclf(*command)
    assert done.returncode == 0, done.stderr
    assert f"going on after {len(more)} trials" in done.stderr
    after = finished(out)
    assert {number: after[number] for number in more} == more
    assert len(trials(out)) == 4 and json.loads((out / "state.json").read_text())["state"] == "done"
