"""Gates: what the figures of a model must be, such as `macro_f1>=0.9`, `recall[hat]>=0.8`. May import metrics."""

import difflib
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from imgclf.errors import InputError
from imgclf.evaluation.metrics import TABLES, ClassMetrics, Metrics

SCALARS = tuple(field.name for field in fields(Metrics) if field.name not in TABLES)
OF_A_CLASS = tuple(field.name for field in fields(ClassMetrics) if field.name != "label")
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt,
}  # fmt: skip

EXAMPLE = "macro_f1>=0.9 or recall[CLASS]>=0.8"
MOST_CLASSES = 12  # that an error lists

# The last operator counts: a class name may hold others.
_GATE = re.compile(r"(?P<name>.*\S)\s*(?P<operator>>=|<=|==|>|<)\s*(?P<bound>[^<>=\[\]]*)", re.DOTALL)
_OF_A_CLASS = re.compile(r"(?P<metric>\w+)\[(?P<label>.*)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition on the figures of a model.

    Attributes:
        metric: a name of `SCALARS`; of `OF_A_CLASS` where there is a label.
        label: the class that it is a figure of; None for a figure of the whole.
        operator: one of `OPERATORS`.
        bound: what the figure is compared with.
    """

    metric: str
    label: str | None
    operator: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> "Gate":
        """A gate from what a person wrote.

        Raises:
            InputError: there is no operator, no number, or no such metric.
        """
        found = _GATE.fullmatch(text.strip())
        if found is None:
            raise InputError(f"{text!r} is no gate", f"expected {EXAMPLE}; operators are {', '.join(OPERATORS)}")
        try:
            bound = float(found["bound"])
        except ValueError:
            bound = math.nan
        if not math.isfinite(bound):
            raise InputError(f"{found['bound']!r} in {text!r} is no number", f"expected {EXAMPLE}")
        inner = _OF_A_CLASS.fullmatch(found["name"])
        metric, label = (found["name"], None) if inner is None else (inner["metric"], inner["label"])
        if metric not in (SCALARS if label is None else OF_A_CLASS):
            raise InputError(f"there is no metric {found['name']!r}", f"expected {_nearest(metric, label is not None)}")
        return cls(metric, label, found["operator"], bound)

    @property
    def name(self) -> str:
        """The figure as it is written."""
        return self.metric if self.label is None else f"{self.metric}[{self.label}]"

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.bound:g}"

    def value(self, metrics: Metrics) -> float | None:
        """The figure; None where it is undefined.

        Raises:
            InputError: the class is not among those of the metrics.
        """
        if self.label is None:
            value: float | None = getattr(metrics, self.metric)
            return value
        for entry in metrics.per_class:
            if entry.label == self.label:
                value = getattr(entry, self.metric)
                return value
        raise _unknown_class(self, [entry.label for entry in metrics.per_class])

    def check(self, metrics: Metrics) -> tuple[bool, str]:
        """Whether the condition holds, which an undefined figure never does, and a line that says so."""
        value = self.value(metrics)
        if value is None:
            return False, f"{self.name} is undefined on these images, asked for {self.operator} {self.bound:g}"
        holds = OPERATORS[self.operator](value, self.bound)
        shown = f"{value:.4g}"
        if OPERATORS[self.operator](float(shown), self.bound) != holds:  # 0.89999 must not be shown as 0.9
            shown = repr(value)
        return holds, f"{self.name} is {shown}, asked for {self.operator} {self.bound:g}"


def require_classes(gates: Sequence[Gate], classes: Sequence[str]) -> None:
    """Check, before anything is measured, that the classes in gates are the model's.

    Raises:
        InputError: one is not.
    """
    for gate in gates:
        if gate.label is not None and gate.label not in classes:
            raise _unknown_class(gate, classes)


def _unknown_class(gate: Gate, classes: Sequence[str]) -> InputError:
    ordered = _by_likeness(gate.label or "", classes)
    more = f" and {len(ordered) - MOST_CLASSES} more" if len(ordered) > MOST_CLASSES else ""
    return InputError(f"{gate.name}: the model has no class {gate.label!r}",
                      f"expected one of {', '.join(ordered[:MOST_CLASSES])}{more}")  # fmt: skip


def _nearest(metric: str, of_a_class: bool) -> str:
    """All names that a gate may begin with, those like the one that was written first."""
    names = {name: name for name in SCALARS} | {f"{name}[CLASS]": name for name in OF_A_CLASS}
    near = difflib.get_close_matches(metric, names.values(), n=3)
    ordered = sorted(names, key=lambda name: (
        near.index(names[name]) if names[name] in near else len(near), ("[" in name) != of_a_class))  # fmt: skip
    return ", ".join(ordered)


def _by_likeness(name: str, names: Sequence[str]) -> list[str]:
    near = difflib.get_close_matches(name, names, n=3)
    return [*near, *(other for other in names if other not in near)]
