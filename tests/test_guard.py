"""What is left of a run that fails."""

from pathlib import Path

import pytest

from imgclf import runs
from imgclf.errors import CheckFailed
from imgclf.guard import guarded


@pytest.mark.parametrize(
    ("left", "state"),
    [
        ((), None),
        ((f"{runs.CHECKPOINTS}/latest.npz",), "failed"),
        ((f"folds/1/{runs.PREDICTIONS}",), "failed"),
        ((runs.MODEL, runs.METRICS), "running"),  # a refused mobile file: the training goes on to say it is done
    ],
)
def test_a_check_that_fails_leaves_what_can_be_gone_on_with(
    left: tuple[str, ...], state: str | None, tmp_path: Path
) -> None:
    run = runs.Run.create(tmp_path / "run")
    for name in left:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"content")
    with pytest.raises(CheckFailed), guarded(run):
        raise CheckFailed("the saved model differs")
    assert run.root.exists() == (state is not None)
    if state is not None:
        assert run.state["state"] == state
