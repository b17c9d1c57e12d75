"""`imgclf compare` and `imgclf report` on one small trained run and changed copies of it."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imgclf import runs
from imgclf.evaluation.paired import paired
from tests.browser import Browser, needs_chromium
from tests.conftest import imgclf_here
from tests.report.pages import Page, foreign_scripts


@pytest.fixture
def other(run_copy: Path) -> Path:
    """A copy of the run that answers its first three test images otherwise: to the next class."""
    classes = runs.read_classes(run_copy / runs.CLASSES)
    with (run_copy / runs.PREDICTIONS).open(newline="") as file:
        header, *rows = csv.reader(file)
    for row in rows[:3]:
        row[2] = classes[(classes.index(row[2]) + 1) % len(classes)]
    runs.write_csv(run_copy / runs.PREDICTIONS, header, rows)
    return run_copy


def answers(run: Path) -> dict[str, tuple[str, str]]:
    with (run / runs.PREDICTIONS).open(newline="") as file:
        return {row["path"]: (row["label"], row["prediction"]) for row in csv.DictReader(file)}


def test_the_table_and_json_say_what_the_predictions_say(run: Path, other: Path, tmp_path: Path) -> None:
    import numpy as np

    page = tmp_path / "page.html"
    done = imgclf_here("compare", run, other, "--html", page)
    assert done.returncode == 0, done.stderr
    before, after = answers(run), answers(other)
    right = [np.array([label == said for label, said in each.values()]) for each in (before, after)]
    change = paired(*right)
    assert f"{len(before)} test images, the same for all" in done.stdout
    pattern = rf"copy +0\.\d+ +{right[1].sum()} +[\d.]+ to [\d.]+ +{change.won} +{change.lost} +{change.p:.3g}\n"
    assert re.search(pattern, done.stdout), done.stdout
    found = json.loads(imgclf_here("compare", run, other, "--format", "json").stdout)
    flips = {flip["path"]: (flip["before"], flip["after"]) for flip in found["models"][1]["flips"]}
    assert flips == {path: (before[path][1], after[path][1]) for path in before if before[path] != after[path]}
    assert len(flips) == 3 and all(path in done.stdout for path in flips)
    shown = Page(page.read_text(encoding="utf-8"))
    assert len(shown.values("src")) == 3 and "bar & co" in shown.text


def test_runs_are_compared_without_tensorflow(run: Path, other: Path) -> None:
    code = ("import sys; from pathlib import Path; from imgclf.comparing import compare_models; "
            "compare_models([Path(a) for a in sys.argv[1:]]); assert 'tensorflow' not in sys.modules")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, str(run), str(other)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_only_what_both_tested_counts(run: Path, run_copy: Path) -> None:
    with (run_copy / runs.PREDICTIONS).open(newline="") as file:
        header, *rows = csv.reader(file)
    runs.write_csv(run_copy / runs.PREDICTIONS, header, rows[2:])
    done = imgclf_here("compare", run, run_copy)
    expected = (
        f"{len(rows) - 2} images that all have in their test part ({len(rows)} of first, {len(rows) - 2} of copy)"
    )
    assert done.returncode == 0 and expected in done.stdout
    assert "as many right as the baseline" in done.stdout and "every image as first has it" in done.stdout


def test_model_files_are_compared_on_a_folder(run: Path, photos: Path) -> None:
    exports = run / runs.EXPORTS
    done = imgclf_here("compare", exports / "model_float32.tflite", exports / "model_float16.tflite", "--data", photos,
                       "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["n"] == 61 and found["support"]["disc"] == 21, "the broken one is left out"
    assert done.stderr.count("broken.jpg") == 1
    again = json.loads(imgclf_here("evaluate", exports / "model_float16.tflite", photos, "--format", "json").stdout)
    assert found["models"][1]["accuracy"] == pytest.approx(again["accuracy"])


def test_errors_are_one_line_with_a_way_out(run: Path, run_copy: Path, tmp_path: Path) -> None:
    for arguments, expected in (
        ((run,), "nothing to compare with"),
        ((run, run / runs.EXPORTS / "model_float32.tflite"), "single file"),
        ((run, tmp_path / "none"), "does not exist"),
    ):
        done = imgclf_here("compare", *arguments)
        assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1
    (run_copy / runs.PREDICTIONS).unlink()
    assert "has no predictions.csv" in imgclf_here("compare", run, run_copy).stderr
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    assert imgclf_here("compare", run, run, "--html", mine).returncode == 2 and mine.read_text() == "mine"


def test_a_training_writes_the_card_and_report_writes_both_again(run: Path, run_copy: Path) -> None:
    card = (run / runs.MODEL_CARD).read_text(encoding="utf-8")
    metrics = json.loads((run / runs.METRICS).read_text())
    assert f"accuracy **{100 * metrics['accuracy']:.1f} %**" in card and "bar &#38; co" in card
    assert json.loads((run / runs.CONFIG).read_text())["data"]["fingerprint"] in card
    for name in (runs.REPORT, runs.MODEL_CARD):
        (run_copy / name).unlink()
    done = imgclf_here("report", run_copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(run_copy / runs.REPORT), str(run_copy / runs.MODEL_CARD)]
    assert (run_copy / runs.MODEL_CARD).read_text(encoding="utf-8").replace("copy", "first").count("first") >= 1


def test_an_unfinished_run_has_no_report(run_copy: Path) -> None:
    runs.Run(run_copy).set_state("interrupted")
    before = (run_copy / runs.REPORT).read_bytes()
    done = imgclf_here("report", run_copy)
    assert done.returncode == 2 and "is not finished (interrupted)" in done.stderr and "--resume" in done.stderr
    assert (run_copy / runs.REPORT).read_bytes() == before
    runs.Run(run_copy).set_state("done")
    (run_copy / runs.METRICS).unlink()
    assert "metrics.json is missing" in imgclf_here("report", run_copy).stderr


def test_a_search_points_to_its_winner(run: Path, tmp_path: Path) -> None:
    runs.Run(tmp_path).set_state("done")
    shutil.copytree(run, tmp_path / "best")
    done = imgclf_here("report", tmp_path)
    assert done.returncode == 2 and f"imgclf report {tmp_path / 'best'}" in done.stderr


def test_names_stand_in_for_images_that_are_gone(run_copy: Path) -> None:
    config = runs.read_json(run_copy / runs.CONFIG)
    config["data"]["folder"] = str(run_copy / "gone")
    runs.write_json(run_copy / runs.CONFIG, config)
    assert imgclf_here("report", run_copy).returncode == 0
    assert "no preview" in Page((run_copy / runs.REPORT).read_text(encoding="utf-8")).text


HOSTILE = "<script>alert(1)</script>\"'&\n\u202e\u05e9\u05dc\u05d5\u05dd 🦊"


@pytest.fixture
def hostile(run_copy: Path) -> Path:
    """The run, as if one of its classes had the worst of names, with a line break in it."""
    flat = " ".join(HOSTILE.splitlines())
    classes = [flat if name == "disc" else name for name in runs.read_classes(run_copy / runs.CLASSES)]
    runs.write_classes(run_copy / runs.CLASSES, classes)
    for name in (runs.SPLIT, runs.PREDICTIONS):
        with (run_copy / name).open(newline="") as file:
            header, *rows = csv.reader(file)
        header = [cell.replace("p:disc", f"p:{HOSTILE}") for cell in header]
        runs.write_csv(run_copy / name, header, [[HOSTILE if cell == "disc" else cell for cell in row] for row in rows])
    metrics = runs.read_json(run_copy / runs.METRICS)
    for entry in metrics["per_class"]:
        entry["label"] = HOSTILE if entry["label"] == "disc" else entry["label"]
    runs.write_json(run_copy / runs.METRICS, metrics)
    return run_copy


def test_the_worst_of_class_names_stays_text(hostile: Path, tmp_path: Path) -> None:
    assert imgclf_here("report", hostile).returncode == 0
    page = Page((hostile / runs.REPORT).read_text(encoding="utf-8"))
    assert not foreign_scripts(page) and '<script>alert(1)</script>"' in page.text
    card = (hostile / runs.MODEL_CARD).read_text(encoding="utf-8")
    assert "<script" not in card and "\u202e" not in card and "&#60;script&#62;alert(1)" in card
    html = tmp_path / "page.html"
    done = imgclf_here("compare", hostile, hostile, "--html", html)
    assert done.returncode == 0 and "\u202e" not in done.stdout
    shown = Page(html.read_text(encoding="utf-8"))
    assert not foreign_scripts(shown) and '<script>alert(1)</script>"' in shown.text


@needs_chromium
@pytest.mark.browser
def test_the_report_of_a_training_opens_its_cells(run: Path, browser: Browser) -> None:
    metrics = json.loads((run / runs.METRICS).read_text())
    with browser.page((run / runs.REPORT).as_uri()) as page:
        for true, row in enumerate(metrics["confusion"]):
            for said, count in enumerate(row):
                if count:
                    page.value(f"document.querySelector('.matrix [data-cell=\"{true}-{said}\"]').click()")
                    assert page.value("document.querySelectorAll('#cell .path, #cell .further li').length") == count
        assert not page.errors
