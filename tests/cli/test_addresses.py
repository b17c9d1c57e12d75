"""What is written on this computer only says so, instead of making a folder `s3:`."""

from pathlib import Path

import pytest

from tests.conftest import imgclf_here


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("check photos --html s3://bucket/page.html", "--html"),
        ("check photos --csv s3://bucket/suspects.csv", "--csv"),
        ("data pack photos --format webdataset --out gs://bucket/shards", "--out"),
        ("data split photos --out s3://bucket/split.csv", "--out"),
        ("evaluate run --predictions az://box/rows.csv", "--predictions"),
        ("tune photos --out s3://bucket/search", "--out"),
    ],
)
def test_a_place_to_write_that_must_be_here(
    words: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = imgclf_here(*words.split())
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"error: {option} {words.split()[-1]} is an address; name a place on this computer" in done.stderr
    assert not list(tmp_path.iterdir())
