"""The search: trials of an Optuna study, each a short training. May import TensorFlow, Optuna (the extra `tune`),
training/ and the ground.

The study is an SQLite file, so a search that was killed goes on. What a trial proposes depends on the seed and on the
trials that have ended before it, not on how often the search was interrupted. The test part is never looked at.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import optuna
from optuna.trial import FrozenTrial, TrialState

from imgclf.config import TrainConfig
from imgclf.data.imageset import StagedSet
from imgclf.errors import InputError, OutOfMemory
from imgclf.progress import Bar, duration, muted, plural, say, step
from imgclf.search.footprint import Footprint, measure
from imgclf.search.front import State, TrialRow, score
from imgclf.search.rungs import OutOfTime, Watch
from imgclf.search.space import Draw, Space, draw, first_points, trial_config
from imgclf.training.epoch import Epoch
from imgclf.training.train import Trained, train

STARTUP = 4  # trials before the sampler learns from them; Optuna's 10 are more than many a search has
MOST_FAILURES = 3  # trials that fail in a row before any has succeeded
IMPORTANCE_TRIALS = 6  # finished ones, below which nothing can be said of what mattered

NOT_COUNTED = "not counted"  # marks trials that were killed, or that repeat another
REPEATS = 20  # proposals of what has been tried, after which there is nothing new
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What to search.

    Attributes:
        space: what is varied.
        staged: image size in pixels to the staged images.
        training: number of training images.
        validation: number of validation images.
        trials: how many are to have ended, those of earlier calls included.
        seconds: time for this call; None for no limit.
    """

    space: Space
    staged: Callable[[int], StagedSet]
    training: int
    validation: int
    trials: int
    seconds: float | None = None


def open_study(path: Path) -> optuna.Study:
    """Open the study of a search, or make it.

    Raises:
        InputError: the file is not such a study.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        # A connection instead of a URL, in which some characters of a path would mean something else.
        storage = optuna.storages.RDBStorage(
            "sqlite://", engine_kwargs={"creator": lambda: sqlite3.connect(path, check_same_thread=False)}
        )
        return optuna.create_study(storage=storage, study_name="imgclf", direction="maximize", load_if_exists=True)
    except Exception as error:  # of SQLite, SQLAlchemy or Optuna
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} cannot be read as a search ({reason})",
                         "use --overwrite to start anew, or another --out") from None  # fmt: skip


def search(study: optuna.Study, job: Job) -> None:
    """Run trials until there are enough or the time is over; each is in the study when it ends.

    Raises:
        InputError: one trial after the other fails.
        KeyboardInterrupt: Ctrl-C; the trial that was running is done again by the next call.
    """
    enqueue(study, job.space)
    deadline = None if job.seconds is None else time.monotonic() + job.seconds
    done = len(ended(study))
    with step("searching", max(0, job.trials - done), "trials") as bar:
        while done < job.trials:
            if deadline is not None and time.monotonic() >= deadline and done:
                say(f"the time budget is over after {plural(done, 'trial')}")
                break
            asked = ask(study, job)
            if asked is None:
                say(f"everything has been tried after {plural(done, 'trial')}")
                break
            try:
                _run(study, job, *asked, deadline)
            except OutOfTime:
                say(f"the time budget is over after {plural(done, 'trial')}; the one that was running is not counted")
                break
            done = announce(rows(study), job.trials, bar)


def announce(found: tuple[TrialRow, ...], trials: int, bar: Bar) -> int:
    """Say what the last of the trials gave; how many have ended.

    Raises:
        InputError: all have failed, and they are enough to see that those to come will.
    """
    done = len(found)
    say(f"trial {done} of {trials}: {_told(found[-1])}")
    if found[-1].network in _perfect(found) - _perfect(found[:-1]):
        say(f"the head of {found[-1].network} alone gets every validation image right: it is not fine-tuned")
    bar.note(_best(found))
    bar.update()
    if done >= MOST_FAILURES and all(row.state == "failed" for row in found):
        raise InputError(f"the first {plural(done, 'trial')} failed ({found[-1].note})",
                         "see what `imgclf train` says to the same settings")  # fmt: skip
    return done


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have come to an end, in the order in which they did."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state in STATES and NOT_COUNTED not in
              trial.user_attrs]  # fmt: skip
    return sorted(trials, key=lambda trial: (trial.datetime_complete or trial.datetime_start, trial.number))


def rows(study: optuna.Study) -> tuple[TrialRow, ...]:
    """What the trials that have ended gave."""
    return tuple(_row(number, trial) for number, trial in enumerate(ended(study), start=1))


def importances(study: optuna.Study) -> dict[str, float]:
    """How much of the differences between finished trials each parameter that all of them have explains; sums to 1.

    References:
        F. Hutter, H. Hoos, K. Leyton-Brown, "An efficient approach for assessing hyperparameter importance" (2014).
    """
    done = [trial for trial in ended(study) if trial.state == TrialState.COMPLETE]
    if len(done) < IMPORTANCE_TRIALS:
        return {}
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError):  # all trials are equal, or have no parameter in common
        return {}


def enqueue(study: optuna.Study, space: Space) -> None:
    """Put the first points into a new study, and trials that were killed into an old one once more."""
    trials = study.get_trials(deepcopy=False)
    if not trials:
        for point in first_points(space):
            study.enqueue_trial(point)
    killed = [trial for trial in trials if trial.state == TrialState.RUNNING]
    waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
    if not killed:
        return
    for trial in (*killed, *waiting):
        discard(study, optuna.trial.Trial(study, trial._trial_id))
    for trial in killed:
        study.enqueue_trial(trial.params)
    for trial in waiting:  # behind what was killed: waiting trials are taken in the order of their numbers
        study.enqueue_trial(trial.system_attrs["fixed_params"])


def discard(study: optuna.Study, trial: optuna.Trial) -> None:
    """End a trial that is not to be counted."""
    trial.set_user_attr(NOT_COUNTED, True)
    study.tell(trial, state=TrialState.FAIL)


def ask(study: optuna.Study, job: Job, under_way: Sequence[Draw] = ()) -> tuple[optuna.Trial, Draw] | None:
    """The next trial and its point; None where only points come that have been tried.

    Args:
        study: of the search.
        job: what to search.
        under_way: points that other machines are at; the sampler keeps away from them.
    """
    before = rows(study)
    perfect = _perfect(before)
    tried = [(row.network, row.settings) for row in before]
    tried += [(drawn.network.name, drawn.settings) for drawn in under_way]
    liar: dict[str, Any] = {"constant_liar": True} if under_way else {}
    for attempt in range(REPEATS):
        # The seed depends on how many trials have ended, so that a resumed search is the same search.
        seed = (job.space.base.seed * 100_003 + len(tried) * REPEATS + attempt) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, **liar)
        trial = study.ask()
        drawn = draw(job.space, trial, enough=lambda network: network.name in perfect)
        if (drawn.network.name, drawn.settings) not in tried:
            return trial, drawn
        discard(study, trial)
    return None


def _perfect(found: tuple[TrialRow, ...]) -> set[str]:
    """Networks whose head alone gets every validation image right: what fine-tuning adds could not be seen."""
    return {row.network for row in found if row.state == "done" and row.head_only and row.right == row.n}


def _run(study: optuna.Study, job: Job, trial: optuna.Trial, drawn: Draw, deadline: float | None) -> None:
    """One trial, from its settings to its result."""
    config, size = described(job, trial, drawn)
    before = ended(study)  # there is to be at least one, however long it takes
    watch = Watch(trial, before, config.fine_tune_epochs == 0, deadline if before else None)
    start = time.monotonic()
    state, score_of_it = TrialState.COMPLETE, None
    try:
        with muted():
            trained = train(job.staged(size), config, watch=watch)
        if trained.interrupted:
            raise KeyboardInterrupt
        if footprint_of(study, trial) is None:
            keep_footprint(study, trial, measure(trained.model))
        score_of_it = result(study, trial, kept_epoch(trained))
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (InputError, OutOfMemory) as error:  # it diverged, or is too large
        state = TrialState.FAIL
        trial.set_user_attr("note", error.what)
    finally:
        keras.utils.clear_session()  # also collects the garbage
    close(study, trial, state, watch.facts(time.monotonic() - start), score_of_it)


def described(job: Job, trial: optuna.Trial, drawn: Draw) -> tuple[TrainConfig, int]:
    """Note what a trial is; its settings, and its image size in pixels."""
    config = trial_config(job.space, drawn, job.training)
    size = config.image_size or drawn.network.sizes[-1]
    facts = {"network": drawn.network.name, "settings": drawn.settings, "n": job.validation,
             "parameters": drawn.network.parameters, "image_size": size}  # fmt: skip
    for name, value in facts.items():
        trial.set_user_attr(name, value)
    return config, size


def close(
    study: optuna.Study, trial: optuna.Trial, state: TrialState, facts: dict[str, Any], score_of_it: float | None = None
) -> None:  # fmt: skip
    """End a trial, with what is kept of it."""
    for name, figure in facts.items():
        trial.set_user_attr(name, figure)
    study.tell(trial, score_of_it, state=state)


def kept_epoch(trained: Trained) -> Epoch:
    """The epoch whose weights a training has kept."""
    return next(epoch for epoch in trained.history if epoch.kept)


def _key(trial: optuna.Trial) -> str:
    """What a trial's network costs is known by; its weights change nothing of that."""
    return f"{trial.user_attrs['network']} at {trial.user_attrs['image_size']}"


def footprint_of(study: optuna.Study, trial: optuna.Trial) -> Footprint | None:
    """What the network of a trial costs; None where that has not been measured."""
    known: dict[str, Any] = study.user_attrs.get("footprints", {})
    return Footprint(*known[_key(trial)]) if _key(trial) in known else None


def keep_footprint(study: optuna.Study, trial: optuna.Trial, found: Footprint) -> None:
    """Note what the network of a trial costs."""
    known = study.user_attrs.get("footprints", {})
    study.set_user_attr("footprints", {**known, _key(trial): [found.megabytes, found.milliseconds]})


def result(study: optuna.Study, trial: optuna.Trial, kept: Epoch) -> float:
    """Note what the network of a finished training costs; the score of the epoch that it has kept."""
    footprint = footprint_of(study, trial)
    assert footprint is not None
    trial.set_user_attr("megabytes", footprint.megabytes)
    trial.set_user_attr("milliseconds", footprint.milliseconds)
    return score(kept.val["accuracy"], kept.val["loss"], trial.user_attrs["n"])


def _row(number: int, trial: FrozenTrial) -> TrialRow:
    facts = trial.user_attrs
    return TrialRow(
        number=number,
        state=STATES[trial.state],
        network=facts["network"],
        settings=facts["settings"],
        right=facts.get("right", 0),
        n=facts["n"],
        loss=facts.get("loss"),
        megabytes=facts.get("megabytes"),
        milliseconds=facts.get("milliseconds"),
        seconds=facts.get("seconds", 0.0),
        epochs=facts.get("epochs", 0),
        note=facts.get("note", ""),
    )


def _told(row: TrialRow) -> str:
    what = {"done": f"{row.accuracy:.3f}", "pruned": f"ended early at {row.accuracy:.3f}", "failed": "failed"}[
        row.state
    ]
    note = f" ({row.note})" if row.note else ""
    return f"{what}{note}, {row}, {duration(row.seconds)}"


def _best(found: tuple[TrialRow, ...]) -> str:
    best = max((row for row in found if row.state == "done"), key=lambda row: row.score, default=None)
    return "" if best is None else f"best {best.accuracy:.3f}, trial {best.number}"
