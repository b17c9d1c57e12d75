"""Metrics against scikit-learn, against hand-worked cases, and where things are missing."""

import json
import time

import numpy as np
import pytest
from sklearn import metrics as reference

from imgclf.errors import InputError
from imgclf.evaluation.metrics import Metrics, compute

NAMES = ("cat", "dog", "owl", "pig", "rat", "sow", "tit")


def drawn(n: int, classes: int, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Labels in which every class occurs, and probabilities that lean towards the truth, with ties between images."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)])
    scores = random.normal(size=(n, classes)).round(1)
    scores[np.arange(n), labels] += 1.5
    probabilities = np.exp(scores)
    return labels, (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_equals_scikit_learn(classes: int) -> None:
    labels, probabilities = drawn(300, classes)
    predicted = probabilities.argmax(axis=1)
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)  # scikit-learn is strict
    measured = compute(labels.astype(np.uint8), probabilities, NAMES[:classes])

    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, predicted)
    assert [entry.precision for entry in measured.per_class] == pytest.approx(precision)
    assert [entry.recall for entry in measured.per_class] == pytest.approx(recall)
    assert [entry.f1 for entry in measured.per_class] == pytest.approx(f1)
    assert [entry.support for entry in measured.per_class] == support.tolist()
    assert measured.n == 300
    assert measured.accuracy == pytest.approx(reference.accuracy_score(labels, predicted))
    assert measured.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert measured.macro_precision == pytest.approx(precision.mean())
    assert measured.macro_recall == pytest.approx(recall.mean())
    assert measured.macro_f1 == pytest.approx(reference.f1_score(labels, predicted, average="macro"))
    assert measured.weighted_f1 == pytest.approx(reference.f1_score(labels, predicted, average="weighted"))
    weighted = reference.precision_recall_fscore_support(labels, predicted, average="weighted")
    assert [measured.weighted_precision, measured.weighted_recall] == pytest.approx(weighted[:2])
    assert measured.log_loss == pytest.approx(reference.log_loss(labels, exact), rel=1e-5)
    one_hot = np.eye(classes)[labels]
    assert measured.brier == pytest.approx(((exact - one_hot) ** 2).sum(axis=1).mean(), rel=1e-5)
    assert np.asarray(measured.confusion).tolist() == reference.confusion_matrix(labels, predicted).tolist()
    one_against_rest = [reference.roc_auc_score(labels == at, probabilities[:, at]) for at in range(classes)]
    assert measured.auc == pytest.approx(np.mean(one_against_rest))
    precisions = [reference.average_precision_score(labels == at, probabilities[:, at]) for at in range(classes)]
    assert measured.average_precision == pytest.approx(np.mean(precisions))
    if classes > 5:
        top = reference.top_k_accuracy_score(labels, probabilities + np.linspace(1e-6, 0, classes), k=5)
        assert measured.top5_accuracy == pytest.approx(top)  # of equal ones the first
    else:
        assert measured.top5_accuracy is None


def test_hand_worked_case() -> None:
    # a: 2 images, 1 found. b: 1 image, found. c: 1 image, missed. Predicted: a, b, b, a.
    labels = np.array([0, 0, 1, 2])
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.7, 0.1, 0.2]])
    measured = compute(labels, probabilities, ("a", "b", "c"))

    assert measured.confusion == ((1, 1, 0), (0, 1, 0), (1, 0, 0))
    assert (measured.correct, measured.accuracy) == (2, 0.5)
    assert [entry.recall for entry in measured.per_class] == [0.5, 1.0, 0.0]
    assert [entry.precision for entry in measured.per_class] == [0.5, 0.5, None]
    assert [entry.f1 for entry in measured.per_class] == pytest.approx([0.5, 2 / 3, 0.0])
    assert measured.balanced_accuracy == pytest.approx(0.5)
    assert measured.macro_precision == pytest.approx(1 / 3)  # c was never predicted and counts as 0
    assert measured.weighted_f1 == pytest.approx((2 * 0.5 + 2 / 3) / 4)
    assert measured.log_loss == pytest.approx(-np.log([0.6, 0.2, 0.8, 0.2]).mean())
    # a: 0.6 and 0.2 against 0.1 and 0.7 -> 2 of 4 pairs; b: 0.8 beats all three; c: 0.2 against 0.1, 0.3, 0.1 -> 2 of 3
    assert measured.auc == pytest.approx((2 / 4 + 1 + 2 / 3) / 3)
    assert measured.confused_pairs(5) == (("a", "b", 1), ("c", "a", 1))
    assert [entry.label for entry in measured.weakest(2)] == ["c", "a"]


def test_class_without_test_images_is_left_out_of_the_averages() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    measured = compute(np.array([0, 1, 1]), probabilities, ("a", "b", "ghost"))
    ghost = measured.per_class[2]
    assert (ghost.support, ghost.recall, ghost.f1, ghost.precision) == (0, None, None, 0.0)
    assert measured.macro_recall == pytest.approx((1 + 0.5) / 2)
    assert measured.macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert measured.weakest(3)[-1] is ghost


@pytest.mark.parametrize("right", [True, False])
def test_one_image(right: bool) -> None:
    measured = compute(np.array([0]), np.array([[0.7, 0.3] if right else [0.3, 0.7]]), ("yes", "no"))
    assert measured.accuracy == float(right)
    assert (measured.auc, measured.n) == (None, 1)
    assert measured.accuracy_low <= measured.accuracy <= measured.accuracy_high
    assert "1 test images" in str(measured)


def test_certain_and_wrong_costs_much_but_not_infinity() -> None:
    measured = compute(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]], np.float32), ("a", "b"))
    assert measured.log_loss == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2, rel=1e-3)
    assert measured.auc == 0.5  # nothing but ties


def test_json_round_trip_is_plain_and_exact() -> None:
    labels, probabilities = drawn(60, 3)
    measured = compute(labels, probabilities, ("a", "ü<b>", ""))
    text = json.dumps(measured.to_json(), allow_nan=False)
    assert Metrics.from_json(json.loads(text)) == measured


def test_undefined_is_null_in_json() -> None:
    measured = compute(np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]]), ("a", "b"))
    data = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert data["auc"] is None
    entry = data["per_class"][1]
    assert (entry.pop("label"), entry.pop("support")) == ("b", 0)
    assert len(entry) == 9 and set(entry.values()) == {None}


def test_metrics_of_an_earlier_version_are_refused_in_one_line() -> None:
    data = compute(*drawn(60, 3), NAMES[:3]).to_json()
    earlier = {name: value for name, value in data.items() if name not in ("reliability", "brier", "ece")}
    earlier["per_class"] = [{name: entry[name] for name in ("label", "support", "precision", "recall", "f1")}
                            for entry in data["per_class"]]  # fmt: skip
    with pytest.raises(InputError, match=r"not imgclf's metrics .*train again") as caught:
        Metrics.from_json(earlier)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", [2, 3, 7, 1000])
@pytest.mark.parametrize("right", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_every_interval_holds_its_figure(classes: int, right: float, n: int) -> None:
    random = np.random.default_rng(classes)
    labels = random.integers(0, classes, n)
    said = np.where(random.uniform(size=n) < right, labels, (labels + 1) % classes)
    probabilities = np.full((n, classes), 0.1 / classes)
    probabilities[np.arange(n), said] += 0.9
    measured = compute(labels, probabilities, tuple(map(str, range(classes))))
    json.dumps(measured.to_json(), allow_nan=False)
    figures = [(measured, name) for name in ("accuracy", "balanced_accuracy", "macro_f1")]
    figures += [(entry, name) for entry in measured.per_class for name in ("precision", "recall", "f1")]
    for owner, name in figures:
        value, low, high = (getattr(owner, name + end) for end in ("", "_low", "_high"))
        assert (value is None) == (low is None) == (high is None)
        if value is not None:
            assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1 and high - low > 1e-3
    if right in (0.0, 1.0):
        assert measured.accuracy == measured.macro_f1 == measured.balanced_accuracy == right
    assert measured.ece == pytest.approx(abs(0.9 + 0.1 / classes - measured.accuracy))


@pytest.mark.parametrize("change", [{"accuracy": ...}, {"confusion": ...}, {"surprise": 1}])
def test_json_of_another_shape_is_refused(change: dict[str, object]) -> None:
    data = compute(np.array([0]), np.array([[0.9, 0.1]]), ("a", "b")).to_json()
    for name, value in change.items():
        if value is ...:
            del data[name]
        else:
            data[name] = value
    with pytest.raises(InputError, match=next(iter(change))):
        Metrics.from_json(data)


def test_no_images_and_no_numbers_are_said() -> None:
    with pytest.raises(InputError, match="no images"):
        compute(np.array([], int), np.zeros((0, 2)), ("a", "b"))
    with pytest.raises(InputError, match="1 of 2 images"):
        compute(np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 1.0]]), ("a", "b"))


@pytest.mark.parametrize(
    ("labels", "shape"), [([0, 1], (3, 2)), ([0, 1], (2, 3)), ([0, 2], (2, 2)), ([-1, 0], (2, 2)), ([[0]], (1, 2))]
)
def test_wrong_shapes_and_labels_are_refused(labels: list[int], shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        compute(np.array(labels), np.full(shape, 0.5), ("a", "b"))


def test_prints_well() -> None:
    measured = compute(*drawn(372, 7), NAMES)
    lines = str(measured).splitlines()
    assert f"{measured.correct} of 372" in lines[0]
    assert len(lines) == 5 + 1 + 7
    assert len({len(line) for line in lines[5:]}) == 1  # columns line up
    assert "cat" in measured._repr_html_()


def test_control_characters_in_names_are_written_out() -> None:
    text = str(compute(np.array([0]), np.array([[0.9, 0.1]]), ("\x1b[31mred\r", "b")))
    assert "\\x1b[31mred\\r" in text and "\x1b" not in text and "\r" not in text


def test_html_escapes_class_names() -> None:
    html = compute(np.array([0]), np.array([[0.9, 0.1]]), ("<script>alert(1)</script>", "b"))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_narrow_integers_do_not_overflow() -> None:
    labels = np.array([200, 3], np.uint8)
    assert compute(labels, np.eye(250)[[200, 3]], tuple(map(str, range(250)))).accuracy == 1.0


def test_thousand_classes_are_fast_and_print_short() -> None:
    labels, probabilities = drawn(5000, 1000)
    start = time.process_time()
    measured = compute(labels, probabilities, tuple(f"class {index}" for index in range(1000)))
    assert time.process_time() - start < 5  # 0.2 s; scikit-learn's AUC alone takes 6 s
    assert len(str(measured).splitlines()) < 40
