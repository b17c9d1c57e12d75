"""history.csv as a value: what it holds, how it is shown."""

from pathlib import Path

import pytest

import imgclf
from imgclf.errors import InputError
from imgclf.records import write_history
from imgclf.runs import Run
from imgclf.training.epoch import METRICS, Epoch
from imgclf.training.history import History


def row(stage: str, epoch: int, accuracy: float = 0.5, kept: bool = False) -> Epoch:
    measures = {**dict.fromkeys(METRICS, 0.25), "loss": 1 - accuracy, "accuracy": accuracy}
    return Epoch(stage, epoch, {**measures, "accuracy": 0.75}, measures, 0.001, 1.5, kept)


def test_what_a_training_writes_is_read_back(tmp_path: Path) -> None:
    rows = (row("head", 1), row("head", 2, 0.625), row("fine-tune", 1, 0.875, kept=True), row("fine-tune", 2))
    write_history(Run(tmp_path), rows)
    history = History.read(tmp_path / "history.csv")
    assert history.rows == rows and len(history) == 4
    assert history.stages == (rows[:2], rows[2:])
    assert history.kept == rows[2]
    assert str(history).splitlines()[0] == (
        "4 epochs in 6.0 s (head 2, fine-tuning 2); kept: fine-tuning epoch 1, validation accuracy 0.875"
    )
    assert "<table" in history._repr_html_() and "0.875" in history._repr_html_()


def test_a_stage_that_begins_anew_is_two_stages() -> None:
    rows = (row("fine-tune", 1), row("fine-tune", 2), row("fine-tune", 1), row("fine-tune", 2))
    assert History(rows).stages == (rows[:2], rows[2:])


def test_a_long_history_is_shown_in_short_with_its_kept_epoch() -> None:
    rows = [row("head", epoch, 0.5 if epoch != 50 else 0.9375, kept=epoch == 50) for epoch in range(1, 101)]
    html = History(tuple(rows))._repr_html_()
    assert html.count("<tr>") == 1 + 15 + 1 + 15  # its head, the first ones, the kept one, the last ones
    assert "50 (kept)" in html and "without 69 of 100 epochs" in html


def test_curves_show_every_epoch_of_every_stage_and_mark_the_kept_one() -> None:
    rows = [*(row("head", epoch, 0.5) for epoch in range(1, 101)), row("fine-tune", 1, 0.625),
            row("fine-tune", 2, 0.875, kept=True)]  # fmt: skip
    figure = History(tuple(rows)).plot()
    accuracy, loss = figure.axes
    assert (accuracy.get_ylabel(), loss.get_ylabel()) == ("accuracy", "loss")
    train, val, tuned, tuned_val, kept = accuracy.get_lines()[:5]
    assert [len(line.get_ydata()) for line in (train, val, tuned, tuned_val, kept)] == [100, 100, 2, 2, 1]
    assert list(tuned_val.get_ydata()) == [0.625, 0.875] and list(kept.get_ydata()) == [0.875]
    assert kept.get_xdata()[0] == tuned_val.get_xdata()[1]
    assert tuned.get_xdata()[0] > train.get_xdata()[-1]
    assert tuned.get_xdata()[1] - tuned.get_xdata()[0] > 0.1  # two epochs beside a hundred are still seen
    assert {"head", "fine-tuning"} <= {text.get_text() for text in accuracy.texts}


def test_no_history_and_no_csv_of_ours_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `imgclf train` to the end"):
        History.read(tmp_path / "history.csv")
    (tmp_path / "history.csv").write_text("stage,epoch\nhead,1\n")
    with pytest.raises(InputError, match="not a history of imgclf"):
        History.read(tmp_path / "history.csv")
    with pytest.raises(InputError, match="at least one epoch"):
        History(()).plot()
    assert "no epochs" in History(())._repr_html_()


@pytest.mark.slow
def test_of_a_run(run: Path) -> None:
    history = imgclf.load(run).history
    assert [entry.epoch for entry in history.rows] == list(range(1, len(history) + 1))
    assert history.kept is not None and history.kept.val["loss"] == min(entry.val["loss"] for entry in history.rows)
    with pytest.raises(InputError, match="single file and has no history"):
        _ = imgclf.load(run / "exports" / "model_float32.tflite").history
