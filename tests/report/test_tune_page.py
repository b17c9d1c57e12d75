"""The page of a search: what it says, and what hostile names do to it."""

import random
import re

import pytest

from imgclf.report.tune_page import TuneFacts, render_tune, write_tune_page
from imgclf.search.front import TrialRow, choose_winner, pareto_front
from tests.report.pages import CHROMIUM, HOSTILE, Page, check_in_a_browser


def trial(number, right=90, state="done", network="mobilenet_v2 0.35", n=100, note="", **settings):
    done = state == "done"
    return TrialRow(
        number, state, network, {"image_size": 224, "learning_rate": 1e-3, **settings}, right, n,
        None if state == "failed" else 0.3, 0.86 if done else None, 1.9 if done else None, 12.0, 23, note,
    )  # fmt: skip


def facts(*rows, classes=("cat", "dog"), title="pets", importances=None, command="imgclf tune pets"):
    return TuneFacts(
        title, "2026-11-21T18:00:00+0000", command, classes, ("100 images",), {"network": ["a", "b"]},
        {"seed": "3"}, rows, pareto_front(rows), choose_winner(rows), importances or {},
    )  # fmt: skip


def test_it_says_what_won_and_that_this_is_no_test_accuracy():
    page = Page(render_tune(facts(trial(1, 80), trial(2, 91, unfreeze="5"), trial(3, 20, "pruned"))))
    assert "Trial 2 wins: mobilenet_v2 0.35, 224 px, top 5 blocks" in page.text
    assert "91 of 100 validation images right" in page.text and "83.8" in page.text
    assert "quote the test accuracy" in page.text
    assert "3, 1 ended early" in page.text


def test_few_images_are_warned_of():
    assert "may well be equally good" in Page(render_tune(facts(trial(1, 50, n=60)))).text
    assert "may well be equally good" not in Page(render_tune(facts(trial(1, 90)))).text


def test_a_failed_trial_says_why():
    text = Page(render_tune(facts(trial(1), trial(2, 0, "failed", note="the training diverged")))).text
    assert "the training diverged" in text and "failed" in text


def test_values_are_compared_where_there_are_several():
    rows = [trial(n, 80 + n, network=("a", "b")[n % 2], augment="light") for n in range(1, 8)]
    text = Page(render_tune(facts(*rows, importances={"network": 0.75, "rate": 0.25}))).text
    assert "importance 75.0 %" in text and "Network" in text
    assert "Augmentation" not in text, "all have the same"


def test_names_stay_text():
    source = render_tune(facts(
        trial(1, note=HOSTILE[0]), trial(2, 10, "failed", network=HOSTILE[1], note=HOSTILE[2]), classes=HOSTILE,
        title=HOSTILE[0], command=HOSTILE[1],
    ))  # fmt: skip
    page = Page(source)
    assert not {"script", "img", "iframe", "link"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text and "{{ 7 * 7 }}{% raw %}" in page.text
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", source), "nothing is loaded from elsewhere"


def many(count):
    rng = random.Random(0)
    states = ("done", "done", "done", "pruned", "failed")
    return [trial(n, rng.randint(0, 100), states[n % 5], unfreeze=str(rng.randint(1, 9))) for n in range(1, count + 1)]


def test_a_long_table_is_folded():
    assert "The other 80 trials" in Page(render_tune(facts(*many(100)))).text


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_it_fits_the_screen(tmp_path, width):
    found = facts(*many(40), classes=HOSTILE, title=HOSTILE[5])
    check_in_a_browser(write_tune_page(found, tmp_path / "tune.html").read_text(encoding="utf-8"), tmp_path, width)
