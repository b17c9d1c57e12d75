"""Trials of a search on other machines, one a machine at a time. May import search/, training/ and parallel.

The study stays here: it is asked for a point when a machine is free, looks at every epoch of every trial as `tune`
does, and is told the results. What comes first depends on the machines, so two such searches need not try the same
points; a trial of given settings gives what it gives here.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import optuna
from optuna.trial import TrialState

from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageSet
from imgclf.errors import InputError, OutOfMemory, SetupError
from imgclf.progress import Bar, muted, plural, say, step, warn
from imgclf.search import tune
from imgclf.search.footprint import convert, measure_file
from imgclf.search.rungs import Watch
from imgclf.search.space import Draw
from imgclf.search.stages import Stages
from imgclf.training.epoch import Epoch
from imgclf.training.train import train
from imgclf.workers.parallel import Elsewhere, Jobs, News

POLL = 0.2  # seconds between two looks at what the trials say
LOSSES = 2  # of one point, after which it is its fault and not that of the machines
PATHS = ("weights", "teacher")  # settings that may name files


@dataclass(frozen=True)
class Done:
    """What a machine gives of a finished trial.

    Attributes:
        kept: the epoch whose weights were kept.
        content: the float16 .tflite file; empty where it was not asked for.
        seconds: the training took.
    """

    kept: Epoch
    content: bytes
    seconds: float


@dataclass(frozen=True)
class _UnderWay:
    """A trial that a machine is at."""

    trial: optuna.Trial
    drawn: Draw
    watch: Watch
    machine: str
    start: float


@dataclass
class _Search:
    """What goes on."""

    study: optuna.Study
    job: tune.Job
    jobs: Jobs
    bar: Bar
    done: int
    under_way: dict[int, _UnderWay] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    exhausted: bool = False  # nothing new can be asked for until a trial has ended


def search(study: optuna.Study, job: tune.Job, stages: Stages, machines: Elsewhere) -> None:
    """Run trials on other machines until there are enough or the time is over; each is in the study when it ends.

    Args:
        study: of the search, also one that was begun on this machine.
        job: what to search.
        stages: the images, and a folder that all machines see; each gets a part of it.
        machines: which do the trials.

    Raises:
        InputError: one trial after the other fails, or a machine does not see the images.
        SetupError: a trial could not be run at all, or the machines are lost.
        KeyboardInterrupt: Ctrl-C; the trials that were running are done again by the next call.
    """
    tune.enqueue(study, job.space)
    deadline = None if job.seconds is None else time.monotonic() + job.seconds
    done = len(tune.ended(study))
    stages = stages.absolute()
    with (
        step("searching", max(0, job.trials - done), "trials") as bar,
        machines.jobs(stages, _needed(stages.images, job.space.base, stages.folder.parent)) as jobs,
    ):
        state = _Search(study, job, jobs, bar, done)
        while state.done < job.trials:
            over = deadline is not None and time.monotonic() >= deadline
            if over and state.done:
                lost = len(state.under_way)
                rest = f"; {plural(lost, 'trial')} under way {'is' if lost == 1 else 'are'} not counted" if lost else ""
                say(f"the time budget is over after {plural(state.done, 'trial')}{rest}")
                break
            if not over or not state.under_way:  # there is to be at least one, however long it takes
                _begin(state)
            if state.exhausted and not state.under_way:
                say(f"everything has been tried after {plural(state.done, 'trial')}")
                break
            for news in jobs.news(POLL):
                if news.job in state.under_way and state.done < job.trials:
                    _heed(state, news)


def _needed(images: ImageSet, config: TrainConfig, run: Path) -> list[Path]:
    """What all machines must see: the images, the run folder, files that a setting names."""
    named = [Path(value) for value in (getattr(config, name) for name in PATHS) if value and Path(value).exists()]
    return [*(image.path for image in images.usable[:1]), run, *named]


def _begin(state: _Search) -> None:
    """Give every free machine a trial, as far as more are wanted and there is something new to try."""
    for machine in state.jobs.free():
        if state.exhausted or state.done + len(state.under_way) >= state.job.trials:
            return
        asked = tune.ask(state.study, state.job, [other.drawn for other in state.under_way.values()])
        if asked is None:
            state.exhausted = True
            return
        trial, drawn = asked
        config, size = tune.described(state.job, trial, drawn)
        trial.set_user_attr("machine", machine)
        watch = Watch(trial, tune.ended(state.study), config.fine_tune_epochs == 0, None)
        state.under_way[trial.number] = _UnderWay(trial, drawn, watch, machine, time.monotonic())
        converts = tune.footprint_of(state.study, trial) is None
        state.jobs.begin(trial.number, machine, run_trial, machine, size, _absolute(config), converts)


def _absolute(config: TrainConfig) -> TrainConfig:
    """The settings for a machine that works in another folder."""
    named = {name: getattr(config, name) for name in PATHS}
    return config.replace(**{
        name: str(Path(value).absolute()) for name, value in named.items() if value and Path(value).exists()
    })  # fmt: skip


def _heed(state: _Search, news: News) -> None:
    """Take what has been heard of a trial that is under way, and end it where there is a reason."""
    here = state.under_way[news.job]
    if news.lost:
        _give_up(state, here)
        return
    here.watch.compare_with(tune.ended(state.study))
    try:
        for epoch in news.said:
            here.watch(epoch)
    except optuna.TrialPruned:
        if news.reply is None:
            state.jobs.stop(news.job)
        _close(state, here, TrialState.PRUNED)
        return
    if news.reply is None:
        return
    error = news.reply.own
    if isinstance(error, InputError | OutOfMemory):  # it diverged, or is too large
        _close(state, here, TrialState.FAIL, note=error.what)
    elif news.reply.failed:
        reason = error.what if error else f"{news.reply.kind}: {news.reply.text}"
        fix = error.fix if error else "check that all machines have this imgclf; the same command goes on"
        raise SetupError(f"a trial could not be run on {_address(here)} ({reason})", fix)
    else:
        given: Done = news.reply.value
        if tune.footprint_of(state.study, here.trial) is None:  # timed here: times of two machines tell nothing
            tune.keep_footprint(state.study, here.trial, measure_file(given.content))
        _close(
            state, here, TrialState.COMPLETE, tune.result(state.study, here.trial, given.kept), seconds=given.seconds
        )


def _give_up(state: _Search, here: _UnderWay) -> None:
    """The machine of a trial went away: its point is tried again, unless that has happened before."""
    point = repr((here.drawn.network.name, here.drawn.settings))
    state.losses[point] += 1
    if state.losses[point] >= LOSSES:
        _close(state, here, TrialState.FAIL, note=f"its machine or process went away {LOSSES} times")
        return
    warn(f"{_address(here)} went away in the middle of a trial, which is tried again")
    del state.under_way[here.trial.number]
    state.exhausted = False
    tune.discard(state.study, here.trial)
    state.study.enqueue_trial(here.trial.params)


def _close(
    state: _Search, here: _UnderWay, ending: TrialState, score: float | None = None, *, note: str = "",
    seconds: float | None = None,
) -> None:  # fmt: skip
    """A trial has come to an end that counts."""
    spent = time.monotonic() - here.start if seconds is None else seconds
    tune.close(state.study, here.trial, ending, {**here.watch.facts(spent), **({"note": note} if note else {})}, score)
    del state.under_way[here.trial.number]
    state.exhausted = False  # what has ended may change what is tried
    state.done = tune.announce(tune.rows(state.study), state.job.trials, state.bar)


def _address(here: _UnderWay) -> str:
    return here.machine.partition(" ")[0]


def run_trial(
    tell: Callable[[Epoch], None], stages: Stages, machine: str, size: int, config: TrainConfig, converts: bool
) -> Done:  # fmt: skip
    """One trial, on the machine that does it.

    Args:
        tell: told of every epoch; what it raises ends the training.
        stages: the images, and a folder of the search.
        machine: its name, after which its part of that folder is called.
        size: of the images, in pixels.
        config: the settings.
        converts: whether the network is wanted as a file.

    Raises:
        InputError, SetupError: as `train`.
    """
    own = Stages(stages.images, stages.folder / machine.rpartition(" ")[2], stages.workers)
    start = time.monotonic()
    try:
        with muted():
            trained = train(own(size), config, watch=tell)
        seconds = time.monotonic() - start
        return Done(tune.kept_epoch(trained), convert(trained.model) if converts else b"", seconds)
    finally:
        keras.utils.clear_session()
