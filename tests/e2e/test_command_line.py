import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY, imgclf, write_photos

Training = tuple[Path, "subprocess.CompletedProcess[str]"]


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file's time and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_run_folder_holds_what_was_promised(run: Path) -> None:
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert names >= {
        "config.json", "state.json", "split.csv", "classes.txt", "history.csv", "metrics.json", "predictions.csv",
        "model.keras", "report.html", "MODEL_CARD.md", "exports/model_float32.tflite", "exports/model_float16.tflite",
        "exports/classes.txt", "exports/verify.json",
    }  # fmt: skip
    assert not [name for name in names if name.endswith(".part")]
    assert not (run / "stage").exists()
    assert json.loads((run / "state.json").read_text())["state"] == "done"


def test_what_is_printed_is_what_was_measured(training: Training) -> None:
    run, done = training
    metrics = json.loads((run / "metrics.json").read_text())
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"accuracy {metrics['accuracy']:.3f} on {metrics['n']} test images")
    assert str(run / "report.html") in done.stdout
    assert lines[-1].startswith("next: imgclf predict ")
    rows = (run / "predictions.csv").read_text().splitlines()
    assert len(rows) == metrics["n"] + 1


def test_progress_goes_to_stderr_and_each_bad_file_is_named_once(training: Training) -> None:
    _, done = training
    assert done.stderr.count("broken.jpg") == 1
    assert "\r" not in done.stderr, "plain lines when stderr is not a terminal"
    assert "tensorflow" not in done.stderr.lower() and "WARNING" not in done.stderr, done.stderr


@pytest.mark.slow
def test_the_photos_are_untouched_and_quiet_is_quiet(two_photos: Path, tmp_path: Path) -> None:
    before = snapshot(two_photos)
    done = imgclf("train", two_photos, "--out", tmp_path / "r", *TINY[:-6], "--epochs", "1", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert snapshot(two_photos) == before
    assert json.loads((tmp_path / "r" / "config.json").read_text())["decided"]["head"] == "binary"


@pytest.mark.slow
def test_a_config_can_be_passed_back(run: Path, photos: Path, tmp_path: Path) -> None:
    done = imgclf("train", photos, "--out", tmp_path / "again", "--config", run / "config.json")
    assert done.returncode == 0, done.stderr
    first, second = ((root / "predictions.csv").read_text() for root in (run, tmp_path / "again"))
    assert first == second, "the same settings and seed give the same model"


@pytest.mark.slow
def test_evaluate_repeats_the_measure_and_takes_other_folders(run: Path, photos: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    again = imgclf("evaluate", run, "--format", "json")
    assert json.loads(again.stdout) == metrics
    lite = imgclf("evaluate", run, "--model", run / "exports/model_float32.tflite", "--format", "json")
    assert json.loads(lite.stdout)["confusion"] == metrics["confusion"]
    other = imgclf("evaluate", run, photos)
    assert other.returncode == 1, "one file of the folder cannot be read"
    assert "of 61 test images" in other.stdout


@pytest.mark.slow
def test_export_can_be_repeated_and_verified(run_copy: Path, photos: Path) -> None:
    shutil.rmtree(run_copy / "exports")
    done = imgclf("export", run_copy, "--max-drop", "50")
    assert done.returncode == 0, done.stderr
    assert "model_float16.tflite" in done.stdout and "ship " in done.stdout
    assert (run_copy / "exports" / "classes.txt").read_text() == (run_copy / "classes.txt").read_text()
    found = json.loads((run_copy / "exports" / "verify.json").read_text())
    assert set(found["files"]) == {"float16", "int8"} and found["files"]["int8"]["input"] == "uint8"
    again = imgclf("verify", run_copy, "--format", "json", "--max-drop", "50")
    assert again.returncode == 0, again.stderr
    rows = {row["format"]: row for row in json.loads(again.stdout)}
    assert rows["int8"]["litert"]["agreement"] == found["files"]["int8"]["litert"]["agreement"]
    assert rows["float16"]["mediapipe"] is not None
    strict = imgclf("verify", run_copy, "--data", photos, "--min-agreement", "100", "--max-drop", "0")
    table = strict.stdout.splitlines()
    assert table[0].split()[:3] == ["file", "size", "input"] and any("MediaPipe" in line for line in table)
    assert strict.returncode == ("NOT to be shipped" in strict.stdout)


def test_a_file_is_verified_without_tensorflow(run_copy: Path) -> None:
    code = (
        "import sys; from imgclf.cli.main import run\n"
        "try: run(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'tensorflow', 'keras'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    file = run_copy / "exports/model_float16.tflite"
    done = subprocess.run([sys.executable, "-c", code, "verify", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model_float16.tflite" in done.stdout and f"ship {file}" in done.stdout


def test_verify_names_what_it_cannot_do(run_copy: Path, tmp_path: Path, photos: Path) -> None:
    alone = tmp_path / "alone.tflite"
    shutil.copy(run_copy / "exports/model_float32.tflite", alone)
    one_line(imgclf("verify", alone), 2, "is not the export of a run", "--data")
    one_line(imgclf("verify", tmp_path / "nowhere"), 2, "does not exist")
    done = imgclf("verify", alone, "--data", photos)
    assert done.returncode == 0, done.stderr
    assert "100.0%" in done.stdout
    shutil.rmtree(run_copy / "exports")
    one_line(imgclf("verify", run_copy), 2, "has no mobile files", "imgclf export")


def test_metadata_is_shown_and_added(run_copy: Path, tmp_path: Path) -> None:
    file = run_copy / "exports/model_float32.tflite"
    shown = imgclf("metadata", "show", file)
    assert shown.returncode == 0, shown.stderr
    assert "32 x 32, 3 channels, float32" in shown.stdout and "bar & co, disc, frame" in shown.stdout
    (tmp_path / "labels.txt").write_text("one\ntwo, three\nfour\n")
    done = imgclf("metadata", "add", file, "--labels", tmp_path / "labels.txt", "--name", "new", "--mean", "127.5",
                  "--std", "127.5", "--out", tmp_path / "new.tflite")  # fmt: skip
    assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / "new.tflite")
    value = json.loads(imgclf("metadata", "show", tmp_path / "new.tflite", "--format", "json").stdout)["metadata"]
    assert value["labels"] == ["one", "two, three", "four"] and value["name"] == "new" and value["mean"] == [127.5]
    assert "Accuracy" in value["description"], "what is not given stays"
    (tmp_path / "labels.txt").write_text("one\n")
    for options, words in (
        (["--labels", tmp_path / "labels.txt"], "1 labels for 3 scores"),
        (["--mean", "1"], "--mean and --std belong together"),
        (["--mean", "1,2", "--std", "1,2"], "--mean has 2 numbers"),
        (["--mean", "x", "--std", "1"], "expected numbers"),
        (["--out", file], "is the file itself"),
    ):
        one_line(imgclf("metadata", "add", file, *options), 2, words)


@pytest.mark.slow
def test_preview_draws_a_sheet(photos: Path, tmp_path: Path) -> None:
    from PIL import Image

    out = tmp_path / "sheet.png"
    done = imgclf("data", "preview", photos, "--out", out, "--image-size", "32")
    assert done.returncode == 0, done.stderr
    with Image.open(out) as sheet:
        assert sheet.width == 6 + 7 * 38 and sheet.height == 6 + 12 * 56


def test_backbones_are_listed_without_tensorflow() -> None:
    code = (
        "import sys; from imgclf.cli.main import run\n"
        "try: run(['backbones', 'list'])\n"
        "except SystemExit: assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mobilenet_v2" in done.stdout
    shown = imgclf("backbones", "show", "mobilenet_v2").stdout
    assert "block_12_add" in shown and "Apache-2.0" in shown


def one_line(done: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
    assert all(word in errors[0] for word in words), errors[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--backbone", "mobilnet_v2"], 2, ["unknown backbone", "did you mean mobilenet_v2"]),
        (["--backbone", "inception_v3", "--image-size", "48"], 2, ["cannot take", "75"]),
        (["--epochs", "0"], 2, ["--epochs is 0"]),
        (["--augment", "wild"], 2, ["--augment", "none, shift, light"]),
        (["--weights", "nowhere.h5"], 2, ["nowhere.h5"]),
        (["--backbone", "tiny", "--unfreeze", "zebra", "--epochs", "1", "--fine-tune-epochs", "1"], 0, []),
        (["--formats", "int4"], 2, ["--formats", "float32, float16"]),
        (["--config", "nowhere.json"], 2, ["nowhere.json"]),
    ],
)
def test_bad_options_leave_nothing_behind(
    two_photos: Path, tmp_path: Path, options: list[str], code: int, words: list[str]
) -> None:
    out = tmp_path / "r"
    done = imgclf("train", two_photos, "--out", out, *options, KERAS_HOME=str(tmp_path))
    if code:
        one_line(done, code, *words)
        assert not out.exists()
    else:
        assert done.returncode == 0, "from scratch there is nothing to unfreeze"


@pytest.mark.slow
def test_bad_folders_are_one_line_each(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.png").write_bytes((photos / "frame" / "frame 0.png").read_bytes())
    single = write_photos(tmp_path / "single", ("disc",), 4)
    broken = write_photos(tmp_path / "broken", ("disc", "frame"), 4)
    for file in (broken / "frame").iterdir():
        file.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    out = tmp_path / "r"
    for folder, words in (
        (tmp_path / "nowhere", ["nowhere"]), (tmp_path / "empty", ["empty"]), (flat, ["flat"]), (single, ["disc"]),
        (broken, ["frame"]), (photos / "frame" / "frame 0.png", ["frame 0.png"]),
    ):  # fmt: skip
        one_line(imgclf("train", folder, "--out", out, *TINY), 2, *words)
        assert not out.exists()


def test_a_missing_download_names_everything_and_exits_with_3(two_photos: Path, tmp_path: Path) -> None:
    closed = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = imgclf("train", two_photos, "--out", tmp_path / "r", "--backbone", "mobilenet_v2",
                  KERAS_HOME=str(tmp_path / "keras"), **closed)  # fmt: skip
    one_line(done, 3, "https://storage.googleapis.com", str(tmp_path / "keras"), "--weights FILE", "--backbone tiny")
    assert not (tmp_path / "r").exists()
    left = {path.name for path in (tmp_path / "keras").rglob("*") if path.is_file()}
    assert left <= {"keras.json"}, "Keras' own settings may be there, half a download may not"


@pytest.mark.slow
def test_an_existing_run_is_refused_and_replaced_when_told(run_copy: Path, two_photos: Path, tmp_path: Path) -> None:
    before = snapshot(run_copy)
    one_line(imgclf("train", two_photos, "--out", run_copy, *TINY), 2, "--overwrite")
    one_line(imgclf("train", tmp_path / "nowhere", "--out", run_copy, "--overwrite", *TINY), 2, "nowhere")
    assert snapshot(run_copy) == before, "a run is not given up before the new data is known to be good"
    one_line(imgclf("train", two_photos, "--out", two_photos / "run", *TINY), 2, "inside the image folder")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place_is_one_line(two_photos: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    one_line(imgclf("train", two_photos, "--out", locked / "r", *TINY), 3, "cannot be written")


def test_a_run_inside_a_file_is_one_line(two_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    one_line(imgclf("train", two_photos, "--out", tmp_path / "file" / "r", *TINY), 2, "is not a folder")


def interruptible(command: list[object]) -> "subprocess.Popen[str]":
    """Start a process that takes Ctrl-C, also where the tests themselves run in the background and ignore it."""

    def heed() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        [str(part) for part in command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heed
    )


def last_words(process: "subprocess.Popen[str]") -> str:
    """What it still writes to stderr; it is killed when it does not end."""
    try:
        return process.communicate(timeout=120)[1]
    finally:
        process.kill()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.slow
def test_ctrl_c_keeps_the_best_weights(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    command = [sys.executable, "-m", "imgclf", "train", photos, "--out", out, *TINY[:4], "--epochs", "5000",
               "--patience", "5000", "--augment", "none"]  # fmt: skip
    process = interruptible(command)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "val accuracy" in line:  # at least one epoch is done
            break
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    rest = last_words(process)
    assert process.returncode == 130, (lines, rest)
    assert time.monotonic() - start < 60
    assert "imgclf evaluate" in rest and "Traceback" not in rest
    assert json.loads((out / "state.json").read_text())["state"] == "interrupted"
    done = imgclf("evaluate", out)
    assert done.returncode == 0 and "accuracy" in done.stdout, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.slow
def test_ctrl_c_before_there_is_anything_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    command = [sys.executable, "-m", "imgclf", "train", photos, "--out", out, *TINY]
    process = interruptible(command)
    assert process.stderr is not None
    for line in process.stderr:
        if "61 images" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = last_words(process)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert not out.exists()


def test_help_is_fast_and_grouped() -> None:
    shown = imgclf("--help").stdout
    assert "Make a classifier" in shown and "predict" in shown
    options = imgclf("train", "--help").stdout
    assert "--fine-tune-epochs" in options and "Model:" in options and "default:" in options
    for command in ("", "train", "backbones"):
        code = (
            "import sys; from imgclf.cli.main import run\n"
            f"try: run([{command!r}, '--help'] if {command!r} else ['--help'])\n"
            "except SystemExit: assert not {'tensorflow', 'numpy', 'PIL'} & set(sys.modules), 'heavy'"
        )
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
