"""From a trained run to cleaner labels, and images that come in an archive: the command line in one process."""

import csv
import shutil
from pathlib import Path

import pytest

from tests.conftest import imgclf_here

pytestmark = pytest.mark.slow
QUICK = ["--backbone", "cnn_small", "--image-size", "16", "--epochs", "1", "--formats", ""]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_wrong_labels_are_found_listed_and_applied(photos: Path, run: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(photos, tmp_path / "photos"))
    for number in (1, 2):
        (data / "disc" / f"disc {number}.png").rename(data / "frame" / f"moved {number}.png")
    suspects = tmp_path / "suspects.csv"
    done = imgclf_here("check", data, "--run", run, "--csv", suspects, "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    found = {row["path"].rsplit("/", 1)[-1]: row for row in rows(suspects)}
    assert "Labels that are probably wrong" in done.stdout
    moved = next(name for name in found if name.startswith("moved"))
    assert found[moved]["suggested"] == "disc" and found[moved]["action"] == ""
    assert moved in (tmp_path / "page.html").read_text(encoding="utf-8")

    text = suspects.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if moved in line)
    cells = line.split(",")
    suspects.write_text(text.replace(line, ",".join([*cells[:4], "relabel", "disc", cells[6]])), encoding="utf-8")
    again = imgclf_here("check", data, "--run", run, "--csv", suspects)
    assert again.returncode == 0, again.stderr
    assert {row["path"].rsplit("/", 1)[-1]: row for row in rows(suspects)}[moved]["action"] == "relabel"

    trained = imgclf_here("train", data, "--fixes", suspects, "--out", tmp_path / "r", *QUICK)
    assert trained.returncode == 0, trained.stderr
    assert "as decided: 1 image relabelled, 0 left out" in trained.stderr
    label = {row["path"]: row["label"] for row in rows(tmp_path / "r" / "split.csv")}
    assert label[f"frame/{moved}"] == "disc"
    assert (data / "frame" / moved).is_file()


def test_a_table_of_images_is_not_written_over(photos: Path, run: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.png,a\n")
    done = imgclf_here("check", photos, "--run", run, "--csv", table)
    assert done.returncode == 2 and "neither a column suggested" in done.stderr
    assert table.read_text() == "path,label\na.png,a\n"
    assert imgclf_here("check", photos, "--csv", tmp_path / "new.csv").returncode == 2


def test_overwrite_does_not_take_what_the_user_has_decided(photos: Path, run_copy: Path) -> None:
    mine = run_copy / "suspects.csv"
    mine.write_text("path,label,action\nx.png,disc,keep\n")
    done = imgclf_here("train", photos, "--out", run_copy, "--overwrite", *QUICK)
    assert done.returncode == 2 and "suspects.csv lies inside" in done.stderr
    assert mine.is_file() and (run_copy / "model.keras").is_file()


def test_an_archive_trains_and_a_run_that_is_replaced_keeps_its_parts(two_photos: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "two"), "zip", two_photos))
    done = imgclf_here("train", archive, "--out", tmp_path / "r", *QUICK)
    assert done.returncode == 0, done.stderr
    before = {row["key"]: row["part"] for row in rows(tmp_path / "r" / "split.csv")}
    seen = imgclf_here("evaluate", tmp_path / "r", two_photos)
    assert "were trained on by" in seen.stderr

    replaced = imgclf_here("train", archive, "--out", tmp_path / "r", "--overwrite", *QUICK)
    assert replaced.returncode == 0, replaced.stderr
    assert "parts kept from the earlier run: 28 images, 0 new" in replaced.stderr
    assert {row["key"]: row["part"] for row in rows(tmp_path / "r" / "split.csv")} == before


def test_data_split_is_what_train_does(two_photos: Path, tmp_path: Path) -> None:
    done = imgclf_here("data", "split", two_photos, "--out", tmp_path / "split.csv", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("20 train, 4 val, 4 test")
    folds = imgclf_here("data", "split", two_photos, "--out", tmp_path / "cv.csv", "--folds", "3")
    assert len(folds.stdout.splitlines()) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"split.csv", "cv-1.csv", "cv-2.csv", "cv-3.csv"}
