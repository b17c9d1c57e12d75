"""DATA and the settings -> inspected images with parts. May import everything in data/, config, runs and progress.

What `imgclf train` and `imgclf data split` have in common: where images come from, which of them are used, with which
labels, and in which part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgclf import runs
from imgclf.config import TrainConfig
from imgclf.data.announce import announce
from imgclf.data.check import Checkup, examine_set
from imgclf.data.fixes import apply_decided, apply_undecided
from imgclf.data.imageset import ImageSet
from imgclf.data.inspect import inspect, require_trainable, without_empty_classes
from imgclf.data.known import Known
from imgclf.data.similar import find_pairs
from imgclf.data.sources import choose_classes, open_source
from imgclf.data.split import (
    assign_folds,
    assign_parts,
    default_share,
    earlier_parts,
    require_parts,
    with_groups,
    without_leaks,
)
from imgclf.data.split_file import SplitRow, read_rows, write_split
from imgclf.data.suspects import Suspect, read_suspects
from imgclf.errors import InputError
from imgclf.progress import plural, say
from imgclf.storage.places import place


@dataclass(frozen=True)
class Prepared:
    """Images that are ready to be split.

    Attributes:
        checkup: the images, inspected, with corrected labels and groups; and what was found out about them.
        notes: what was done to them, for people.
        fixes: the corrections that were asked for, also those that nobody has decided.
    """

    checkup: Checkup
    notes: tuple[str, ...] = ()
    fixes: tuple[Suspect, ...] = ()


def prepare(data: Path | None, config: TrainConfig) -> Prepared:
    """Read, correct and check the images that the settings ask for.

    Args:
        data: a folder, a table (.csv) or an archive (.zip, .tar); None where the settings name a table.
        config: of which the settings on data are used.

    Returns:
        The images. Nothing of the user's is touched.

    Raises:
        InputError: nothing there that could be trained on, or a setting that does not fit it.
    """
    fixes = read_suspects(Path(config.fixes)) if config.fixes else ()
    images = open_source(data, csv=place(config.csv) if config.csv else None)
    if not fixes:  # otherwise a corrected label decides to which class an image belongs
        images = choose_classes(images, config.classes, config.exclude_classes)
    if config.group_by:
        images = with_groups(images, config.group_by)
    notes = []
    with Known.open() as known:
        images = inspect(images, config.workers, known)
        if fixes:
            fixed = apply_decided(images, fixes)
            images = choose_classes(fixed.images, config.classes, config.exclude_classes)
            notes.append(f"{config.fixes}, as decided: {fixed}")
        pairs = find_pairs(images.usable, known)
        found = examine_set(images, pairs, known)
    trainable = without_empty_classes(images)
    require_trainable(trainable if len(trainable.classes) > 1 else images)  # which says what is unreadable
    return Prepared(replace(found, images=trainable), tuple(notes), fixes)


def with_parts(
    prepared: Prepared, config: TrainConfig, earlier: Sequence[SplitRow] = ()
) -> tuple[ImageSet, tuple[str, ...]]:
    """Give every image its part, as the settings ask; correct the training part where nobody has decided.

    Args:
        prepared: the images.
        config: the shares, the seed, and the split to keep (`split`).
        earlier: rows of a split to keep where the settings name none.

    Returns:
        The images, and what was done to them besides, for people.

    Raises:
        InputError: the split to keep knows none of the images, or no split can be made.
    """
    images, pairs = prepared.checkup.images, prepared.checkup.pairs
    rows = read_rows(split_path(Path(config.split))) if config.split else tuple(earlier)
    known = len(earlier_parts(images, rows))
    if config.split and not known:
        raise InputError(f"{config.split} knows none of the images in {images.root}",
                         "expected the split of the same images")  # fmt: skip
    notes = []
    if rows and (config.split or not images.has_parts):
        more = len(images.usable) - known
        notes.append(f"parts kept from {config.split or 'the earlier run'}: {plural(known, 'image')}, {more} new")
    share = default_share(len(images.usable))
    val, test = config.val_share or share, config.test_share or share
    parted = assign_parts(images, val, test, config.seed, pairs, rows, keep=config.split is not None)
    wanted = {part for part in parted.counts() if part != "train"}
    if config.drop_leaks:
        kept = without_leaks(parted, pairs)
        dropped = len(parted.images) - len(kept.images)
        notes.append(f"left out because a later part holds the same picture: {plural(dropped, 'image')}")
        parted = kept
    if any(not fix.action for fix in prepared.fixes):
        fixed = apply_undecided(parted, prepared.fixes)
        notes.append(f"{config.fixes}, undecided, in the training part: {fixed}")
        parted = fixed.images
    require_parts(parted, wanted)
    return parted, tuple(notes)


NO_PART_TO_SHARE = ("from_run", "split", "drop_leaks", "val_share", "test_share", "teacher")  # settings beside folds


def with_folds(prepared: Prepared, config: TrainConfig) -> tuple[list[ImageSet], ImageSet]:
    """Parts for cross-validation, and for the model that comes after it.

    Args:
        prepared: the images; ready-made parts are not looked at.
        config: of which `folds` and the seed are used.

    Returns:
        A set for each fold; and the one for the final model: what the first fold tests trains, too.

    Raises:
        InputError: a setting that means nothing here, or a class with fewer images than folds.
    """
    assert config.folds is not None
    require_no_parts(config)
    found = prepared.checkup
    images = replace(found.images, has_parts=False)  # those of the folder are not looked at
    folds = assign_folds(images, config.folds, config.seed, found.pairs)
    if any(not fix.action for fix in prepared.fixes):
        raise InputError(f"{config.fixes} has undecided rows, which may only act in a training part",
                         "decide them with `imgclf review`, or train without --folds")  # fmt: skip
    final = folds[0].with_images(
        replace(image, part="train") if image.part == "test" else image for image in folds[0].images
    )
    return folds, final


def require_no_parts(config: TrainConfig) -> None:
    """Check that no setting is given that folds have no use for.

    Raises:
        InputError: one is. A teacher, or a run to go on from, has trained on what a fold is tested on.
    """
    given = next((name for name in NO_PART_TO_SHARE if getattr(config, name)), None)
    if given is not None:
        option = given.removesuffix("_run").replace("_", "-")
        raise InputError(f"--{option} means nothing for --folds", "leave one of the two out")


def write_parts(
    data: Path | None, config: TrainConfig, out: Path, folds: int | None = None
) -> list[tuple[Path, ImageSet]]:
    """Write split.csv, or one for each fold of a cross-validation.

    Args:
        data: as in `prepare`.
        config: of which the settings on data are used.
        out: the file; with folds `split.csv` stands for split-1.csv, split-2.csv, ...
        folds: 3 or more; None for one split.

    Returns:
        What was written: the files and the images with their parts.

    Raises:
        InputError: as `prepare` and `with_parts`; a file is there already.
        SetupError: a file cannot be written.
    """
    names = (
        [out]
        if folds is None
        else [out.with_name(f"{out.stem}-{number}{out.suffix}") for number in range(1, folds + 1)]
    )
    taken = next((path for path in names if path.exists()), None)
    if taken is not None:
        raise InputError(f"{taken} is already there", "name another file with --out")
    if folds is not None:
        require_no_parts(config)
    prepared = prepare(data, config)
    found = prepared.checkup
    if folds is None:
        images, notes = with_parts(prepared, config)
        sets = [images]
    else:
        sets, notes = assign_folds(found.images, folds, config.seed, found.pairs), ()
    announce(sets[0] if folds is None else found.images, found.diagnosis, found.pairs, config.split)
    for line in (*prepared.notes, *notes):
        say(line)
    for path, images in zip(names, sets, strict=True):
        write_split(images, path)
    return list(zip(names, sets, strict=True))


def split_path(path: Path) -> Path:
    """The split.csv that is meant: the file itself, or that of a run folder."""
    return path / runs.SPLIT if path.is_dir() else path
