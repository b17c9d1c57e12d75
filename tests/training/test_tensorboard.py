"""What is written for TensorBoard is what history.csv says, read back by TensorFlow itself."""

from collections import Counter
from pathlib import Path

import pytest
import tensorflow as tf

from imgclf.config import TrainConfig
from imgclf.training.epoch import METRICS, Epoch
from imgclf.training.history import History
from imgclf.training.tensorboard import complete, watcher
from imgclf.training.train import train
from tests.conftest import TINY, imgclf_here
from tests.training.material import drawn_set, pretend, use_eager_engines

Points = dict[tuple[str, str], list[tuple[int, float]]]


def read(folder: Path) -> Points:
    """(curve, chart) to its points (step, value), by step; files of one second have no order of their own."""
    found: Points = {}
    for path in sorted(folder.glob("*/events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor))
                found.setdefault((path.parent.name, value.tag), []).append((event.step, number))
    return {key: sorted(points) for key, points in found.items()}


def row(stage: str, epoch: int, value: float) -> Epoch:
    return Epoch(stage, epoch, dict.fromkeys(METRICS, value), dict.fromkeys(METRICS, value + 1), 0.5 * value, 1.0)


def test_stages_are_charts_with_two_curves_and_can_be_looked_at_while_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with watcher(tmp_path) as watch:
        watch(row("head", 1, 0.25))
        watch(row("head", 2, 0.5))
        assert read(tmp_path)["train", "head/loss"] == [(1, 0.25), (2, 0.5)]  # while the file is open
        watch(row("fine-tune", 1, 2.0))
    found = read(tmp_path)
    assert found["validation", "head/accuracy"] == [(1, 1.25), (2, 1.5)]
    assert found["validation", "fine-tune/accuracy"] == [(1, 3.0)]
    assert found["train", "head/learning_rate"] == [(1, 0.125), (2, 0.25)]
    assert ("validation", "head/learning_rate") not in found
    assert f"tensorboard --logdir {tmp_path}" in capsys.readouterr().err


def test_an_epoch_of_an_earlier_start_is_not_written_again(tmp_path: Path) -> None:
    with watcher(tmp_path) as watch:
        watch(row("head", 1, 0.25))
        watch(row("head", 2, 0.5))
    latest = max((tmp_path / "train").iterdir())
    latest.write_bytes(latest.read_bytes()[:-7])  # as a kill leaves it
    with watcher(tmp_path) as watch:
        for epoch in (1, 2, 3):
            watch(row("head", epoch, epoch / 4))
    steps = Counter(step for step, _ in read_all(tmp_path, "train", "head/loss"))
    assert steps == {1: 1, 2: 1, 3: 1}


def read_all(folder: Path, curve: str, chart: str) -> list[tuple[int, float]]:
    """The points of a curve, also where one of its files is cut short."""
    points = []
    for path in sorted((folder / curve).iterdir()):
        try:
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                points += [(event.step, 0.0) for value in event.summary.value if value.tag == chart]
        except tf.errors.DataLossError:
            continue
    return points


def test_a_stage_that_begins_anew_goes_on_along_the_axis(tmp_path: Path) -> None:
    with watcher(tmp_path) as watch:
        for epoch, value in ((1, 0.25), (2, 0.5), (1, 0.75), (2, 1.0)):
            watch(row("fine-tune", epoch, value))
    assert read(tmp_path)["train", "fine-tune/loss"] == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]


def test_a_folder_that_cannot_be_written_does_not_end_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    with watcher(tmp_path / "file" / "tensorboard") as watch:
        watch(row("head", 1, 0.25))
        watch(row("head", 2, 0.5))
    assert capsys.readouterr().err.count("nothing more is written for TensorBoard") == 1


def test_what_nobody_was_told_of_is_written_at_the_end(tmp_path: Path) -> None:
    rows = [row("fine-tune 1", 1, 0.25), row("fine-tune 1", 2, 0.5), row("average", 1, 0.75)]
    with watcher(tmp_path) as watch:
        watch(rows[0])
    for _ in range(2):
        complete(tmp_path, rows)
    found = read(tmp_path)
    assert found["train", "fine-tune 1/loss"] == [(1, 0.25), (2, 0.5)]
    assert found["train", "average/loss"] == [(1, 0.75)]


class Killed(Exception):
    pass


@pytest.mark.slow
def test_head_and_fine_tuning_with_a_kill_between_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    use_eager_engines(monkeypatch)
    staged = drawn_set(tmp_path / "stage")
    config = TrainConfig(backbone="tiny", image_size=16, epochs=2, fine_tune_epochs=2, unfreeze="2", batch_size=6,
                         head_search=False, patience=9, augment="none")  # fmt: skip
    folder, checkpoints = tmp_path / "tensorboard", tmp_path / "checkpoints"

    with watcher(folder) as watch, pytest.raises(Killed):

        def kill(epoch: Epoch) -> None:
            watch(epoch)
            if epoch.stage == "fine-tune":
                raise Killed

        train(staged, config, checkpoints=checkpoints, watch=kill)
    with watcher(folder) as watch:
        trained = train(staged, config, checkpoints=checkpoints, watch=watch)
    assert [(entry.stage, entry.epoch) for entry in trained.history] == [
        ("head", 1), ("head", 2), ("fine-tune", 1), ("fine-tune", 2)
    ]  # fmt: skip
    found = read(folder)
    for stage in ("head", "fine-tune"):
        expected = [(entry.epoch, pytest.approx(entry.val["loss"], rel=1e-5))
                    for entry in trained.history if entry.stage == stage]  # fmt: skip
        assert found["validation", f"{stage}/loss"] == expected


@pytest.mark.slow
def test_a_training_writes_its_history(two_photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = imgclf_here("train", two_photos, "--out", out, *TINY, "--formats", "", "--tensorboard")
    assert done.returncode == 0, done.stderr
    history, found = History.read(out / "history.csv"), read(out / "tensorboard")
    for curve, values in {"train": [entry.train for entry in history.rows],
                          "validation": [entry.val for entry in history.rows]}.items():  # fmt: skip
        for name in ("loss", "accuracy"):
            expected = [(at + 1, pytest.approx(value[name], abs=1e-5)) for at, value in enumerate(values)]
            assert found[curve, f"training/{name}"] == expected
    rates = [value for _, value in found["train", "training/learning_rate"]]
    assert rates == pytest.approx([entry.learning_rate for entry in history.rows], rel=0.01)
