"""Trials on other machines: pretended ones here, and two nodes of Ray on loopback."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgclf.config import TrainConfig
from imgclf.data.inspect import inspect
from imgclf.data.scan import scan
from imgclf.data.split import assign_parts
from imgclf.errors import InputError, SetupError
from imgclf.search import elsewhere, tune
from imgclf.search.footprint import Footprint
from imgclf.search.space import candidates
from imgclf.search.stages import Stages
from imgclf.training.epoch import Epoch
from imgclf.training.train import Trained
from imgclf.workers.on_ray import connected
from imgclf.workers.parallel import News
from imgclf.workers.worker import attempt
from tests.clusters import MEMORY, busy, short_trial, two_nodes
from tests.conftest import imgclf_here

optuna = pytest.importorskip("optuna")

TINY = {"backbone": "tiny", "image_size": 32, "epochs": 3, "batch_size": 8}
OPTIONS = ["--backbone", "tiny", "--image-size", "32", "--epochs", "3", "--batch-size", "8"]


@pytest.fixture(scope="module")
def job(two_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[tune.Job, Stages]:
    images = assign_parts(inspect(scan(two_photos), workers=0))
    stages = Stages(images, tmp_path_factory.mktemp("run") / "stage", 0)
    space = candidates(images, TrainConfig(**TINY))
    return tune.Job(space, stages, len(images.part("train")), len(images.part("val")), 6), stages


class Stopped(Exception):
    """As a machine tells a trial."""


class Machines:
    """Two machines that do a job when they are asked for news, one after the other, the last one that began first."""

    def __init__(self, fates=()):
        self.fates, self.begun, self.most, self.open = dict(fates), [], 0, False
        self.waiting, self.stopped = [], set()

    @contextmanager
    def jobs(self, shared, needed):
        assert all(path.exists() for path in needed)
        self.shared, self.open = shared, True
        try:
            yield self
        finally:
            self.open, self.waiting = False, []

    def free(self):
        return tuple({"10.0.0.1 a", "10.0.0.2 b"} - {machine for _, machine, _, _ in self.waiting})

    def begin(self, number, machine, function, *args):
        assert machine in self.free()
        self.waiting.append((number, machine, function, args))
        self.begun.append(number)
        self.most = max(self.most, len(self.waiting))

    def news(self, seconds):
        number, _, function, args = self.waiting.pop()
        fate = self.fates.get(len(self.begun))
        if fate is KeyboardInterrupt:
            raise KeyboardInterrupt
        if fate == "lost":
            return [News(number, lost=True)]
        said = []
        reply = attempt(lambda _: function(said.append, self.shared, *args), None)
        return [News(number, tuple(said)), News(number, (), reply)]  # said while it ran, then its end

    def stop(self, number):
        self.stopped.add(number)


@pytest.fixture
def pretend(monkeypatch):
    """Stands for `train` on the machines: the accuracy is a function of the settings."""

    def install(accuracy, error=None):
        def train(staged, config, *, watch):
            if error is not None and (found := error(config)):
                raise found
            row = Epoch("training", 5, {}, {"accuracy": accuracy(config), "loss": 1.0}, 1e-3, 0.1)
            watch(row)
            return Trained(None, config, (replace(row, kept=True),), (), 1)

        monkeypatch.setattr(elsewhere, "train", train)
        monkeypatch.setattr(elsewhere, "convert", lambda model: b"file")
        monkeypatch.setattr(elsewhere, "measure_file", lambda content: Footprint(1.0, float(len(content))))
        monkeypatch.setattr(elsewhere.keras.utils, "clear_session", lambda: None)

    return install


def search(path, job, machines, **changed):
    study = tune.open_study(path / "study.db")
    elsewhere.search(study, replace(job[0], **changed), job[1], machines)
    return study


def points(study):
    return [tuple(sorted(row.settings.items())) for row in tune.rows(study)]


def test_two_machines_are_kept_busy_until_there_are_exactly_enough(job, pretend, tmp_path):
    pretend(lambda config: 0.5)
    machines = Machines()
    study = search(tmp_path, job, machines, trials=5)
    assert len(tune.rows(study)) == len(machines.begun) == 5 and machines.most == 2
    assert len(set(points(study))) == 5, "no point is tried twice, nor by two machines at once"
    assert {trial.user_attrs["machine"] for trial in tune.ended(study)} == {"10.0.0.1 a", "10.0.0.2 b"}
    assert {(row.megabytes, row.milliseconds) for row in tune.rows(study)} == {(1.0, 4.0)}
    machines = Machines()
    study = search(tmp_path, job, machines, trials=6)
    assert len(tune.rows(study)) == 6 and len(machines.begun) == 1, "those that have ended are counted"


def test_a_lost_machine_has_its_point_tried_elsewhere_once(job, pretend, tmp_path, capsys):
    pretend(lambda config: 0.5)
    machines = Machines({2: "lost"})
    study = search(tmp_path, job, machines, trials=4)
    assert len(machines.begun) == 5 and [row.state for row in tune.rows(study)] == ["done"] * 4
    assert len(set(points(study))) == 4
    assert "went away in the middle of a trial, which is tried again" in capsys.readouterr().err


def test_a_point_that_ends_its_machines_is_given_up(job, pretend, tmp_path):
    pretend(lambda config: 0.5)
    machines = Machines(dict.fromkeys(range(1, 40), "lost"))
    with pytest.raises(InputError, match=r"first 3 trials failed .its machine or process went away 2 times"):
        search(tmp_path, job, machines)


def test_an_error_is_a_failed_trial(job, pretend, tmp_path):
    pretend(lambda config: 0.5, lambda config: InputError("it diverged") if config.augment == "shift" else None)
    rows = tune.rows(search(tmp_path, job, Machines()))
    failed = [row for row in rows if row.settings["augment"] == "shift"]
    assert len(rows) == 6 and 0 < len(failed) < 6
    assert all((row.state, row.note) == (("failed", "it diverged") if row in failed else ("done", "")) for row in rows)


def test_what_no_other_settings_would_help_ends_the_search(job, pretend, tmp_path):
    pretend(lambda config: 0.5, lambda config: SetupError("no weights", "imgclf weights"))
    machines = Machines()
    with pytest.raises(SetupError, match=r"could not be run on 10.0.0.[12] .no weights.; imgclf weights"):
        search(tmp_path, job, machines)
    assert not machines.open


def test_ctrl_c_ends_all_and_the_same_points_are_tried_by_the_next_call(job, pretend, tmp_path):
    pretend(lambda config: 0.5)
    machines = Machines({4: KeyboardInterrupt})
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, job, machines)
    assert not machines.open
    study = tune.open_study(tmp_path / "study.db")
    killed = [trial.params for trial in study.get_trials() if trial.state == optuna.trial.TrialState.RUNNING]
    before = tune.rows(study)
    assert len(killed) == 2 and len(before) == 2
    study = search(tmp_path, job, Machines())
    assert len(tune.rows(study)) == 6 and all(
        params in [trial.params for trial in tune.ended(study)] for params in killed
    )


def test_bad_trials_are_ended_early_while_they_run(job, pretend, tmp_path):
    best = {}

    def accuracy(config):  # the first four get better and better, the others are bad
        return best.setdefault(repr(config), 0.9 if len(best) < 4 else 0.1)

    pretend(accuracy)
    machines = Machines()
    rows = tune.rows(search(tmp_path, job, machines))
    assert [row.state for row in rows] == ["done"] * 4 + ["pruned"] * 2 and len(machines.stopped) == 2


def test_the_time_budget_ends_the_search_but_not_the_first_trial(job, pretend, tmp_path, capsys):
    pretend(lambda config: 0.5)
    machines = Machines()
    assert len(tune.rows(search(tmp_path, job, machines, seconds=0.0))) == 1
    assert not machines.open and "the time budget is over after 1 trial" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as made:
        yield made


@pytest.mark.slow
def test_jobs_of_a_cluster_say_raise_die_and_are_stopped(cluster, tmp_path):
    with connected(cluster.address) as ray_cluster, ray_cluster.jobs({"shared": 1}, [tmp_path]) as jobs:
        machines = jobs.free()
        assert len(machines) == 2
        jobs.begin(7, machines[0], busy, str(tmp_path), 3)
        jobs.begin(8, machines[1], busy, str(tmp_path), 0)
        assert jobs.free() == ()
        assert heard(jobs, 8)[0].reply.value[0] == {"shared": 1} and jobs.free() == (machines[1],)
        jobs.begin(9, machines[1], busy, str(tmp_path), 1)
        (error,) = heard(jobs, 9)
        assert isinstance(error.reply.own, InputError) and error.reply.own.what == "one" and not error.lost
        jobs.begin(10, machines[1], busy, str(tmp_path), 2)
        (lost,) = heard(jobs, 10)
        assert lost.lost and lost.reply is None
        jobs.stop(7)
        (stopped,) = heard(jobs, 7)
        assert stopped.reply.failed and stopped.reply.kind == "Stopped"
        assert jobs.free() == machines[:1], "the other has just lost a job"


def heard(jobs, number):
    """The end of a job."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        ended = [news for news in jobs.news(0.1) if news.job == number and (news.reply or news.lost)]
        if ended:
            return ended
    raise AssertionError(f"nothing is heard of the end of job {number}")


@pytest.mark.slow
def test_the_command_searches_on_both_nodes_and_each_trial_is_the_local_one(cluster, two_photos, tmp_path):
    out = tmp_path / "search"
    done = imgclf_here("tune", two_photos, "--out", out, *OPTIONS, "--trials", "3", "--no-train",
                       "--engine", "ray", "--address", cluster.address)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Ray: 2 machines, 2 processors" in done.stderr and not (out / "stage").exists()
    trials = tune.ended(tune.open_study(out / "study.db"))
    assert len(trials) == 3 and len({trial.user_attrs["machine"] for trial in trials}) == 2
    here = imgclf_here("tune", two_photos, "--out", tmp_path / "here", *OPTIONS, "--trials", "1", "--no-train")
    assert here.returncode == 0, here.stderr
    (local,) = tune.ended(tune.open_study(tmp_path / "here" / "study.db"))
    (same,) = [trial for trial in trials if trial.user_attrs["settings"] == local.user_attrs["settings"]]
    assert same.value == local.value
    for name in ("right", "loss", "epochs", "megabytes"):
        assert same.user_attrs[name] == local.user_attrs[name], name


class Doomed:
    """A cluster of which a node is removed when its first trial has said something."""

    def __init__(self, cluster, ray_cluster, node):
        self.cluster, self.ray_cluster, self.node, self.removed = cluster, ray_cluster, node, 0

    @contextmanager
    def jobs(self, shared, needed):
        with self.ray_cluster.jobs(shared, needed) as inner:
            began = {}

            class Hooked:
                free, stop = inner.free, inner.stop

                def begin(_, number, machine, *args):
                    began[number] = machine
                    inner.begin(number, machine, *args)

                def news(_, seconds):
                    found = inner.news(seconds)
                    if self.node and any(
                        n.said and not n.reply and began[n.job].endswith(self.node.node_id) for n in found
                    ):
                        self.cluster.remove_node(self.node, allow_graceful=False)
                        self.node, self.removed = None, self.removed + 1
                    return found

            yield Hooked()


@pytest.mark.slow
def test_a_node_that_dies_costs_nothing_but_time(cluster, job, monkeypatch, tmp_path):
    monkeypatch.setattr(elsewhere, "run_trial", short_trial)
    monkeypatch.setattr(elsewhere, "measure_file", lambda content: Footprint(1.0, 1.0))
    with connected(cluster.address) as ray_cluster:  # first, so that it is not the new node that this process is at
        node = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        cluster.wait_for_nodes()
        doomed = Doomed(cluster, ray_cluster, node)
        study = search(tmp_path, job, doomed, trials=6)
    assert doomed.removed == 1
    assert [row.state for row in tune.rows(study)] == ["done"] * 6 and len(set(points(study))) == 6
    uncounted = [trial for trial in study.get_trials() if tune.NOT_COUNTED in trial.user_attrs and trial.params]
    assert sum(trial.user_attrs.get("machine", "").endswith(node.node_id) for trial in uncounted) == 1
