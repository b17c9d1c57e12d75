"""The report as a reader, a hostile file name and a phone meet it."""

import base64
import io
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgclf.errors import ImgclfError
from imgclf.evaluation.metrics import compute
from imgclf.report.facts import Answered, ExportRow, HistoryRow, ReportFacts
from imgclf.report.page import MAX_MATRIX, MAX_THUMBNAILS, render, write_report
from imgclf.report.pictures import THUMBNAIL_SIDE, thumbnail
from tests.report.pages import CHROMIUM, HOSTILE, Page, check_in_a_browser, foreign_scripts


def facts_of(classes: tuple[str, ...], n: int = 60, **changes: object) -> ReportFacts:
    """A plausible run over the given classes; every seventh image is wrong."""
    size = len(classes)
    labels = np.arange(n) % size
    predicted = np.where(np.arange(n) % 7 == 6, (labels + 1) % size, labels)
    probabilities = np.full((n, size), 0.1 / (size - 1))
    probabilities[np.arange(n), predicted] = 0.9
    history = (
        HistoryRow("head", 1, 0.9, 0.70, 0.8, 0.72, 1e-3, 2.0),
        HistoryRow("head", 2, 0.6, 0.80, 0.7, 0.78, 1e-3, 2.0),
        HistoryRow("fine-tune", 1, 0.4, 0.90, 0.5, 0.86, 1e-4, 61.0, kept=True),
    )
    facts = ReportFacts(
        title="demo",
        run_name="first",
        created="2025-11-21T02:40:12+00:00",
        command="imgclf train demo --out first",
        classes=classes,
        counts={part: dict.fromkeys(classes, 9) for part in ("train", "val", "test")},
        data_notes=("2 unreadable files were left out.",),
        backbone="MobileNetV2 1.0",
        image_size=(160, 224),
        parameters=2_257_984,
        plan=("Fine-tuning the top 3 blocks, 1 epoch.",),
        metrics=compute(labels, probabilities, classes),
        history=history,
        tested=(),
        exports=(
            ExportRow("model.keras", "Keras", 9_560_000),
            ExportRow("exports/model_float32.tflite", "float32", 8_880_000, 1.0, 2.4e-5, 60),
            ExportRow(
                "exports/model_float16.tflite",
                "float16",
                4_470_000,
                0.995,
                2.1e-3,
                60,
                0.9,
                0.0,
                0.983,
                7.1,
                suggested=True,
            ),
            ExportRow(
                "exports/refused/model_int8.tflite",
                "int8",
                2_610_000,
                0.75,
                0.68,
                60,
                0.7,
                0.2,
                0.75,
                3.0,
                "20.0 points less accurate than Keras",
            ),
        ),
        settings={"backbone": "mobilenet_v2", "batch size": "32"},
        versions={"TensorFlow": "2.21.0"},
        seed=42,
        fingerprint="9f2c4b7d",
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def mistakes_in(folder: Path, number: int, side: int = 400) -> tuple[Answered, ...]:
    """Mistakes with noise for pictures, which JPEG cannot make small."""
    random = np.random.default_rng(1)
    path = folder / "noise.png"
    Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(path)
    return tuple(Answered(path, f"cat/{at}.png", "cat", "dog", 0.5 + at / 2000, 0.1) for at in range(number))


def test_says_what_the_model_is_worth_in_plain_words() -> None:
    facts = facts_of(("cat", "dog"), n=70)
    text = Page(render(facts)).text
    assert "Right on 60 of 70 test images: 85.7 %, and with 95 % confidence between 75.7 and 92.1 %" in text
    assert "Only 70 test images" in text
    assert "Always answering cat would be right on 50.0 %" in text
    assert "MobileNetV2 1.0" in text
    assert "224 × 160" in text
    assert "2,257,984" in text
    assert "fine-tuning epoch 1, validation accuracy 86.0 %" in text
    assert "1 min 5 s" in text


def test_sections_come_in_order_and_the_contents_lead_to_them() -> None:
    page = Page(render(facts_of(("cat", "dog"))))
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == [
        "result", "next", "files", "training", "confusion", "classes", "sure", "mistakes", "data", "details",
    ]  # fmt: skip
    assert [value for value in page.values("href") if value[1:] in sections] == [f"#{anchor}" for anchor in sections]


def test_says_which_file_to_ship_and_which_not() -> None:
    source = render(facts_of(("cat", "dog")))
    (chosen,) = re.findall(r'<tr class="chosen">\s*<th scope="row"><bdi class="name">(exports[^<]*)<', source)
    assert chosen == "exports/model_float16.tflite"
    shown = Page(source).text
    assert "Not to be shipped: 20.0 points less accurate than Keras" in shown and "98.3 %" in shown
    bad = (ExportRow("exports/int8.tflite", "int8", 5, 0.95, 0.2, 60),)
    assert "measure before you ship" in Page(render(facts_of(("cat", "dog"), exports=bad))).text
    assert "No model files were exported" in Page(render(facts_of(("cat", "dog"), exports=()))).text


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    mistakes = tuple(
        Answered(tmp_path / "gone.jpg", f"{name}.jpg", name, HOSTILE[0], 0.99, 0.001) for name in HOSTILE[1:]
    )
    facts = facts_of(
        HOSTILE,
        title=HOSTILE[0],
        run_name=HOSTILE[1],
        command=HOSTILE[0],
        created='"><script>',
        backbone=HOSTILE[0],
        data_notes=HOSTILE,
        plan=HOSTILE,
        tested=mistakes,
        exports=(ExportRow(HOSTILE[1], HOSTILE[0], 10, 1.0, 0.0, 5),),
        settings=dict.fromkeys(HOSTILE, HOSTILE[1]),
        versions={HOSTILE[0]: HOSTILE[2]},
        fingerprint=HOSTILE[0],
    )
    source = render(facts)
    page = Page(source)
    harmless = Page(render(facts_of(tuple("abcdefg"))))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in harmless.tags} | {"ul", "li"}
    assert not foreign_scripts(page) and "img" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}{% raw %}" in page.text
    assert "two␊lines␉and␀nul" in page.text
    assert "\x00" not in source
    assert "lone \\udcff surrogate" in page.text
    # A right-to-left name stays alone in its own element.
    assert len(re.findall(rf"<bdi[^>]*>{HOSTILE[3]}</bdi>", source)) == 5  # matrix twice, classes, mistakes, data


def test_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    source = render(facts_of(("cat", "dog"), tested=mistakes_in(tmp_path, 3)))
    page = Page(source)
    assert page.values("src") and all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.tags} and not foreign_scripts(page)
    assert "http://" not in source
    assert "https://" not in source
    assert not re.search(r"@import|url\((?!#)", source)
    policy = next(value for value in page.values("content") if value.startswith("default-src"))
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")
    code = re.search(r"<script>(.*?)</script>", source, re.DOTALL)
    assert code and policy.endswith(f"'sha256-{base64.b64encode(sha256(code[1].encode()).digest()).decode()}'")


@pytest.mark.parametrize("number", [2, MAX_MATRIX])
def test_matrix_shows_every_class(number: int) -> None:
    facts = facts_of(tuple(f"class {at}" for at in range(number)), n=210)
    source = render(facts)
    cells = re.findall(r'<td class="(?:hit|miss|none)"[^>]*>([^<]*)</td>', source)
    assert [0 if cell == "·" else int(cell) for cell in cells] == [n for row in facts.metrics.confusion for n in row]


def test_beyond_the_matrix_the_most_confused_pairs_are_listed() -> None:
    source = render(facts_of(tuple(f"class {at}" for at in range(40)), n=280))
    text = Page(source).text
    assert 'class="matrix"' not in source
    assert "With 40 classes" in text
    assert re.search(r"Truly Taken for Images Of the true class class \d+ class \d+ \d+ \d+\.\d %", text)
    assert "The other 20 classes" in text


def test_thousand_classes_stay_readable() -> None:
    source = render(facts_of(tuple(f"class {at}" for at in range(1000)), n=2000))
    assert "The other 980 classes" in Page(source).text
    assert len(source) < 1_500_000


def test_without_mistakes_history_and_notes() -> None:
    perfect = compute(np.array([0, 1]), np.eye(2), ("cat", "dog"))
    facts = facts_of(("cat", "dog"), metrics=perfect, history=(), data_notes=(), plan=())
    page = Page(render(facts))
    assert "every test image was named correctly" in page.text
    assert "No history of the training was recorded" in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 1, "how sure it is, and no curves"
    assert "mix-ups" not in page.text


def test_one_test_image_and_a_class_without_any() -> None:
    facts = facts_of(("cat", "dog"), metrics=compute(np.array([0]), np.array([[0.2, 0.8]]), ("cat", "dog")))
    text = Page(render(facts)).text
    assert "Right on 0 of 1 test image:" in text
    assert "None" not in text
    assert "nan" not in text.lower()


def test_history_without_validation_says_so() -> None:
    rows = (HistoryRow("training", 1, 0.9, 0.5), HistoryRow("training", 2, float("nan"), 0.6, kept=True))
    source = render(facts_of(("cat", "dog"), history=rows))
    text = Page(source).text
    assert "There were no validation images" in text
    assert "Kept: training epoch 2." in text
    assert source.count("<svg") == 3, "two curves, and how sure it is"


def test_curves_mark_the_stages_and_take_the_colours_of_the_page() -> None:
    source = render(facts_of(("cat", "dog")))
    drawings = re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL)
    for drawing in drawings[:2]:
        assert ">head</text>" in drawing
        assert ">fine-tuning</text>" in drawing
    for drawing in drawings:
        assert "var(--accent)" in drawing
        assert not re.findall(r"(?:fill|stroke): #", drawing)
    ids = re.findall(r' id="([^"]+)"', source)
    assert len(ids) == len(set(ids))


def test_same_facts_give_the_same_page() -> None:
    facts = facts_of(("cat", "dog"))
    assert render(facts) == render(facts)


def test_worst_mistakes_first_and_bounded(tmp_path: Path) -> None:
    facts = facts_of(("cat", "dog"), tested=mistakes_in(tmp_path, 500))
    source = render(facts)
    page = Page(source)
    assert page.values("src") and len(page.values("src")) == MAX_THUMBNAILS
    assert f"the first {MAX_THUMBNAILS} of 500 mistakes" in page.text
    assert len(source) < 1_000_000
    shown = re.findall(r'class="path"><bdi class="name">cat/(\d+)\.png', source)
    assert [int(number) for number in shown] == list(range(499, 499 - MAX_THUMBNAILS, -1))


def test_thumbnails_are_upright_and_small(tmp_path: Path) -> None:
    path = tmp_path / "sideways.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    Image.new("RGB", (600, 300), "red").save(path, exif=exif)
    address = thumbnail(path)
    assert address is not None
    with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as small:
        assert small.size == (THUMBNAIL_SIDE // 2, THUMBNAIL_SIDE)
        assert small.format == "JPEG"


def test_thumbnail_of_a_deep_image_is_not_clipped_to_white(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((40, 40), 0x8000, np.uint16)).save(path)
    address = thumbnail(path)
    assert address is not None
    with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as small:
        assert small.convert("L").getpixel((20, 20)) == pytest.approx(128, abs=2)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 broken"])
def test_picture_that_cannot_be_read_leaves_a_gap_not_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    facts = facts_of(("cat", "dog"), tested=(Answered(path, "bad.jpg", "cat", "dog", 0.9, 0.1),))
    assert "no preview" in Page(render(facts)).text


def test_probabilities_are_never_rounded_to_certainty(tmp_path: Path) -> None:
    mistakes = (Answered(tmp_path / "gone", "x.jpg", "cat", "dog", 0.99999, 0.00001),)
    text = Page(render(facts_of(("cat", "dog"), tested=mistakes))).text
    assert "dog > 99.9 % truly cat < 0.1 %" in text


def test_write_report_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    facts = facts_of(HOSTILE)
    assert write_report(facts, path) == path
    assert path.read_text(encoding="utf-8") == render(facts)
    assert list(tmp_path.iterdir()) == [path]


def test_write_report_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImgclfError, match="file"):
        write_report(facts_of(("cat", "dog")), tmp_path / "file" / "report.html")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on the PATH")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_in_a_browser(tmp_path: Path, width: int) -> None:
    mistakes = tuple(
        replace(mistake, true_label=HOSTILE[5], shown_path=HOSTILE[5]) for mistake in mistakes_in(tmp_path, 9)
    )
    classes = (*HOSTILE[:6], *(f"class number {at}" for at in range(20)))
    facts = facts_of(classes, n=260, title=HOSTILE[5], plan=HOSTILE[:6], command=HOSTILE[5], tested=mistakes)
    check_in_a_browser(render(facts), tmp_path, width)
