"""The page of a folder of images: counts, sizes, samples, and what hostile names do to it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgclf.errors import InputError
from imgclf.report.data_page import SAMPLES, write_data_page
from tests.browser import Browser, needs_chromium
from tests.conftest import imgclf_here
from tests.report.pages import Page, foreign_scripts


def folder_of(root: Path, counts: dict[str, int], size: tuple[int, int] = (60, 40)) -> Path:
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def test_counts_sizes_and_samples(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "photos", {"cat": 15, "dog": 4})
    Image.new("RGB", (300, 300)).save(root / "dog" / "large.png")
    (root / "dog" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    page = Page(write_data_page(root, tmp_path / "grid.html").read_text(encoding="utf-8"))
    assert "20 images in 2 classes · 1 file cannot be read" in page.text
    assert "cat 15 dog 5" in page.text and "All classes 20" in page.text
    assert "60 × 40 19" in page.text and "300 × 300 1" in page.text
    assert "40 to 300 pixels, and half of the images have 40 or more" in page.text
    assert "19 images have a short side below 64 pixels" in page.text
    assert len(page.values("src")) == SAMPLES + 5 and f"{SAMPLES} of 15 images" in page.text


def test_parts_are_told_apart_and_samples_repeat(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    folder_of(root / "train", {"cat": 5, "dog": 5})
    folder_of(root / "test", {"cat": 2, "dog": 1})
    first, second = (
        write_data_page(root, tmp_path / name).read_text(encoding="utf-8") for name in ("a.html", "b.html")
    )
    assert first == second
    assert "Training Test Images cat 5 2 7 dog 5 1 6" in Page(first).text.replace("↕", "")


def test_the_command_chooses_by_the_extension_and_keeps_other_files(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "photos", {"cat": 3, "dog": 3})
    out = tmp_path / "grid.HTML"
    done = imgclf_here("data", "preview", root, "--out", out)
    assert done.returncode == 0 and done.stdout.strip() == str(out) and "imgclf data preview" in out.read_text()
    assert imgclf_here("data", "preview", root, "--out", out).returncode == 0, "its own page may be replaced"
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    refused = imgclf_here("data", "preview", root, "--out", mine)
    assert refused.returncode == 2 and mine.read_text() == "mine"


def test_no_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.jpg").write_bytes(b"no")
    with pytest.raises(InputError):
        write_data_page(tmp_path / "photos", tmp_path / "grid.html")


@pytest.mark.skipif(sys.platform == "win32", reason="such names need a POSIX file system")
@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_hostile_names_stay_text_and_fit_the_screen(tmp_path: Path, browser: Browser, width: int, dark: bool) -> None:
    names = ("<img src=x onerror=document.title=1>", "\"' &amp; `", "two\nlines",
             "\u202eeslaf \u05e9\u05dc\u05d5\u05dd", "🦊 {{ 7 * 7 }}", "w" * 200)  # fmt: skip
    root = folder_of(tmp_path / "<b>photos", dict.fromkeys(names, 2))
    path = write_data_page(root, tmp_path / "grid.html")
    source = Page(path.read_text(encoding="utf-8"))
    assert not foreign_scripts(source) and "two␊lines" in source.text and "{{ 7 * 7 }}" in source.text
    with browser.page(path.as_uri(), width, 800, dark) as page:
        wide = page.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide[0] <= wide[1] <= width
        assert page.value("document.images.length") == 2 * len(names)
        assert page.value("[...document.images].every(e => e.naturalWidth > 0)")
        assert page.value("document.title") == "<b>photos – imgclf data preview" and not page.errors
