"""What a report says to do next: each kind where it is due, not where it is not, and with its numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgclf.evaluation.metrics import Metrics, compute
from imgclf.report.advice import MOST, Advice, advise
from imgclf.report.facts import Answered, ExportRow, HistoryRow, ReportFacts
from imgclf.report.page import render
from imgclf.report.reading import partings, still_improving
from tests.report.pages import HOSTILE, Page
from tests.report.test_page import facts_of


def metrics_of(confusion: list[list[int]], classes: tuple[str, ...]) -> Metrics:
    pairs = [(a, b) for a, row in enumerate(confusion) for b, count in enumerate(row) for _ in range(count)]
    scores = np.zeros((len(pairs), len(classes)))
    scores[np.arange(len(pairs)), [b for _, b in pairs]] = 1
    return compute(np.array([a for a, _ in pairs]), scores, classes)


def quiet(
    confusion: list[list[int]], classes: tuple[str, ...] = ("cat", "dog", "cow"), **changes: object
) -> ReportFacts:
    """A run in which nothing stands out but what the confusion matrix says."""
    facts = facts_of(
        classes, metrics=metrics_of(confusion, classes), history=(), exports=(),
        counts={"train": dict.fromkeys(classes, 500), "val": dict.fromkeys(classes, 100)},
    )  # fmt: skip
    return replace(facts, **changes)  # type: ignore[arg-type]


GOOD = [[2000, 1, 1], [1, 2000, 0], [1, 0, 2000]]


def said(advice: Advice) -> str:
    return "".join(advice.text).replace("\u00a0", " ")


def find(facts: ReportFacts, title: str) -> str | None:
    return next((said(each) for each in advise(facts) if each.title.replace("\u00a0", " ") == title), None)


def test_nothing_is_said_where_nothing_stands_out() -> None:
    assert advise(quiet(GOOD)) == ()
    assert "Nothing in these figures stands out" in Page(render(quiet(GOOD))).text


def test_no_better_than_guessing_comes_first() -> None:
    facts = quiet([[60, 0, 0], [20, 0, 0], [20, 0, 0]])
    first = advise(facts)[0]
    assert first.title == "Do not use this model yet"
    assert "right on 60 of 100 test images (60.0 %); always answering cat would be right on 60 (60.0 %)" in said(first)


def test_few_test_images() -> None:
    text = find(quiet([[30, 3, 0], [0, 30, 3], [1, 1, 32]]), "Test on more images")
    # Wilson for 92 of 100: 85.0 to 95.9; 1.96^2 * 0.92 * 0.08 / 0.02^2 = 706.8
    assert text and "100 test images leave the accuracy open from 85.0 to 95.9 %" in text
    assert "About 710 would bring that down to 2" in text and "--folds 5" in text
    assert find(quiet(GOOD), "Test on more images") is None
    folds = quiet([[30, 3, 0], [0, 30, 3], [1, 1, 32]], folds=(0.9, 0.9, 0.9))
    assert "--folds" not in (find(folds, "Test on more images") or "--folds")


def test_one_class_with_many_times_fewer_images() -> None:
    counts = {"train": {"cat": 400, "dog": 40, "cow": 300}}
    facts = quiet([[90, 0, 0], [3, 7, 0], [0, 0, 80]], counts=counts)
    text = find(facts, "Collect more of the smallest class")
    assert (
        text and "dog has 40 training images, cat has 400, 10 times as many; the model found 7 of its 10 test" in text
    )
    assert "--balance weights" in text
    weighed = replace(facts, settings={"balance": "weights"})
    assert "--balance" not in (find(weighed, "Collect more of the smallest class") or "--balance")
    assert (
        find(quiet(GOOD, counts={"train": {"cat": 400, "dog": 101, "cow": 300}}), "Collect more of the smallest class")
        is None
    )


@pytest.mark.parametrize(
    ("train", "val", "n", "due"),
    [(0.99, 0.85, 100, True), (0.92, 0.88, 100, False), (0.97, 0.90, 10, False), (0.85, 0.90, 100, False)],
)
def test_learned_by_heart(train: float, val: float, n: int, due: bool) -> None:
    counts = {"train": {"cat": 300, "dog": 300, "cow": 300}, "val": {"cat": n, "dog": 0, "cow": 0}}
    history = (HistoryRow("head", 1, 0.1, train, 0.3, val, kept=True), HistoryRow("head", 2, 0.09, train, 0.31, val))
    text = find(
        quiet(GOOD, history=history, counts=counts, settings={"augment": "light"}), "Make it harder to learn by heart"
    )
    assert (text is not None) == due
    if text:
        assert "99.0 % of 900 training images were right and 85.0 % of 100 validation images, 14 points fewer" in text
        assert "--augment medium" in text


def epochs(*losses: tuple[float, float], stage: str = "fine-tune") -> tuple[HistoryRow, ...]:
    best = min(range(len(losses)), key=lambda at: losses[at][1])
    return tuple(HistoryRow(stage, at + 1, a, 0.9, b, 0.9, kept=at == best) for at, (a, b) in enumerate(losses))


def test_train_longer_where_the_last_epoch_was_the_best() -> None:
    facts = quiet(GOOD, history=epochs((0.9, 0.8), (0.7, 0.6), (0.5, 0.45)))
    text = find(facts, "Train longer")
    assert text and "(300 images) was still falling" in text and "0.600, then 0.450 in the last epoch, the 3rd" in text
    assert "--fine-tune-epochs 6" in text
    assert find(quiet(GOOD, history=epochs((0.9, 0.8), (0.7, 0.4), (0.5, 0.45))), "Train longer") is None
    assert "--epochs 4" in (find(quiet(GOOD, history=epochs((2, 1), (1, 0.5), stage="training")), "Train longer") or "")
    assert still_improving(()) is None and still_improving(epochs((1, 1))) is None


def test_partings_are_found_stage_by_stage() -> None:
    head, tuned = epochs((0.9, 0.5), (0.5, 0.6), (0.2, 0.7), stage="head"), epochs((0.9, 0.8), (0.7, 0.6))
    (parting,) = partings((*head, *tuned))
    assert (parting.best.stage, parting.best.epoch, parting.last.epoch) == ("head", 1, 3)
    assert partings(epochs((0.5, 0.5), (0.5, 0.6))) == (), "training did not get better either"
    assert partings((HistoryRow("head", 1, 0.5, 0.5), HistoryRow("head", 2, 0.4, 0.5))) == (), "no validation images"
    text = Page(render(quiet(GOOD, history=head))).text
    assert "part ways after head epoch 1: by epoch 3 the training loss went on from 0.900 to 0.200" in text


def test_the_weakest_class_with_its_interval() -> None:
    text = find(quiet([[95, 5, 0], [9, 10, 1], [0, 0, 100]]), "Work on the weakest class")
    # Wilson for 10 of 20: 29.9 to 70.1; the accuracy is 205 of 220
    assert text and "Of 20 test images of dog 10 were found (50.0 %, 95 % interval 29.9 to 70.1 %)" in text
    assert "by more than chance" in text and "9 of the 10 others were taken for cat" in text
    assert find(quiet([[95, 5, 0], [0, 90, 10], [0, 0, 100]]), "Work on the weakest class") is None


def test_the_most_confused_pair_counts_both_ways() -> None:
    facts = quiet([[95, 2, 3], [7, 93, 0], [0, 0, 100]])
    text = find(facts, "Look at 9 mixed-up images")
    assert (
        text and "7 of 100 test images of dog were taken for cat, 2 the other way round: 9 of all 12 mistakes" in text
    )
    assert next(each for each in advise(facts) if "mixed-up" in each.title).cells == ((1, 0), (0, 1))
    assert not [each for each in advise(quiet(GOOD)) if "mixed-up" in each.title]


def test_sure_mistakes_look_like_wrong_labels() -> None:
    wrong = tuple(Answered(Path("x"), f"{at}", "cat", "dog", p, 0.01) for at, p in enumerate((0.99, 0.96, 0.95, 0.6)))
    facts = quiet(GOOD, tested=wrong, run_path="my run", data_path="photos")
    text = find(facts, "Look for wrong labels")
    assert text and "In 3 of 4 mistakes the model was at least 95 % sure" in text
    assert "imgclf check photos --run 'my run' --csv suspects.csv" in text
    assert find(quiet(GOOD, tested=wrong[1:]), "Look for wrong labels") is None


def test_exports_that_lose_accuracy() -> None:
    good = ExportRow("exports/a.tflite", "float16", 5, 1.0, 0.0, 400, 0.9, 0.0, suggested=True)
    bad = ExportRow("exports/refused/b.tflite", "int8", 2, 0.8, 0.4, 400, 0.7, 0.2, fault="20.0 points less accurate")
    text = find(quiet(GOOD, exports=(good, bad)), "Do not ship the int8 file")
    assert text and "On 400 images exports/refused/b.tflite is 20.0 points less accurate than the model" in text
    assert "The float16 file loses nothing of it" in text
    assert advise(quiet(GOOD, exports=(good,))) == ()
    lossy = replace(good, drop=0.01, accuracy=0.89)
    assert find(quiet(GOOD, exports=(lossy,)), "Mind what the mobile file loses")


def test_never_more_than_six_and_the_most_urgent_first() -> None:
    classes = ("cat", "dog", "cow")
    wrong = tuple(Answered(Path("x"), f"{at}", "cat", "dog", 0.99, 0.01) for at in range(9))
    bad = ExportRow("exports/refused/b.tflite", "int8", 2, 0.8, 0.4, 60, 0.7, 0.2, fault="less accurate")
    facts = quiet(
        [[30, 9, 1], [5, 5, 0], [0, 0, 10]], tested=wrong, exports=(bad,), history=epochs((0.2, 0.8), (0.1, 0.4)),
        counts={"train": {"cat": 400, "dog": 20, "cow": 100}, "val": dict.fromkeys(classes, 50)},
    )  # fmt: skip
    found = advise(
        replace(facts, history=tuple(replace(row, accuracy=0.99, val_accuracy=0.7) for row in facts.history))
    )
    assert len(found) == MOST
    weights = [each.weight for each in found]
    assert weights == sorted(weights, reverse=True)


def test_names_in_advice_are_isolated_text() -> None:
    facts = quiet(
        [[20, 9, 0], [0, 5, 5], [0, 0, 30]], classes=(HOSTILE[0], HOSTILE[3], HOSTILE[1]), run_path=HOSTILE[1]
    )
    section = render(facts).split('<section id="next">')[1].split("</section>")[0]
    assert "<script" not in section and "<img" not in section
    assert f'<bdi class="name">{HOSTILE[3]}</bdi>' in section
