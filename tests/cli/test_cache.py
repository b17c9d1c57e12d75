import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import imgclf_here


def unpacked() -> int:
    return int(json.loads(imgclf_here("cache", "info", "--format", "json").stdout)["unpacked"])


def test_unpacked_images_are_shown_and_go_when_told(
    two_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", two_photos)
    assert imgclf_here("check", archive).returncode == 0
    images = sum(path.stat().st_size for path in two_photos.rglob("*.png"))
    assert unpacked() == images
    assert "cache clear --unpacked" in imgclf_here("cache", "info").stdout
    assert imgclf_here("cache", "clear").returncode == 0
    assert unpacked() == images
    freed = imgclf_here("cache", "clear", "--unpacked")
    assert freed.stdout == f"{images / 1e6:.1f} MB freed\n" and unpacked() == 0
    assert imgclf_here("check", archive).returncode == 0, "it is unpacked again"
