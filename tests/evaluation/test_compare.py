"""Models on the same images: what is counted, against figures worked out by hand and by SciPy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from imgclf.errors import InputError
from imgclf.evaluation.compare import Answer, Answers, compare
from imgclf.evaluation.metrics import wilson


def answers(name: str, rows: list[tuple[str, str, str]], classes: tuple[str, ...] = ("cat", "dog")) -> Answers:
    """Rows of key, label, prediction."""
    return Answers(name, classes, tuple(Answer(key, Path(key), f"{key}.jpg", label, said) for key, label, said in rows))


OLD = answers(
    "old", [("1", "cat", "cat"), ("2", "cat", "dog"), ("3", "dog", "dog"), ("4", "dog", "cat"), ("5", "cat", "cat")]
)
NEW = answers(
    "new", [("5", "cat", "dog"), ("4", "dog", "dog"), ("3", "dog", "dog"), ("2", "cat", "cat"), ("1", "cat", "cat")]
)


def test_won_lost_and_recall_are_counted_image_by_image_whatever_the_order() -> None:
    found = compare([OLD, NEW])
    old, new = found.models
    assert found.n == 5 and found.same and found.supports == {"cat": 3, "dog": 2}
    assert (old.correct, new.correct, old.change) == (3, 4, None)
    assert new.change is not None and (new.change.won, new.change.lost) == (2, 1)
    assert new.change.p == pytest.approx(binomtest(1, 3).pvalue)
    assert (old.low, old.high) == wilson(3, 5) and (new.low, new.high) == wilson(4, 5)
    assert old.found == {"cat": 2, "dog": 1} and new.found == {"cat": 2, "dog": 2}
    assert [(flip.kind, flip.shown, flip.label, flip.before, flip.after) for flip in new.flips] == [
        ("lost", "5.jpg", "cat", "cat", "dog"), ("won", "2.jpg", "cat", "dog", "cat"),
        ("won", "4.jpg", "dog", "cat", "dog"),
    ]  # fmt: skip


def test_an_image_wrong_in_another_way_is_neither_won_nor_lost() -> None:
    classes = ("cat", "dog", "cow")
    found = compare([answers("a", [("1", "cat", "dog")], classes), answers("b", [("1", "cat", "cow")], classes)])
    (flip,) = found.models[1].flips
    change = found.models[1].change
    assert flip.kind == "changed" and change is not None and (change.won, change.lost, change.p) == (0, 0, 1.0)


def test_only_images_that_all_have_count_and_it_is_said() -> None:
    third = answers("third", [("1", "cat", "cat"), ("2", "cat", "cat"), ("9", "cat", "cat")])
    found = compare([OLD, NEW, third])
    assert found.n == 2 and not found.same and found.totals == (5, 5, 3)
    assert [model.correct for model in found.models] == [1, 2, 2]


def test_copies_of_one_picture_are_counted_as_often_as_all_have_them() -> None:
    twice = answers("twice", [("1", "cat", "cat"), ("1", "cat", "dog")])
    assert compare([twice, twice]).n == 2
    assert compare([twice, OLD]).n == 1


def test_an_image_with_two_labels_is_left_out() -> None:
    other = answers("other", [("1", "dog", "dog"), ("2", "cat", "cat")])
    found = compare([OLD, other])
    assert (found.n, found.relabelled) == (1, 1)


def test_classes_are_matched_by_name_not_by_place() -> None:
    turned = answers("turned", [("1", "cat", "cat"), ("3", "dog", "cow")], ("dog", "cow", "cat"))
    found = compare([OLD, turned])
    assert found.models[1].found == {"cat": 1, "dog": 0} and list(found.supports) == ["cat", "dog"]


def test_nothing_in_common_is_an_error_with_a_way_out() -> None:
    with pytest.raises(InputError, match=r"no test image in common \(5 of old and 1 of new\).*--data"):
        compare([OLD, answers("new", [("7", "cat", "cat")])])


def test_json_has_every_flip() -> None:
    value = compare([OLD, NEW]).to_json()
    assert value["n"] == 5 and value["support"] == {"cat": 3, "dog": 2}
    assert "won" not in value["models"][0] and value["models"][1]["won"] == 2 and value["models"][1]["lost"] == 1
    assert value["models"][1]["recall"] == {"cat": 2 / 3, "dog": 1.0}
    assert value["models"][1]["flips"][0] == {
        "path": "5.jpg",
        "label": "cat",
        "before": "cat",
        "after": "dog",
        "kind": "lost",
    }


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=60)
)
def test_what_was_won_and_lost_is_the_difference(rows: list[tuple[str, str, str]]) -> None:
    first = answers("1", [(str(at), label, before) for at, (label, before, _) in enumerate(rows)], ("a", "b", "c"))
    second = answers("2", [(str(at), label, after) for at, (label, _, after) in enumerate(rows)], ("a", "b", "c"))
    found = compare([first, second])
    change, model = found.models[1].change, found.models[1]
    assert change is not None and model.correct - found.models[0].correct == change.won - change.lost
    assert change.p == pytest.approx(
        binomtest(change.won, change.won + change.lost).pvalue if change.won + change.lost else 1
    )
    assert sum(model.found.values()) == model.correct and sum(found.supports.values()) == len(rows)
    assert len(model.flips) == sum(before != after for _, before, after in rows)
