"""The search on a pretended training: what is tried, ended early, kept and repeated."""

import pytest

from imgclf.config import TrainConfig
from imgclf.errors import InputError
from imgclf.models import backbones
from imgclf.search import tune
from imgclf.search.footprint import Footprint
from imgclf.search.networks import Network
from imgclf.search.rungs import beaten
from imgclf.search.space import Space
from imgclf.training.epoch import Epoch
from imgclf.training.train import Trained

optuna = pytest.importorskip("optuna")

N = 100
USUAL = TrainConfig()
LARGE, SMALL = (Network(backbones.get("mobilenet_v2"), alpha, (128, 160, 224), False) for alpha in (1.0, 0.35))


def epochs(config, accuracy):
    """What a training of these settings would show: the head gets better for ten epochs, then fine-tuning."""
    for stage, count in (("head", config.epochs), ("fine-tune", config.fine_tune_epochs)):
        for number in range(1, count + 1):
            reached = accuracy * min(1, number / 10) if stage == "head" else accuracy
            yield Epoch(stage, number, {}, {"accuracy": reached, "loss": 2 - reached}, 1e-3, 0.1)


class Pretended:
    """Stands for `train`: the accuracy is a function of the settings."""

    def __init__(self, accuracy, at_trial=None, error=None):
        self.accuracy, self.at_trial, self.error, self.configs = accuracy, at_trial, error, []

    def __call__(self, staged, config, *, watch):
        self.configs.append(config)
        if len(self.configs) == self.at_trial:
            raise self.error
        rows = []
        for row in epochs(config, self.accuracy(config)):
            rows.append(row)
            watch(row)
        kept_row = Epoch(**{**{name: getattr(rows[-1], name) for name in Epoch.__dataclass_fields__}, "kept": True})
        return Trained(None, config, (*rows[:-1], kept_row), (), 1)


@pytest.fixture
def pretend(monkeypatch):
    def install(accuracy, **more):
        training = Pretended(accuracy, **more)
        monkeypatch.setattr(tune, "train", training)
        monkeypatch.setattr(tune, "measure", lambda model: Footprint(1.0, 1.0))
        monkeypatch.setattr(tune.keras.utils, "clear_session", lambda: None)  # takes a second
        return training

    return install


def job(tmp_path, trials, *, seconds=None, config=USUAL, networks=(LARGE, SMALL)):
    return tune.Job(Space(config, config, networks), lambda size: None, 2000, N, trials, seconds)


def settings(study):
    return [(row.network, row.settings) for row in tune.rows(study)]


def by_size(config):
    return 0.6 + config.image_size / 1000 + (0.05 if config.fine_tune_epochs else 0)


def test_trials_are_counted_measured_and_ranked(pretend, tmp_path):
    training = pretend(by_size)
    study = tune.open_study(tmp_path / "study.db")
    tune.search(study, job(tmp_path, 6))
    rows = tune.rows(study)
    assert [row.number for row in rows] == list(range(1, 7)) and len(training.configs) == 6
    assert [row.network for row in rows[:3]] == ["mobilenet_v2 1.0", "mobilenet_v2 0.35", "mobilenet_v2 1.0"]
    assert [row.head_only for row in rows[:3]] == [True, True, False]
    best = max((row for row in rows if row.state == "done"), key=lambda row: row.score)
    assert best.right == round(by_size(TrainConfig(image_size=224, fine_tune_epochs=3)) * N)
    assert all(row.megabytes == 1.0 and row.loss is not None for row in rows if row.state == "done")
    assert {config.fine_tune_epochs for config in training.configs} == {0, 3}, "trials are short"


def test_an_interrupted_search_is_the_same_search(pretend, tmp_path):
    pretend(by_size)
    whole = tune.open_study(tmp_path / "whole.db")
    tune.search(whole, job(tmp_path, 6))
    pretend(by_size, at_trial=5, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tune.search(tune.open_study(tmp_path / "study.db"), job(tmp_path, 6))
    again = tune.open_study(tmp_path / "study.db")
    before = settings(again)
    assert len(before) == 4
    training = pretend(by_size)
    tune.search(again, job(tmp_path, 6))
    assert len(training.configs) == 2, "nothing that has ended is done again"
    assert settings(again) == settings(whole)


def test_the_seed_decides(pretend, tmp_path):
    pretend(by_size)
    found = []
    for name, seed in (("a", 1), ("b", 2)):
        study = tune.open_study(tmp_path / f"{name}.db")
        tune.search(study, job(tmp_path, 5, config=TrainConfig(seed=seed)))
        found.append(settings(study))
    assert found[0][:3] == found[1][:3] and found[0] != found[1]


def test_where_the_head_is_perfect_nothing_is_fine_tuned(pretend, tmp_path):
    training = pretend(lambda config: 1.0)
    tune.search(tune.open_study(tmp_path / "study.db"), job(tmp_path, 6))
    assert len(training.configs) == 6
    assert {config.fine_tune_epochs for config in training.configs} == {0}


def test_nothing_is_trained_twice_and_the_end_is_seen(pretend, monkeypatch, tmp_path):
    pretend(by_size)
    configs = []

    def train(staged, config, *, watch):
        configs.append(config)
        row = Epoch("training", 1, {}, {"accuracy": 0.5, "loss": 1.0}, 1e-3, 0.1, kept=True)
        watch(row)
        return Trained(None, config, (row,), (), 1)

    monkeypatch.setattr(tune, "train", train)
    tiny = Network(backbones.get("tiny"), None, (96,), True)
    config = TrainConfig(learning_rate=1e-3, image_size=96, backbone="tiny")
    study = tune.open_study(tmp_path / "study.db")
    tune.search(study, job(tmp_path, 20, config=config, networks=(tiny,)))
    assert sorted(config.augment for config in configs) == ["light", "none", "shift"]
    assert len(tune.rows(study)) == 3


def test_a_trial_that_diverges_is_a_failed_one(pretend, tmp_path):
    pretend(by_size, at_trial=2, error=InputError("the training diverged", "choose another rate"))
    study = tune.open_study(tmp_path / "study.db")
    tune.search(study, job(tmp_path, 4))
    assert [row.state for row in tune.rows(study)].count("failed") == 1
    assert tune.rows(study)[1].note == "the training diverged"


def test_failing_again_and_again_ends_the_search(monkeypatch, tmp_path):
    def fails(*_, **__):
        raise InputError("the training diverged")

    monkeypatch.setattr(tune, "train", fails)
    with pytest.raises(InputError, match="first 3 trials failed"):
        tune.search(tune.open_study(tmp_path / "study.db"), job(tmp_path, 9))


def test_the_time_budget_ends_the_search_but_not_the_first_trial(pretend, tmp_path):
    pretend(by_size)
    study = tune.open_study(tmp_path / "study.db")
    tune.search(study, job(tmp_path, 3, seconds=0.0))
    assert len(tune.rows(study)) == 1
    tune.search(study, job(tmp_path, 3, seconds=1000.0))
    assert len(tune.rows(study)) == 3


def test_bad_trials_are_ended_early(pretend, tmp_path):
    def accuracy(config):
        return 0.3 if config.fine_tune_epochs else 0.9

    pretend(accuracy)
    study = tune.open_study(tmp_path / "study.db")
    tune.search(study, job(tmp_path, 9))
    pruned = [row for row in tune.rows(study) if row.state == "pruned"]
    assert pruned and all(row.accuracy < 0.5 and row.epochs < 43 for row in pruned)


@pytest.mark.parametrize(
    ("value", "place", "ends"),
    [(0.7, (10, 10), True), (0.7, (4, 10), False), (0.7, (10, 4), False), (0.85, (10, 10), False)],
)
def test_a_trial_is_compared_with_what_costs_no_more(value, place, ends):
    others = [((5, 5), {0: 0.8}), ((5, 5), {0: 0.8}), ((9, 9), {0: 0.9}), ((9, 9), {1: 0.9})]
    assert beaten(value, 0, place, others) is ends
    assert not beaten(value, 2, place, others)


def test_another_file_is_no_study(tmp_path):
    path = tmp_path / "study {a}?#.db"
    tune.open_study(path)
    assert path.is_file(), "whatever its name"
    path.write_text("no database, but longer than the header of one, which has 100 bytes" * 3)
    with pytest.raises(InputError, match="cannot be read as a search"):
        tune.open_study(path)
