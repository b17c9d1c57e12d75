"""A search from folder to winner: the run folder of a search, what may go on, its tables and page, the last training.
May import the pipeline and everything below it; Optuna (the extra `tune`) and TensorFlow come in when they are needed.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from imgclf import __version__, runs
from imgclf.config import NOT_SEARCHED, TrainConfig
from imgclf.continuing import read_settings
from imgclf.data.announce import announce, data_notes
from imgclf.data.imageset import ImageSet
from imgclf.data.prepare import prepare, with_parts
from imgclf.data.split_file import write_split
from imgclf.errors import ImgclfError, InputError, Interrupted, SetupError
from imgclf.guard import require_apart, require_kept, require_outside
from imgclf.models import backbones
from imgclf.noise import import_tensorflow
from imgclf.one_run import Outcome
from imgclf.pipeline import train_folder
from imgclf.progress import plural, say, step
from imgclf.records import fingerprint, versions
from imgclf.search.front import Choice, TrialRow, choose_winner, pareto_front
from imgclf.search.space import Space, candidates
from imgclf.search.stages import Stages
from imgclf.workers.parallel import elsewhere_now

PREFERENCES = ("accuracy", "size", "latency")
KIND = "tune"  # in state.json: what tells a search from a training
STUDY, TRIALS, PAGE = "study.db", "trials.csv", "tune.html"
NEUTRAL = ("workers", "formats")  # settings that change no trial
BEST = "best"


@dataclass(frozen=True)
class Options:
    """What a search is asked beside the settings.

    Attributes:
        trials: how many are to have ended, those of earlier calls included.
        seconds: time for the trials of this call; None for no limit.
        prefer: "accuracy", "size" or "latency".
        train_winner: whether the winner is trained in full.
        overwrite: begin anew where an earlier search is.
        resume: also go on with a search that was finished.
    """

    trials: int = 20
    seconds: float | None = None
    prefer: str = "accuracy"
    train_winner: bool = True
    overwrite: bool = False
    resume: bool = False


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        run: its folder.
        rows: all trials that have ended.
        front: those that no other beats in accuracy, size and time at once, the most accurate first.
        choice: the winner.
        outcome: of the training of the winner; None where there was none, or an earlier call has done it.
    """

    run: runs.Run
    rows: tuple[TrialRow, ...]
    front: tuple[TrialRow, ...]
    choice: Choice
    outcome: Outcome | None

    @property
    def best(self) -> runs.Run:
        """The run folder of the winner."""
        return runs.Run(self.run / BEST)


def default_folder(name: str, parent: Path = Path("runs"), *, finished: bool = False) -> Path:
    """The first of runs/NAME-tune, runs/NAME-tune-2, ... that is free, or a search to go on with.

    Args:
        name: of the images.
        parent: where the folder is to be.
        finished: whether a search that was finished is such a one too.
    """
    number = 1
    while True:
        root = parent / (f"{name}-tune" if number == 1 else f"{name}-tune-{number}")
        if not root.exists() or _is_search(root, finished):
            return root
        number += 1


def tune_folder(
    data: Path | None, out: Path, config: TrainConfig, options: Options = Options(), command: str = ""
) -> Tuned:
    """Search the settings that suit a folder of labelled images, and train with the best of them.

    Args:
        data: the images, as for `train_folder`.
        out: the run folder of the search: a new one, or one that was interrupted.
        config: the settings; what is given is not searched.
        options: how long, and what to prefer.
        command: what the user typed, for the record.

    Raises:
        InputError: something is wrong with the images or a setting, or `out` holds another search.
        SetupError: Optuna is missing, the disk is full.
        Interrupted: Ctrl-C; the same command goes on.
    """
    if find_spec("optuna") is None:
        raise SetupError("imgclf tune needs Optuna, which is not installed", "pip install 'imgclf[tune]'")
    for name in NOT_SEARCHED:
        if getattr(config, name) != getattr(TrainConfig(), name):
            option = name.removesuffix("_run").replace("_", "-")
            raise InputError(f"--{option} means nothing for a search", "use it in `imgclf train` with the winner")
    if options.prefer not in PREFERENCES:
        raise InputError(f"--prefer is {options.prefer!r}", f"expected one of {', '.join(PREFERENCES)}")
    goes_on = _may_begin(out, options)
    if options.overwrite and out.exists():
        require_kept(out, data, config.csv, config.fixes, config.split, *sorted(out.glob("*.csv")))
        for what, path in (("the weights to start from", config.weights), ("the teacher", config.teacher)):
            if path is not None and Path(path).exists():
                require_outside(out, what, Path(path))
    parted = config.replace(split=out / runs.SPLIT) if goes_on and (out / runs.SPLIT).is_file() else config
    if data is not None and data.is_dir():
        require_apart(ImageSet(data, (), ()), out, options.overwrite)  # before the images are read
    prepared = prepare(data, config)
    require_apart(prepared.checkup.images, out, options.overwrite)
    images, _ = with_parts(prepared, parted)
    announce(images, prepared.checkup.diagnosis, prepared.checkup.pairs, config.split)
    space = candidates(images, config)
    for network in space.networks:
        backbones.check_size(network.row, network.sizes[-1])
    if not space.axes:
        raise InputError(
            "every setting is given, so there is nothing to search", "leave some out, or use `imgclf train`"
        )
    for line in (*space.notes, f"searching {_described(space)}"):
        say(line)
    import_tensorflow()
    _require_weights(space)
    record = _record(images, space, command)
    if goes_on:
        run = runs.Run.open(out)
        _require_same(run, record)
    else:
        run = runs.Run.create(out, options.overwrite)
        run.set_state("running", kind=KIND, stage="start")
    with run.lock(), _guarded(run):
        if not (run / runs.CONFIG).is_file():
            write_split(images, run / runs.SPLIT)
            runs.write_classes(run / runs.CLASSES, images.classes)
            runs.write_json(run / runs.CONFIG, record)
        rows, importances = _search(run, images, space, options)
        choice = choose_winner(rows, options.prefer)
        if choice is None:
            raise InputError(f"none of {plural(len(rows), 'trial')} came to its end", "allow more --trials or time")
        _write_tables(run, images, space, rows, choice, importances, command)
        outcome = _train_winner(run, data, config, choice, command) if options.train_winner else None
        run.set_state("done", kind=KIND, trials=len(rows), winner=choice.winner.number)
    return Tuned(run, rows, pareto_front(rows), choice, outcome)


def _is_search(root: Path, finished: bool) -> bool:
    """Whether a folder holds a search; only one that was not finished, unless `finished`."""
    try:
        state = runs.Run.open(root).state
    except ImgclfError:
        return False
    return state.get("kind") == KIND and (finished or state.get("state") != "done")


def _may_begin(out: Path, options: Options) -> bool:
    """Whether the search at `out` goes on; False where it is a new one."""
    is_search = _is_search(out, finished=True)
    if options.resume and not is_search:
        raise InputError(
            f"there is no search to go on with in {out}", "leave --resume out, or name its folder with --out"
        )
    if is_search and not options.overwrite:
        if not _is_search(out, options.resume):
            raise InputError(f"the search in {out} is finished",
                             "use --resume for more --trials, --overwrite to begin anew, or another --out")  # fmt: skip
        return True
    runs.require_free(out, options.overwrite)
    return False


def _described(space: Space) -> str:
    """What is searched, in a line."""
    networks = ", ".join(network.name for network in space.networks)
    others = [axis.title for axis in space.axes if axis.name != "network"]
    return " and ".join(part for part in (networks, ", ".join(others)) if part)


def _require_weights(space: Space) -> None:
    """Fetch what is missing before any work."""
    from imgclf.models.weights import resolve_weights

    for network in space.networks:
        size = network.sizes[-1]
        resolve_weights(space.base.weights, network.row, network.alpha, (size, size))


def _record(images: ImageSet, space: Space, command: str) -> dict[str, Any]:
    """config.json of a search."""
    return {
        "schema": runs.SCHEMA,
        "imgclf": __version__,
        "created": runs.timestamp(),
        "command": command,
        "settings": space.given.to_json(),
        "searched": space.to_json(),
        "data": {"folder": str(images.root.resolve()), "fingerprint": fingerprint(images), "notes": data_notes(images)},
        "versions": versions(),
    }


def _require_same(run: runs.Run, record: dict[str, Any]) -> None:
    """Check that trials of an earlier call and those to come can be compared."""
    if not (run / runs.CONFIG).is_file():
        return
    earlier = runs.read_json(run / runs.CONFIG)
    fix = "use --overwrite to begin anew, or another --out"
    changed = [name for name, value in record["settings"].items()
               if name not in NEUTRAL and earlier["settings"].get(name) != value]  # fmt: skip
    if changed:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise InputError(f"the search in {run.root} was begun with other settings ({options})", fix)
    if earlier["data"]["fingerprint"] != record["data"]["fingerprint"]:
        raise InputError(f"the images are not those that the search in {run.root} was begun with", fix)
    if earlier["searched"] != record["searched"]:
        raise InputError(f"other networks can be searched than when {run.root} was begun (weights came or went)", fix)


@contextmanager
def _guarded(run: runs.Run) -> Iterator[None]:
    """Say how to go on; leave nothing where there is nothing to go on with."""
    again = "the same command goes on"
    try:
        yield
    except KeyboardInterrupt:
        run.set_state("interrupted", kind=KIND)
        raise Interrupted("interrupted", f"the trials that have ended are in {run / STUDY}; {again}") from None
    except Interrupted as stop:
        run.set_state("interrupted", kind=KIND)
        raise Interrupted(f"{stop.what} while the winner was trained", f"the search is kept: {again}") from None
    except ImgclfError:
        if (run / STUDY).is_file():
            run.set_state("failed", kind=KIND)
        else:
            shutil.rmtree(run.root, ignore_errors=True)
        raise
    except BaseException:
        run.set_state("failed", kind=KIND)
        raise


def _search(
    run: runs.Run, images: ImageSet, space: Space, options: Options
) -> tuple[tuple[TrialRow, ...], dict[str, float]]:
    from imgclf.search import elsewhere, tune

    run.set_state("running", kind=KIND, stage="search")
    study = tune.open_study(run / STUDY)
    earlier = len(tune.ended(study))
    if earlier:
        say(f"going on after {plural(earlier, 'trial')}")
    stages = Stages(images, run / runs.STAGE, space.base.workers)
    job = tune.Job(
        space=space,
        staged=stages,
        training=len(images.part("train")),
        validation=len(images.part("val")),
        trials=options.trials,
        seconds=options.seconds,
    )
    machines = elsewhere_now()
    if machines is None:
        tune.search(study, job)
    else:
        elsewhere.search(study, job, stages, machines)
    shutil.rmtree(run / runs.STAGE, ignore_errors=True)
    return tune.rows(study), tune.importances(study)


def _write_tables(
    run: runs.Run, images: ImageSet, space: Space, rows: tuple[TrialRow, ...], choice: Choice,
    importances: dict[str, float], command: str,
) -> None:  # fmt: skip
    from imgclf.report.tune_page import TuneFacts, write_trials, write_tune_page

    write_trials(rows, run / TRIALS)
    with step("writing the page", 1, "page") as bar:
        write_tune_page(TuneFacts(
            title=images.root.name, created=runs.timestamp(), command=command, classes=images.classes,
            data_notes=tuple(data_notes(images)), searched=space.to_json(), given=_given(space), rows=rows,
            front=pareto_front(rows), choice=choice, importances=importances,
        ), run / PAGE)  # fmt: skip
        bar.update()


def _given(space: Space) -> dict[str, str]:
    settings = space.given.to_json()
    return {name: str(settings[name]) for name in settings if space.is_fixed(name)}


def _train_winner(
    run: runs.Run, data: Path | None, config: TrainConfig, choice: Choice, command: str
) -> Outcome | None:
    """Train with the winner's settings on the same parts; None where an earlier call has done it."""
    wanted = config.replace(**choice.winner.settings, split=run.root.resolve() / runs.SPLIT)
    best = run / BEST
    if (best / runs.STATE).is_file() and runs.Run.open(best).state["state"] == "done":
        done = read_settings(best)
        if all(done.get(name) == value for name, value in choice.winner.settings.items()):
            say(f"trial {choice.winner.number} has been trained in full already: {best}")
            return None
    run.set_state("running", kind=KIND, stage="winner")
    say(f"training with the settings of trial {choice.winner.number}: {choice.winner}")
    return train_folder(data, best, wanted, overwrite=best.exists(), command=command)
