"""Groups of images: Fisher's test against SciPy, Holm's correction by hand, planted weaknesses, real pictures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import fisher_exact

from imgclf.data.imageset import ImageFile
from imgclf.evaluation import evaluate as module
from imgclf.evaluation.evaluate import properties_of
from imgclf.evaluation.slices import NO_FOLDER, Properties, find_slices, holm, worse_by_chance

UNKNOWN = float("nan")


def alike(n: int) -> Properties:
    """Images that differ in nothing that is known."""
    return Properties(np.full(n, 100.0), np.ones(n), np.full(n, UNKNOWN), [None] * n, [""] * n)


@pytest.mark.parametrize(
    ("inside", "n", "hits", "total"),
    [(3, 10, 80, 100), (10, 10, 80, 100), (0, 10, 5, 100), (0, 5, 0, 20), (5, 5, 20, 20), (180, 250, 9000, 10000)],
)
def test_fisher_equals_scipy(inside: int, n: int, hits: int, total: int) -> None:
    table = [[inside, n - inside], [hits - inside, total - n - (hits - inside)]]
    assert worse_by_chance(inside, n, hits, total) == pytest.approx(fisher_exact(table, alternative="less").pvalue)


def test_holm_by_hand() -> None:
    # sorted 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.9 x 1; none below the one before
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert holm([]) == []


def test_a_folder_that_is_worse_is_found() -> None:
    folders = ["studio"] * 100 + ["street/night"] * 20 + [""] * 30
    right = np.ones(150, bool)
    right[:5] = right[100:110] = False  # 95 of 100, 10 of 20, 30 of 30
    found = find_slices(right, replace(alike(150), folder=folders))
    assert [(each.group, each.n, each.right, each.weak) for each in found] == [
        ("street/night", 20, 10, True), ("studio", 100, 95, False), (NO_FOLDER, 30, 30, False),
    ]  # fmt: skip
    worst = found[0]
    assert (worst.property, worst.accuracy, worst.rest) == ("folder", 0.5, 125 / 130)
    assert worst.p == pytest.approx(3 * fisher_exact([[10, 10], [125, 5]], alternative="less").pvalue)
    assert (worst.accuracy_low, worst.accuracy_high) == pytest.approx((0.2993, 0.7007), abs=1e-4)  # Wilson, 10 of 20
    assert str(worst).startswith("weak: folder street/night: accuracy 0.500 (10 of 20; 95 % interval 0.299 to 0.701)")
    assert json.loads(json.dumps([each.to_json() for each in found]))[0]["weak"] is True


def test_grey_dark_small_and_wide_images_are_groups() -> None:
    n = 400
    grey, dark = np.arange(n) % 2 == 0, np.arange(n) < 40
    pixels = np.where(np.arange(n) < 360, 100.0, 400.0)
    aspect = np.where(np.arange(n) < 100, 3.0, 1.0)
    known = Properties(pixels, aspect, np.where(dark, 0.05, 0.5), grey.tolist(), [""] * n)
    found = {(each.property, each.group): each for each in find_slices(~dark, known)}
    assert {key: each.n for key, each in found.items()} == {
        ("size", "100 pixels"): 360, ("size", "400 pixels"): 40, ("brightness", "0.050"): 40,
        ("brightness", "0.500"): 360, ("shape", "wide, from 2:1"): 100, ("shape", "about square"): 300,
        ("colour", "grey"): 200, ("colour", "coloured"): 200,
    }  # fmt: skip
    assert [key for key, each in found.items() if each.weak] == [
        ("brightness", "0.050"), ("shape", "wide, from 2:1"),
    ]  # fmt: skip


def test_edges_of_shapes_and_of_quantiles() -> None:
    aspects = [0.49, 0.5, 0.89, 0.9, 1.11, 1.12, 1.99, 2.0]
    known = replace(alike(160), pixels=np.arange(1, 161.0), aspect=np.repeat(aspects, 20))
    found = {each.group: each.n for each in find_slices(np.arange(160) % 2 == 0, known)}
    assert found == {
        "tall, below 1:2": 20, "upright": 40, "about square": 40, "lying": 40, "wide, from 2:1": 20,
        "1 to 54 pixels": 54, "55 to 107 pixels": 53, "108 to 160 pixels": 53,
    }  # fmt: skip


def test_few_images_are_no_group_and_unknown_ones_are_left_out() -> None:
    folders = ["a"] * 9 + ["b"] * 30 + [None] * 30 + ["c"] * 10
    right = np.arange(79) % 3 > 0
    found = find_slices(right, replace(alike(79), folder=folders))
    assert {each.group for each in found} == {"b", "c"}
    (c,) = (each for each in found if each.group == "c")
    assert c.rest == right[:39].mean()


@pytest.mark.parametrize("right", [np.ones(50, bool), np.zeros(50, bool), np.ones(1, bool), np.ones(0, bool)])
def test_nothing_is_weak_where_all_is_the_same(right: np.ndarray) -> None:
    n = len(right)
    known = replace(alike(n), brightness=np.linspace(0, 1, n), grey=[index % 2 == 0 for index in range(n)])
    found = find_slices(right, known)
    assert not any(each.weak for each in found)
    assert bool(found) == (n == 50)
    assert all(each.p == 1 for each in found)


def test_chance_alone_is_seldom_called_weak() -> None:
    random = np.random.default_rng(6)
    alarms = 0
    for _ in range(200):
        known = Properties(
            random.uniform(1, 9, 300),
            random.uniform(0.4, 2.5, 300),
            random.uniform(size=300),
            (random.uniform(size=300) < 0.3).tolist(),
            random.choice(list("abcdefgh"), 300).tolist(),
        )
        alarms += any(each.weak for each in find_slices(random.uniform(size=300) < 0.9, known))
    assert alarms <= 17  # 5 % of 200 are 10; 17 is exceeded by chance once in 100 times


def picture(path: Path, size: tuple[int, int], colour: tuple[int, int, int], label: str = "") -> ImageFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return ImageFile(path, label or path.parts[len(path.parts) - 2])


def test_properties_of_pictures(tmp_path: Path) -> None:
    images = (
        picture(tmp_path / "test/hat/1.png", (40, 20), (255, 255, 255), "hat"),
        picture(tmp_path / "test/hat/<b>&/in/2.png", (10, 30), (0, 0, 0), "hat"),
        picture(tmp_path / "test/shoe/<b>&/3.png", (8, 8), (255, 0, 0), "shoe"),
        picture(tmp_path / "elsewhere/4.png", (8, 8), (255, 0, 0), "shoe"),
    )
    known = properties_of(images)
    assert known.pixels.tolist() == [800, 300, 64, 64]
    assert known.aspect.tolist() == pytest.approx([2, 1 / 3, 1, 1])
    assert known.brightness.tolist() == pytest.approx([1, 0, 0.241**0.5, 0.241**0.5], abs=1e-3)
    assert known.grey == [True, True, False, False]
    assert known.folder == ("", "<b>&/in", "<b>&", "elsewhere")


def test_the_images_of_one_class_have_their_folders_too(tmp_path: Path) -> None:
    images = [picture(tmp_path / f"hat/deep/{name}/1.png", (8, 8), (9, 9, 9), "hat") for name in "ab"]
    assert properties_of(images).folder == ("deep/a", "deep/b")
    assert properties_of(images[:1]).folder == ("deep/a",)
    assert properties_of([picture(tmp_path / "hat/1.png", (8, 8), (9, 9, 9), "hat")]).folder == ("",)


def test_what_is_known_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = tuple(picture(tmp_path / f"hat/{number}.png", (8, 8), (9, 9, 9), "hat") for number in range(2))
    first = properties_of(images)
    asked = []
    monkeypatch.setattr(
        "imgclf.workers.parallel.each_item", lambda function, items, **_: asked.extend(items) or iter(())
    )
    assert properties_of(images).pixels.tolist() == first.pixels.tolist()
    assert asked == []
    inspected = module.inspect(module.ImageSet(tmp_path, ("hat",), images)).images
    monkeypatch.setattr(module, "inspect", lambda images: pytest.fail("inspected again"))
    assert properties_of(inspected).brightness.tolist() == first.brightness.tolist()


def test_an_image_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    good = picture(tmp_path / "hat/1.png", (8, 8), (9, 9, 9), "hat")
    (tmp_path / "hat/2.png").write_bytes(b"no image")
    known = properties_of((good, ImageFile(tmp_path / "hat/2.png", "hat")))
    assert known.grey == [True, None]
    assert np.isnan(known.pixels).tolist() == np.isnan(known.aspect).tolist() == [False, True]
