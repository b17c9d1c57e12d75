import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from imgclf import runs
from imgclf.errors import InputError, SetupError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = runs.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), runs.writing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_files_are_readable_for_others_as_the_umask_has_it(tmp_path: Path) -> None:
    target = runs.write_text(tmp_path / "a.txt", "x")
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="the disk is full") as error, runs.writing(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        runs.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_an_existing_run_is_kept_unless_told(tmp_path: Path) -> None:
    run = runs.Run.create(tmp_path / "r")
    (run / "model.keras").write_bytes(b"precious")
    with pytest.raises(InputError, match="--overwrite"):
        runs.Run.create(tmp_path / "r")
    assert (run / "model.keras").read_bytes() == b"precious"
    runs.Run.create(tmp_path / "r", overwrite=True)
    assert not (run / "model.keras").exists()


def test_a_folder_that_is_no_run_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a run of imgclf"):
        runs.Run.create(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_run_of_another_version_says_which(tmp_path: Path) -> None:
    run = runs.Run.create(tmp_path / "r")
    state = {**run.state, "schema": 99, "imgclf": "7.0"}
    runs.write_json(run / runs.STATE, state)
    with pytest.raises(InputError, match=r"written by imgclf 7\.0.*install imgclf 7\.0"):
        runs.Run.open(tmp_path / "r")


def test_a_damaged_state_is_an_input_error(tmp_path: Path) -> None:
    run = runs.Run.create(tmp_path / "r")
    (run / runs.STATE).write_text("{half")
    with pytest.raises(InputError, match=r"state\.json cannot be read"):
        runs.Run.open(tmp_path / "r")


def test_two_processes_cannot_train_in_one_run(tmp_path: Path) -> None:
    root = tmp_path / "r"
    run = runs.Run.create(root)
    code = f"from imgclf import runs; from pathlib import Path\nwith runs.Run(Path({str(root)!r})).lock(): pass"
    with run.lock():
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process is training" in other.stderr
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr


def test_class_names_survive_their_file(tmp_path: Path) -> None:
    names = ("a b", 'quote"', "naïve, café", "猫", "trailing ")
    runs.write_classes(tmp_path / "classes.txt", names)
    assert runs.read_classes(tmp_path / "classes.txt") == names


def test_free_folder_counts_on(tmp_path: Path) -> None:
    assert runs.free_folder("x", tmp_path) == tmp_path / "x"
    (tmp_path / "x").mkdir()
    assert runs.free_folder("x", tmp_path) == tmp_path / "x-2"


def test_state_is_plain_json(tmp_path: Path) -> None:
    run = runs.Run.create(tmp_path / "r")
    run.set_state("done")
    assert json.loads((run / runs.STATE).read_text())["state"] == "done"
