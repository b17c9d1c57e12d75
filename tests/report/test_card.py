"""MODEL_CARD.md: what it says, where its figures come from, and what hostile names do to it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from imgclf.evaluation.metrics import compute
from imgclf.report.card import render_card, write_card
from tests.report.pages import HOSTILE
from tests.report.test_advice import metrics_of, quiet
from tests.report.test_page import facts_of


def test_it_says_what_the_model_is_and_how_good() -> None:
    confusion = [[18, 2], [1, 9]]
    text = render_card(quiet(confusion, classes=("cat", "dog")))
    # Wilson for 27 of 30, 18 of 20, 9 of 10, 18 of 19, 9 of 11
    assert "accuracy **90.0 %** (95 % interval 74.4 % to 96.5 %)" in text
    assert "Right on 27 of 30 test images" in text
    assert "| cat | 20 | 90.0 % (70 to 97) | 94.7 % (75 to 99) | 0.923 |" in text
    assert "| dog | 10 | 90.0 % (60 to 98) | 81.8 % (52 to 95) | 0.857 |" in text
    assert "| always answering cat | 66.7 % |" in text
    assert "- cat taken for dog: 2 of 20 images" in text
    assert "Measured on fewer than 30 test images, so roughly: cat, dog." in text
    assert "## What it is for, and what not" in text and "arXiv 1810.03993" in text


def test_it_says_how_to_make_the_model_again() -> None:
    text = render_card(facts_of(("cat", "dog")))
    assert "`imgclf train demo --out first`" in text and "seed 42" in text and "`9f2c4b7d`" in text
    assert "TensorFlow 2.21.0" in text
    assert "| exports/model\\_float16.tflite | float16 | 4.5\u00a0MB | 60 | 99.5 % | 90.0 % | ship this |" in text
    assert "not to be shipped: 20.0 points less accurate than Keras" in text
    assert "| **all** | **18** | **18** | **18** |" in text


def test_a_class_without_test_images_is_named() -> None:
    metrics = compute(np.array([0, 0]), np.array([[1.0, 0, 0], [0, 1.0, 0]]), ("cat", "dog", "cow"))
    text = render_card(facts_of(("cat", "dog", "cow"), metrics=metrics, history=(), exports=()))
    assert "Not measured at all, for want of test images: dog, cow." in text
    assert "| cow | 0 | – | – | – |" in text and "None" not in text and "nan" not in text.lower()


def test_folds_are_told() -> None:
    text = render_card(facts_of(("cat", "dog"), folds=(0.9, 0.8, 1.0)))
    assert "one of 3 folds" in text and "90.0 %, 80.0 %, 100.0 %" in text


def test_hostile_names_stay_text_and_keep_the_tables_whole(tmp_path: Path) -> None:
    size = len(HOSTILE)
    metrics = metrics_of([[4 if a == b else 1 for b in range(size)] for a in range(size)], HOSTILE)
    facts = facts_of(HOSTILE, metrics=metrics, title=HOSTILE[0], run_name="| # x", data_notes=HOSTILE, plan=HOSTILE,
                     command="imgclf train '`<script>`'\n# x", versions={HOSTILE[0]: HOSTILE[1]})  # fmt: skip
    path = write_card(replace(facts, fingerprint="`|<b>"), tmp_path / "MODEL_CARD.md")
    text = path.read_text(encoding="utf-8")
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)  # code spans show what is in them
    assert "<script" not in outside and "<img" not in outside and "\u202e" not in text and "\x00" not in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings[0].startswith("# Model card: &#60;script&#62;") and headings[1:] == [
        "## The model", "## What it is for, and what not", "## The images", "## How good it is", "## What to do next",
        "## Files", "## How to make it again",
    ]  # fmt: skip
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    assert set(widths) == {3, 5, 6, 8}
