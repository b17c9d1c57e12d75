from pathlib import Path

import pytest

from imgclf.models.build import Cut
from imgclf.progress import plural
from imgclf.training.plan import SpeedNotes, TransferPlan, epochs_within


@pytest.mark.parametrize(("seconds", "epochs"), [(10, 8), (30, 6), (45, 4), (80, 2), (1000, 2), (0, 8)])
def test_epochs_fit_the_budget_within_the_limits(seconds: float, epochs: int) -> None:
    assert epochs_within(180, seconds, (2, 8)) == epochs


def test_a_plan_says_what_it_will_do() -> None:
    three, one, all_of_it = Cut("block_14_add", 3, "3"), Cut("block_16_add", 1, "1"), Cut(None, None, "all")
    assert str(TransferPlan(three, 4, 3)) == "fine-tuning the top 3 blocks, 4 epochs, 3 views of each image"
    assert str(TransferPlan(one, 1, 1)) == "fine-tuning the top 1 block, 1 epoch, 1 view of each image"
    assert str(TransferPlan(all_of_it, 2, 0)) == "fine-tuning the whole network, 2 epochs, freshly varied images"


def test_plurals() -> None:
    assert [plural(n, "class") for n in (1, 2)] == ["1 class", "2 classes"]


def test_speed_is_remembered_and_damage_only_means_measuring_again(tmp_path: Path) -> None:
    notes = SpeedNotes(tmp_path / "deep" / "cache")
    assert notes.get("a") is None
    notes.put("a", 0.25)
    notes.put("b", 1.5)
    assert SpeedNotes(tmp_path / "deep" / "cache").get("a") == 0.25
    for damage in ("{", "[]", '{"a": "x"}'):
        notes.path.write_text(damage)
        assert notes.get("a") is None
    blocked = SpeedNotes(Path(__file__))
    blocked.put("a", 1)
    assert blocked.get("a") is None
