"""AUC, average precision and top-k accuracy against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn import metrics as reference

from imgclf.evaluation.ranking import one_against_rest, top_k_accuracy


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("decimals", [1, 6])  # with many ties, and with none
def test_equals_scikit_learn(classes: int, decimals: int) -> None:
    random = np.random.default_rng(classes)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, 200)])
    scores = random.uniform(size=(len(labels), classes)).round(decimals).astype(np.float32)
    area, precision = one_against_rest(labels, scores)
    one_hot = labels[:, None] == np.arange(classes)
    assert area == pytest.approx(reference.roc_auc_score(one_hot, scores, average="macro"))
    assert precision == pytest.approx(reference.average_precision_score(one_hot, scores, average="macro"))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_equals_scikit_learn(k: int) -> None:
    random = np.random.default_rng(k)
    labels, scores = random.integers(0, 8, 300), random.uniform(size=(300, 8))
    expected = reference.top_k_accuracy_score(labels, scores, k=k, labels=np.arange(8))
    assert top_k_accuracy(labels, scores, k) == pytest.approx(expected)


def test_of_equal_scores_the_first_classes_count() -> None:
    tied = np.full((3, 4), 0.25)
    assert top_k_accuracy(np.array([0, 1, 2]), tied, 1) == pytest.approx(1 / 3)
    assert top_k_accuracy(np.array([0, 1, 2]), tied, 2) == pytest.approx(2 / 3)


def test_classes_without_images_or_without_others() -> None:
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1]])
    area, precision = one_against_rest(np.array([0, 1]), scores)
    assert (area, precision) == (1.0, 1.0)  # nobody asks for the third class
    assert one_against_rest(np.array([0, 0]), scores) == (None, 1.0)  # all images are of it: no other to be told from


def test_average_precision_by_hand() -> None:
    # Order by the first class's score: right, wrong, right, wrong: precision 1 and 2/3 at the right ones. The second
    # class's is the other way round: right, wrong, right, wrong as well.
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    assert one_against_rest(np.array([0, 1, 0, 1]), scores)[1] == pytest.approx((1 + 2 / 3) / 2)
