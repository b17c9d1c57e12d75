"""How sure a model is: what the page and the card say of it, and what of an error is chance."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from imgclf.evaluation.calibration_curve import ReliabilityBin, reliability
from imgclf.evaluation.metrics import Metrics, compute
from imgclf.report.advice import advise
from imgclf.report.card import render_card
from imgclf.report.facts import ReportFacts
from imgclf.report.page import render
from imgclf.report.sureness import Sureness, error_by_chance
from imgclf.report.sureness_plot import reliability_plot
from tests.report.pages import HOSTILE, Page
from tests.report.test_page import facts_of

TOLD = {
    "temperature": 1.25,
    "validation": {"n": 90, "ece_before": 0.2, "ece_after": 0.1},
    "test": {"n": 60, "ece_before": 0.0812, "ece_after": 0.0433},
    "threshold": {"class": "dog", "value": 0.31, "rule": "recall>=0.9", "n": 90},
    "unknown": {
        "coverage_asked": 0.95, "validation": {"n": 90, "known": 86},
        "test": {"n": 60, "known": 57}, "strange": {"n": 20, "rejected": 15},
    },
}  # fmt: skip


def honest(right: int, n: int, sure: float) -> Metrics:
    """A model that is always equally sure, and right on so many images of the first of two classes."""
    scores = np.where(np.arange(n)[:, None] < right, [[sure, 1 - sure]], [[1 - sure, sure]])
    return compute(np.zeros(n, int), scores, ("cat", "dog"))


def of(told: dict[str, object], **changes: object) -> ReportFacts:
    return facts_of(("cat", "dog"), sureness=Sureness.from_json(told), **changes)


def text_of(facts: ReportFacts) -> str:
    return Page(render(facts)).text


def test_chance_is_the_mean_absolute_deviation_of_a_binomial() -> None:
    # one image of confidence 0.8: right (0.8) it is 0.2 off, wrong (0.2) it is 0.8 off
    mean, spread = error_by_chance([ReliabilityBin(0.8, 1, 0.8, 1.0)])
    assert (mean, spread) == (pytest.approx(0.32), pytest.approx(0.24))
    bins = [ReliabilityBin(0.0, n, c, 0.5) for n, c in ((1, 1.0), (7, 0.5), (40, 0.93), (300, 0.995), (11, 1 / 11))]
    total = sum(each.n for each in bins)
    means, variances = 0.0, 0.0
    for each in bins:
        k = np.arange(each.n + 1)
        chances, off = binom.pmf(k, each.n, each.confidence), abs(k - each.n * each.confidence)
        expected = (chances * off).sum()
        means += expected / total
        variances += ((chances * off**2).sum() - expected**2) / total**2
    assert error_by_chance(bins) == (pytest.approx(means), pytest.approx(np.sqrt(variances)))


def test_the_page_and_the_card_say_the_same() -> None:
    facts = of(TOLD)
    shown, card = text_of(facts), " ".join(render_card(facts).replace("\\", "").split()).replace("\u00a0", " ")
    for line in (
        "divided by a temperature of 1.25, found on the validation images: it makes the model less sure",
        "On 60 test images the calibration error was 8.1 points before and is 4.3 after.",
        "dog is named from a probability of 31.0 % on (recall",
        # Wilson for 57 of 60 and 15 of 20
        "57 of 60 test images (95.0 %, 95 % interval 86.3 to 98.3 %) stayed known",
        "15 of 20 images (75.0 %, 95 % interval 53.1 to 88.8 %) of no class",
    ):
        assert line in shown and line in card.replace("&#62;", ">"), line


def test_what_there_is_not_is_not_told() -> None:
    shown = text_of(facts_of(("cat", "dog")))
    assert "The probabilities were not calibrated." in shown
    assert "say unknown" not in shown and "is named from" not in shown and "temperature" not in shown
    gate = {"unknown": {"coverage_asked": 0.9, "test": {"n": 60, "known": 57}}}
    assert "How many strange images it catches was not measured" in text_of(of(gate))


def test_of_folds_the_temperature_was_tried_where_it_was_found() -> None:
    assert "On 60 validation images, those it was found on, the calibration error" in text_of(
        of(TOLD, folds=(0.9, 0.8))
    )


def test_honest_too_sure_and_not_sure_enough() -> None:
    for right, verdict in ((90, "it means what it says"), (60, "too sure of itself"), (100, "less sure than it could")):
        assert verdict in text_of(facts_of(("cat", "dog"), metrics=honest(right, 100, 0.9)))


def test_every_group_is_in_the_table_with_its_number() -> None:
    labels, scores = np.array([0] * 6), np.array([[0.9, 0.1]] * 4 + [[0.45, 0.55]] * 2)
    facts = facts_of(("cat", "dog"), metrics=compute(labels, scores, ("cat", "dog")))
    shown = text_of(facts)
    # 15 ranges: 0.55 is in the 9th (53 to 60 %), 0.9 in the 14th (87 to 93 %); Wilson for 0 of 2 and 4 of 4
    assert "53 to 60 % 2 55.0 % 0.0 % 0 to 66 %" in shown and "87 to 93 % 4 90.0 % 100.0 % 51 to 100 %" in shown
    assert ">4</text>" in reliability_plot(reliability(labels, scores))


def test_large_counts_fit_above_their_columns() -> None:
    drawn = reliability_plot([ReliabilityBin(14 / 15, 12_345, 0.99, 0.99), ReliabilityBin(0.8, 1234, 0.85, 0.8)])
    assert ">12k</text>" in drawn and ">1.2k</text>" in drawn


def test_advice_where_the_error_is_large_and_no_chance() -> None:
    def advice(metrics: Metrics, told: dict[str, object]) -> str | None:
        facts = replace(of(told, metrics=metrics), history=(), exports=())
        title = "Do not take the probabilities at their word"
        return next(("".join(each.text).replace("\u00a0", " ") for each in advise(facts) if each.title == title), None)

    said = advice(honest(700, 1000, 0.9), {})
    assert said and "On 1,000 test images the model says 90.0 % on the average and is right on 70.0 %" in said
    # the wrong answers are as sure as the right ones, so there is one group, 20 points off
    assert "off by 20.0 points" in said and said.endswith("--calibrate")
    calibrated = advice(honest(700, 1000, 0.9), {"temperature": 1.2})
    assert calibrated and "is in them already" in calibrated and "--calibrate" not in calibrated
    assert advice(honest(880, 1000, 0.9), {}) is None, "2 points are not worth a word"
    assert advice(honest(8, 10, 0.9), {}) is None, "10 points on 10 images are chance"
    assert advice(honest(700, 1000, 0.9), TOLD) is None, "a threshold moves them on purpose"


def test_a_hostile_class_with_a_threshold_is_text(tmp_path: Path) -> None:
    facts = of({"threshold": {"class": HOSTILE[0], "value": 0.5, "rule": HOSTILE[1], "n": 3}})
    page = Page(render(facts))
    assert "img" not in {tag for tag, _ in page.tags} and HOSTILE[0] in page.text
    assert "<script" not in render_card(facts)
