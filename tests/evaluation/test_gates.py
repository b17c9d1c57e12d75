"""Gates: what is understood, what holds, and what is said where it does not."""

import numpy as np
import pytest

from imgclf.errors import InputError
from imgclf.evaluation.gates import OF_A_CLASS, SCALARS, Gate, require_classes
from imgclf.evaluation.metrics import Metrics, compute

ODD = ('a]>=b', "<script>", 'quo"te', " space ", "שלום", "🎩", "recall[x]", "")  # fmt: skip


def measured(classes: tuple[str, ...] = ("hat", "shoe", "ghost")) -> Metrics:
    """Of 4 hats 3 are found, of 4 shoes all: accuracy 0.875, precision of shoes 0.8."""
    labels = np.array([0] * 4 + [1] * 4)
    said = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    return compute(labels, np.eye(len(classes))[said], classes)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("accuracy>=0.875", True), ("accuracy>0.875", False), ("accuracy<=0.875", True), ("accuracy<0.875", False),
        ("accuracy==0.875", True), ("accuracy==0.87", False), ("  accuracy  >=  .8 ", True), ("accuracy >= 1e-1", True),
        ("n==8", True), ("recall[hat]>=0.75", True), ("recall[hat]>0.75", False), ("precision[shoe]==0.8", True),
        ("support[ghost]==0", True), ("f1_low[shoe]>0.3", True), ("log_loss<=-1", False),
    ],
)  # fmt: skip
def test_operators_numbers_and_names(text: str, holds: bool) -> None:
    assert Gate.parse(text).check(measured())[0] is holds


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("operator", [">=", ">", "<=", "<", "=="])
def test_class_names_may_hold_anything(name: str, operator: str) -> None:
    gate = Gate.parse(f"recall[{name}]{operator}0.75")
    assert (gate.metric, gate.label, gate.operator, gate.bound) == ("recall", name, operator, 0.75)
    assert gate.value(measured((name, "shoe", "ghost"))) == 0.75


@pytest.mark.parametrize("name", SCALARS)
def test_every_scalar_has_a_gate(name: str) -> None:
    assert Gate.parse(f"{name}>=0").value(measured()) == getattr(measured(), name)


def test_the_table_of_names_holds_all_figures() -> None:
    data = measured().to_json()
    assert set(SCALARS) == {name for name, value in data.items() if not isinstance(value, list)}
    assert set(OF_A_CLASS) == set(data["per_class"][0]) - {"label"}
    assert {"accuracy", "accuracy_low", "balanced_accuracy", "macro_f1", "log_loss", "ece"} <= set(SCALARS)


@pytest.mark.parametrize("text", ["recall[ghost]>=0", "recall[ghost]<=1", "top5_accuracy>=0"])
def test_undefined_never_holds_and_says_so(text: str) -> None:
    holds, line = Gate.parse(text).check(measured())
    assert not holds and "is undefined on these images" in line and text.split("=")[0][:-1] in line


def test_a_line_names_metric_value_and_bound() -> None:
    assert Gate.parse("recall[hat]>=0.9").check(measured()) == (False, "recall[hat] is 0.75, asked for >= 0.9")
    assert Gate.parse("n>=8").check(measured()) == (True, "n is 8, asked for >= 8")


def test_a_near_miss_is_not_rounded_away() -> None:
    labels = np.arange(30000) % 2
    said = np.where(np.arange(30000) < 26999, labels, 1 - labels)  # 0.8999666...
    found = compute(labels, np.eye(2)[said], ("a", "b"))
    assert Gate.parse("accuracy>=0.9").check(found) == (False, f"accuracy is {26999 / 30000!r}, asked for >= 0.9")


@pytest.mark.parametrize(
    ("text", "first", "said"),
    [
        ("macro_f2>=0.9", "macro_f1", "no metric 'macro_f2'"),
        ("acuracy>=0.9", "accuracy", "no metric 'acuracy'"),
        ("recal[hat]>=0.9", "recall[CLASS]", "no metric 'recal[hat]'"),
        ("accuracy[hat]>=0.9", "accuracy", "no metric 'accuracy[hat]'"),
        ("recall>=0.9", "recall[CLASS]", "no metric 'recall'"),
        ("confusion>=0.9", "n", "no metric 'confusion'"),
        ("correct>=0.9", "n", "no metric 'correct'"),
    ],
)
def test_a_misspelled_metric_lists_the_names_nearest_first(text: str, first: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Gate.parse(text)
    assert caught.value.exit_code == 2 and said in caught.value.what
    names = caught.value.fix.removeprefix("expected ").split(", ")
    assert names[0] == first
    assert sorted(names) == sorted([*SCALARS, *(f"{name}[CLASS]" for name in OF_A_CLASS)])


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy=0.9", ">=0.9", "accuracy>=", "accuracy>=90%", "accuracy>=nan", "accuracy>=inf",
     "accuracy=>0.9", "accuracy>=0.9>=0.8", "recall[hat>=0.9"],
)  # fmt: skip
def test_what_is_no_gate_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected"):
        Gate.parse(text)


def test_an_unknown_class_lists_the_classes_nearest_first() -> None:
    gates = [Gate.parse("recall[hat]>=0"), Gate.parse("f1[sho]>=0.5")]
    require_classes(gates, ("sho", "hat"))
    with pytest.raises(InputError, match=r"no class 'sho'; expected one of shoe, hat") as caught:
        require_classes(gates, ("hat", "shoe"))
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match="and 988 more"):
        require_classes(gates, [f"class {index}" if index else "hat" for index in range(1000)])
