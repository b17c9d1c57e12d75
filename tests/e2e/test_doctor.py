"""The dataset doctor on what people have: odd and broken files, copies, leaks, shortcuts. Prints its figures."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from imgclf.data.check import check
from imgclf.data.imageset import ImageSet
from imgclf.data.scan import scan
from imgclf.data.split import assign_parts, leaks
from imgclf.data.split_file import read_rows, write_split
from tests.conftest import imgclf_here
from tests.data.defects import fingerprint, make_defects
from tests.data.drawing import save, texture
from tests.pictures import FORMATS, copy_of, encoded, mutated

MEASURE = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
    "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(done.returncode)"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known from earlier tests."""
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path_factory.mktemp("cache")))


def check_measured(folder: Path) -> tuple[dict[str, object], float]:
    """`imgclf check FOLDER --format json` in a process of its own, and the memory of the largest process in GB."""
    command = [sys.executable, "-m", "imgclf", "check", str(folder), "--format", "json"]
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert not [line for line in lines if "Traceback" in line]
    found: dict[str, object] = json.loads(done.stdout)
    return found, int(next(line for line in lines if line.startswith("peak")).split()[1]) / 1e6


def outcomes(found: dict[str, object]) -> Counter[str]:
    """How many files each kind of finding names."""
    return Counter({finding["kind"]: finding["files"] for finding in found["findings"]})  # type: ignore[attr-defined]


@pytest.mark.shared
@pytest.mark.slow
def test_every_odd_file_is_decoded_or_named(shared: Path, tmp_path: Path) -> None:
    files = sorted(path for path in (shared / "data" / "odd_images").rglob("*") if path.is_file())
    for number, file in enumerate(files):
        link = tmp_path / "photos" / ("one", "other")[number % 2] / f"{number:03}-{file.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, link)
    found, peak = check_measured(tmp_path / "photos")
    named = outcomes(found)
    unusable = named["unreadable"] + named["unsupported"] + named["ignored"]
    print(f"\nodd images: {len(files)} files, {found['images']} decoded, {dict(named)}, largest process {peak:.2f} GB")
    assert found["images"] + unusable == len(files)  # type: ignore[operator]
    assert peak < 2


@pytest.mark.slow
def test_two_thousand_mutations_are_decoded_or_named(tmp_path: Path) -> None:
    rng = random.Random(20)
    whole = [(ending, encoded(Image.fromarray(texture(seed)), ending)) for seed, ending in enumerate(FORMATS)]
    for number in range(2000):
        ending, data = whole[number % len(whole)]
        path = tmp_path / "photos" / ("one", "other")[number % 2] / f"{number:04}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutated(data, rng))
    found, peak = check_measured(tmp_path / "photos")
    named = outcomes(found)
    print(f"\nmutations: {found['images']} decoded, {named['unreadable']} unreadable, largest process {peak:.2f} GB")
    assert found["images"] + named["unreadable"] + named["ignored"] == 2000  # type: ignore[operator]
    assert named["unreadable"] > 100
    assert peak < 2


def fill_with_copies(folder: Path, classes: int = 5, size: int = 100) -> dict[str, str]:
    """`size` pictures a class, of which a fifth are exact or near copies of others; file name to original."""
    origin = {}
    for label in range(classes):
        names = []
        for number in range(size):
            name = f"class{label}/{number:03}"
            if number < size * 4 // 5:
                path = save(texture(1000 * label + number), folder / f"{name}.png")
                origin[path.name] = origin.get(path.name, "")
                names.append(path)
                continue
            source = names[(number * 7) % len(names)]
            kind = number % 4
            if kind == 3:
                (folder / f"{name}.png").write_bytes(source.read_bytes())
            else:
                save(np.asarray(copy_of(Image.open(source).convert("RGB"), kind)), folder / f"{name}.png")
            origin[f"{name}.png"] = source.relative_to(folder).as_posix()
    return {name: source for name, source in origin.items() if source}


def part_of(images: ImageSet) -> dict[str, str]:
    return {image.key: image.part for image in images.usable}


@pytest.mark.slow
def test_no_copy_crosses_the_split_and_new_images_move_no_old_one(tmp_path: Path) -> None:
    origin = fill_with_copies(tmp_path / "photos")
    found = check(scan(tmp_path / "photos"))
    split = assign_parts(found.images, pairs=found.pairs)
    where = {split.name_of(image): image.part for image in split.usable}
    torn = [(name, source) for name, source in origin.items() if where[name] != where[source]]
    counts = split.counts()
    print(f"\nsplit: {len(origin)} copies, {len(torn)} across parts, {counts}")
    assert torn == []
    assert leaks(split, found.pairs) == []
    for part, share in (("val", 15), ("test", 15), ("train", 70)):
        assert all(abs(number - share) <= 1 for number in counts[part].values()), counts

    for number, path in enumerate(sorted((tmp_path / "photos").rglob("*.png"))):
        path.rename(path.with_name(f"renamed {number * 37 % 1000} {number}.png"))
    again = check(scan(tmp_path / "photos"))
    renamed = assign_parts(again.images, pairs=again.pairs)
    assert part_of(renamed) == part_of(split)

    write_split(renamed, tmp_path / "split.csv")
    for label in range(5):
        for number in range(10):
            save(texture(90_000 + 1000 * label + number), tmp_path / f"photos/class{label}/new{number}.png")
    more = check(scan(tmp_path / "photos"))
    grown = assign_parts(more.images, pairs=more.pairs, earlier=read_rows(tmp_path / "split.csv"))
    old = part_of(split)
    assert {key: part for key, part in part_of(grown).items() if key in old} == old
    for part, share in (("val", 16.5), ("test", 16.5), ("train", 77)):
        assert all(abs(number - share) <= 1.5 for number in grown.counts()[part].values()), grown.counts()


@pytest.mark.shared
@pytest.mark.slow
def test_planted_copies_of_photos_are_found_and_few_others(shared: Path, tmp_path: Path) -> None:
    photos = sorted((shared / "data" / "clothing").rglob("*.jpg"))
    folder = tmp_path / "clothing"
    for photo in photos:
        link = folder / photo.parent.name / photo.name
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(photo, link)
    planted = {}
    for number, photo in enumerate(random.Random(4).sample(photos, 100)):
        copy = copy_of(Image.open(photo).convert("RGB"), number)
        path = folder / photo.parent.name / f"planted{number:03}.jpg"
        save(np.asarray(copy), path, quality=60 if number % 3 == 0 else 92)
        planted[path] = folder / photo.parent.name / photo.name
    found = check(scan(folder)).diagnosis
    kinds = ("near-duplicates", "duplicates", "near-across-classes", "contradictory-labels")
    groups = [set(item.paths) for finding in found.findings if finding.kind in kinds for item in finding.items]
    hits = sum(any({copy, source} <= group for group in groups) for copy, source in planted.items())
    others = set().union(*groups) - set(planted) - set(planted.values())
    print(f"\nplanted: {hits} of 100 found, {len(others)} other files of {len(photos)} reported")
    assert hits >= 95
    assert len(others) < 0.005 * len(photos)


@pytest.mark.shared
@pytest.mark.slow
def test_a_class_in_the_dark_is_a_shortcut_and_without_it_there_is_none(shared: Path, tmp_path: Path) -> None:
    for photo in sorted((shared / "data" / "clothing" / "train").rglob("*.jpg"))[::4]:
        for kind in ("dark", "plain"):
            path = tmp_path / kind / photo.parent.name / photo.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "dark" and photo.parent.name == "hat":
                ImageEnhance.Brightness(Image.open(photo)).enhance(0.4).save(path, quality=92)
            else:
                os.link(photo, path)
    dark, plain = check(scan(tmp_path / "dark")), check(scan(tmp_path / "plain"))
    found = dark.diagnosis.of("shortcuts")
    assert found is not None
    print("\nshortcuts:", [f"{item.label}: {item.note}" for item in found.items])
    assert {item.label for item in found.items} == {"hat"}
    assert any(item.note.startswith("brightness") for item in found.items)
    assert plain.diagnosis.of("shortcuts") is None


@pytest.mark.slow
def test_training_on_a_folder_with_one_of_each_defect_runs_and_touches_nothing(tmp_path: Path) -> None:
    root = make_defects(tmp_path / "photos")
    before = fingerprint(root)
    done = imgclf_here("train", root, "--out", tmp_path / "r", "--backbone", "cnn_small", "--image-size", "32",
                       "--epochs", "1", "--formats", "")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert fingerprint(root) == before
    assert "unread" not in (tmp_path / "r/classes.txt").read_text().split()
    for name in ("broken.jpg", "empty.png", "truncated.png", "page.jpg"):
        assert sum(name in line for line in done.stderr.splitlines() if line.startswith("warning: ")) == 1, name
    assert "The same picture in several classes" in done.stderr


def test_a_group_of_the_users_stays_together(tmp_path: Path) -> None:
    from imgclf.data.split import with_groups

    for number in range(60):
        save(texture(number, 40), tmp_path / f"{'ab'[number % 2]}/patient{number // 6}_{number}.png")
    found = check(scan(tmp_path))
    split = assign_parts(with_groups(found.images, r"(patient\d+)_"), pairs=found.pairs)
    parts: dict[str, set[str]] = {}
    for image in split.usable:
        parts.setdefault(image.group, set()).add(image.part)
    assert len(parts) == 10 and all(len(part) == 1 for part in parts.values())
    assert all(replace(image).part for image in split.usable)
