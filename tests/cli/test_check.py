import json
import os
import sys

import pytest

from tests.conftest import imgclf_here
from tests.data.drawing import save, texture


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes: a broken file (an error), five copies (warnings), a misnamed file (a note)."""
    root = tmp_path_factory.mktemp("check") / "photos"
    for seed in range(40):
        save(texture(seed), root / ("cat", "dog")[seed % 2] / f"{seed:02}.png")
    (root / "cat/broken.png").write_bytes(b"no image")
    for seed in (0, 2, 4, 6, 8):
        save(texture(seed), root / "cat" / f"copy {seed}.png", compress_level=1)
    save(texture(99), root / "dog/misnamed.jpg", format="PNG")
    return root


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    root = tmp_path_factory.mktemp("check") / "clean"
    for seed in range(40):
        save(texture(100 + seed), root / ("cat", "dog")[seed % 2] / f"{seed}.png")
    return root


def check(*arguments):
    return imgclf_here("check", *arguments, "--workers", "0", "--quiet")


def test_text(photos):
    done = check(photos)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0] == f"{photos}: 46 images in 2 classes"
    assert lines[2:4] == [
        "error    Files that cannot be read: 1",
        "           cat/broken.png: not an image in a known format",
    ]
    assert "           cat/00.png = cat/copy 0.png: cat" in lines
    assert sum(line.startswith("           cat/0") for line in lines) == 3
    assert "           ... and 2 more" in lines
    assert lines[-1] == "1 error, 1 warning, 1 note"


def test_all_names_every_file(photos):
    lines = check(photos, "--all").stdout.splitlines()
    assert sum(line.startswith("           cat/0") for line in lines) == 5
    assert not any("... and" in line for line in lines)


def test_json(photos):
    done = check(photos, "--format", "json")
    table = json.loads(done.stdout)
    assert (done.returncode, table["images"], table["classes"]) == (0, 46, {"cat": 25, "dog": 21})
    assert [(each["kind"], each["level"], each["files"]) for each in table["findings"]] == [
        ("unreadable", "error", 1),
        ("duplicates", "warning", 10),
        ("wrong-extension", "note", 1),
    ]
    assert table["findings"][0]["items"][0]["paths"] == ["cat/broken.png"]


@pytest.mark.parametrize("fail_on, code", [("error", 1), ("warning", 1)])
def test_fail_on(photos, clean, fail_on, code):
    done = check(photos, "--fail-on", fail_on)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {photos} has findings of level {fail_on}")
    assert done.stdout.splitlines()[-1] == "1 error, 1 warning, 1 note"  # the findings come all the same
    done = check(clean, "--fail-on", fail_on)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "nothing found"


def test_fail_on_error_lets_warnings_pass(tmp_path, clean):
    for name in ("cat", "dog"):
        (tmp_path / name).symlink_to(clean / name) if sys.platform != "win32" else pytest.skip("needs links")
    (tmp_path / "outside.png").write_bytes(b"")
    assert [check(tmp_path, "--fail-on", level).returncode for level in ("error", "warning")] == [0, 1]


@pytest.mark.parametrize("name, message", [("absent", "there is no folder"), ("one", "holds only one class")])
def test_a_bad_folder_is_bad_usage(tmp_path, name, message):
    save(texture(1), tmp_path / "one/cat/1.png")
    done = check(tmp_path / name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert done.stderr.count("\n") == 1


def test_bad_options_are_bad_usage(photos):
    assert check(photos, "--format", "xml").returncode == 2
    assert check(photos, "--fail-on", "note").returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="names that other file systems do not take")
@pytest.mark.parametrize("output", ["text", "json"])
def test_names_that_are_no_unicode_can_be_printed(tmp_path, output):
    for name in (b"caf\xe9", b"tea"):
        folder = tmp_path / os.fsdecode(name)
        save(texture(len(name)), folder / "1.png")
        (folder / os.fsdecode(b"\xe9.png")).write_bytes(b"")
    done = check(tmp_path, "--format", output)
    assert done.returncode == 0
    assert rb"\udce9.png" in done.stdout.encode()  # what is no Unicode would raise
    assert "caf\ufffd" in done.stdout or r"caf\ufffd" in done.stdout  # a class has a name that any file can hold


def test_the_second_check_says_the_same(photos):
    assert check(photos, "--format", "json").stdout == check(photos, "--format", "json").stdout


def test_help_names_the_command():
    assert "check " in imgclf_here("--help").stdout
    assert "--fail-on" in imgclf_here("check", "--help").stdout


def test_what_is_not_a_page_of_a_check_is_not_written_over(photos, tmp_path):
    photo = next(photos.rglob("*.png"))
    before = photo.read_bytes()
    done = check(photos, "--html", photo)
    assert done.returncode == 2 and "not of imgclf's making" in done.stderr
    assert photo.read_bytes() == before
    page = tmp_path / "page.html"
    assert [check(photos, "--html", page).returncode for _ in range(2)] == [0, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_pipes_are_not_waited_for(photos, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    done = check(tmp_path / "pipe.csv")
    assert done.returncode == 2 and "is a pipe or a device" in done.stderr
    photo = next(photos.rglob("*.png"))
    rows = [
        "path,label",
        *(f"{path},{path.parent.name}" for path in photos.rglob("*.png")),
        f"pipe.csv,{photo.parent.name}",
    ]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    done = check(tmp_path / "table.csv", "--format", "json")
    assert done.returncode == 0 and "cannot be opened (not a file)" in done.stdout


def test_usage_errors_and_names_too_long_are_one_line(photos):
    for arguments in ([], [photos, photos], ["x" * 300]):
        done = check(*arguments)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
