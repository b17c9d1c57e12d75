"""What the end of a training leaves for the report: groups of images, heat maps, varied images, a learning curve."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgclf import runs
from imgclf.config import TrainConfig
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.evaluation.evaluate import Evaluation
from imgclf.evaluation.metrics import compute as compute_metrics
from imgclf.evaluation.slices import Slice
from imgclf.report import extras, heat
from imgclf.report.advice import advise
from imgclf.report.card import render_card
from imgclf.report.collect import answered, collect, rebuild
from imgclf.report.facts import Answered, ReportFacts, Samples, worst_of
from imgclf.report.kept import SAMPLES, SLICES, read_heat, read_learning, read_samples, read_slices
from imgclf.report.learning_curve import LearningCurve
from imgclf.report.page import MAX_SLICES, render
from imgclf.report.sureness import Share, Sureness
from imgclf.training.session import HeadFeatures
from tests.browser import Browser, needs_chromium
from tests.report.pages import HOSTILE, Page
from tests.report.test_page import facts_of, mistakes_in


def group(name: str, weak: bool = False, p: float = 1.0) -> Slice:
    return Slice("folder", name, 20, 10, 0.5, 0.3, 0.7, 0.9, p, weak)


def text_of(facts: ReportFacts) -> str:
    return Page(render(facts)).text


def photo(path: Path, size: tuple[int, int] = (80, 60)) -> Path:
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def network(side: int = 32, classes: int = 2) -> object:
    import keras

    keras.utils.set_random_seed(1)
    images = keras.Input((side, side, 3))
    maps = keras.layers.Conv2D(4, 3, strides=2)(images)
    features = keras.layers.GlobalAveragePooling2D()(maps)
    return keras.Model(images, keras.layers.Dense(classes, activation="softmax", name="scores")(features))


def test_weak_groups_are_marked_come_first_and_become_advice() -> None:
    facts = facts_of(("cat", "dog"), slices=(group("dusk", True, 0.001), group("noon")))
    source = render(facts)
    assert source.count('class="weak"') == source.count(">weak<") == 1
    shown = Page(source).text
    assert "1 group is weak" in shown and "corrected for 2 groups tried" in shown
    assert "folder dusk weak 20 50.0 % 30 to 70 % 90.0 % 0.001" in shown.replace("0.0010", "0.001")
    said = next(each for each in advise(facts) if each.title == "Add images of the weak group")
    text = "".join(said.text).replace("\u00a0", " ")
    assert "Of 20 test images with folder dusk 10 were right (50.0 %, 95 % interval 30.0 to 70.0 %), elsewhere" in text
    assert "folder dusk: 50.0 % of 20 images (95 % interval 30.0 % to 70.0 %)" in render_card(facts)
    none = replace(facts, slices=(group("noon"),))
    assert "None of them is worse" in text_of(none) and "Add images" not in text_of(none)
    assert "None of them is worse" not in text_of(replace(facts, slices=()))


def test_thousands_of_groups_stay_readable() -> None:
    facts = facts_of(("cat", "dog"), slices=tuple(group(f"folder {at}") for at in range(5000)))
    assert f"{5000 - MAX_SLICES:,} groups, none of them weak, are only in slices.json" in text_of(facts)
    assert len(render(facts)) < 200_000


def test_heat_maps_are_of_the_worst_mistakes_and_of_what_was_said(tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{at}.png") for at in range(heat.MOST + 2)]
    wrong = [Answered(path, path.name, "cat", "dog", 0.9 - at / 100, 0.1) for at, path in enumerate(paths)]
    gone = replace(wrong[0], path=tmp_path / "gone.png")
    drawn = heat.draw_heat(network(), ("cat", "dog"), [gone, *wrong[1:]], tmp_path / "heat")
    assert drawn == heat.MOST - 1, "one cannot be read, and after the eighth there are no more"
    index = json.loads((tmp_path / "heat" / "heat.json").read_text())
    assert [row[1:] for row in index] == [[f"{at}.png", "dog"] for at in range(1, heat.MOST)]
    with Image.open(tmp_path / "heat" / index[0][0]) as picture:
        assert picture.format == "JPEG" and max(picture.size) <= heat.SIDE
        assert picture.width / picture.height == pytest.approx(80 / 60, abs=0.02)
    assert sum(path.stat().st_size for path in (tmp_path / "heat").iterdir()) < 8 * 40_000, "noise is the worst case"


def test_a_slow_network_draws_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heat, "SECONDS", -1.0)
    wrong = [Answered(photo(tmp_path / "a.png"), "a.png", "cat", "dog", 0.9, 0.1)]
    assert heat.draw_heat(network(), ("cat", "dog"), wrong, tmp_path / "heat") == 0


def test_an_explained_mistake_is_shown_once_beside_its_heat(tmp_path: Path) -> None:
    mistakes = mistakes_in(tmp_path, 5, side=60)
    worst = mistakes[4]  # they rise
    Image.new("RGB", (8, 8), "red").save(tmp_path / "heat.jpg")
    facts = facts_of(("cat", "dog"), tested=mistakes, heat={(worst.shown_path, "dog"): tmp_path / "heat.jpg"})
    source = render(facts)
    section = source.split('<section id="mistakes">')[1].split("</section>")[0]
    assert section.count(">cat/4.png<") == 1 and section.count("<img") == 6
    assert section.index("what spoke for dog") < section.index(">cat/3.png<")
    assert "Beside the first 1:" in Page(section).text and "all 5 of them" in Page(section).text
    stale = replace(facts, heat={(worst.shown_path, "cow"): tmp_path / "heat.jpg", ("x", "dog"): tmp_path / "no.jpg"})
    assert "Grad-CAM" not in render(stale), "of another answer than the model's"


def test_a_run_keeps_them_and_the_report_needs_no_images(run: Path, run_copy: Path) -> None:
    opened = runs.Run.open(run)
    worst = worst_of(answered(opened, Path(json.loads((run / "config.json").read_text())["data"]["folder"])))
    assert set(read_heat(opened)) == {(each.shown_path, each.predicted_label) for each in worst[: heat.MOST]}
    assert not (run / SAMPLES).exists(), "nothing was varied"
    assert not (run / "learning_curve.json").exists(), "the network itself was trained"
    (run_copy / SLICES).write_text(json.dumps([group("dusk", True, 0.01).to_json()]))
    report, card = rebuild(run_copy)
    assert "dusk" in report.read_text(encoding="utf-8") and "dusk" in card.read_text(encoding="utf-8")
    assert collect(runs.Run.open(run_copy)).slices == (group("dusk", True, 0.01),)


def images_with_parts(root: Path) -> ImageSet:
    files = tuple(
        ImageFile(photo(root / f"{label}{at}.png"), label, part=part, key=f"{label}{at}")
        for label in ("cat", "dog") for at, part in enumerate(("train", "train", "val", "test"))
    )  # fmt: skip
    return ImageSet(root, ("cat", "dog"), files)


def keep(run_copy: Path, tmp_path: Path, learned: HeadFeatures | None = None, **settings: object) -> runs.Run:
    images = images_with_parts(tmp_path)
    tested = images.part("test")
    labels, scores = np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    found = Evaluation(compute_metrics(labels, scores, images.classes), tested, labels, scores, ())
    run = runs.Run.open(run_copy)
    config = TrainConfig(image_size=32, **settings)  # type: ignore[arg-type]
    extras.keep_extras(run, network(), images, config, found, learned)
    return run


def test_varied_images_are_kept_and_shown(run_copy: Path, tmp_path: Path) -> None:
    run = keep(run_copy, tmp_path, augment="light")
    samples = read_samples(run)
    assert samples == Samples(run / SAMPLES / "strip.jpg", 2, extras.READINGS, "light")
    with Image.open(samples.path) as strip:
        tile, step = extras.TILE, extras.TILE + extras.GAP
        assert strip.size == ((1 + extras.READINGS) * step - extras.GAP, 2 * step - extras.GAP)
        pixels = np.asarray(strip.convert("L"), float)
    first, second = pixels[:tile, :tile], pixels[:tile, step : step + tile]
    assert abs(first - second).mean() > 5, "varied"
    shown = text_of(facts_of(("cat", "dog"), samples=samples))
    assert "2 training images: each as it is on the left, then 5 times as the recipe “light” varies it" in shown


def test_what_goes_wrong_is_a_warning_each(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> int:
        raise RuntimeError("no gradients today")

    monkeypatch.setattr(extras, "draw_heat", broken)
    run = keep(run_copy, tmp_path, augment="light")
    assert "the heat maps could not be drawn (no gradients today)" in capsys.readouterr().err
    assert read_samples(run) is not None, "the others are there"


def test_two_images_are_not_compared(run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_copy / SLICES).unlink(missing_ok=True)
    assert read_slices(keep(run_copy, tmp_path, augment="none")) == ()
    assert not (run_copy / "learning_curve.json").exists(), "no features of these images are in the store"
    assert "warning" not in capsys.readouterr().err, "which is nothing to warn of"


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows_and_names_stay_text(tmp_path: Path, browser: Browser, width: int, dark: bool) -> None:
    mistakes = tuple(
        replace(each, true_label=HOSTILE[1], predicted_label=HOSTILE[5], shown_path=f"{HOSTILE[5]}{at}")
        for at, each in enumerate(mistakes_in(tmp_path, 5, side=60))
    )
    Image.new("RGB", (600, 300), "red").save(tmp_path / "wide.jpg")
    facts = facts_of(
        HOSTILE, n=260, tested=mistakes,
        heat={(each.shown_path, each.predicted_label): tmp_path / "wide.jpg" for each in mistakes[1:]},
        slices=tuple(group(name, at < 3, 0.01) for at, name in enumerate(HOSTILE)),
        sureness=Sureness(1.2, 260, 0.1, 0.08, 0.3, HOSTILE[5], HOSTILE[5], 90, 0.95, Share(250, 260), Share(1, 3)),
        samples=Samples(tmp_path / "wide.jpg", 4, 5, HOSTILE[0]),
        learning=LearningCurve(((1000, 0.7), (20000, 0.75), (400000, 0.8), (8000000, 0.9)), 150, 0.03, 0.01, 0.05),
    )  # fmt: skip
    path = tmp_path / "report.html"
    path.write_text(render(facts), encoding="utf-8")
    with browser.page(path.as_uri(), width, 800, dark) as page:
        for section in ("sure", "groups", "samples", "more", "mistakes"):
            assert page.value(f"document.getElementById('{section}').getBoundingClientRect().width") <= width
        page.value("for (const e of document.querySelectorAll('details')) e.open = true")
        wide = page.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide[0] <= wide[1] <= width
        assert page.value("document.images.length >= 10 && [...document.images].every(e => e.naturalWidth > 0)")
        assert page.value("document.scripts.length") == 2
        assert not page.errors


class Kept:
    """Features as the store gives them."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.count = rows, len(rows)

    def array(self) -> np.ndarray:
        return self.rows


def test_features_of_the_head_give_a_learning_curve(run_copy: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    labels, val_labels = np.arange(160) % 2, np.arange(60) % 2

    def features(of: np.ndarray) -> Any:
        return Kept((of[:, None] + 0.8 * draw.standard_normal((len(of), 8))).astype(np.float32))

    learned = HeadFeatures(features(labels), labels, features(val_labels), val_labels)
    curve = read_learning(keep(run_copy, tmp_path, learned, augment="none"))
    assert curve is not None and curve.n == 60
    assert [number for number, _ in curve.points] == [20, 40, 80, 160] and curve.points[-1][1] > 0.8


def test_a_fine_tuned_run_has_a_learning_curve_of_heads_before_it() -> None:
    curve = LearningCurve(((100, 0.7), (200, 0.75), (400, 0.8), (800, 0.84)), 150, 0.03, 0.01, 0.05)
    shown = text_of(facts_of(("cat", "dog"), learning=curve))
    assert "Heads on the network as it was before fine-tuning were trained on an eighth" in shown
    assert "heads (before fine-tuning) on an eighth" in shown
    head_only = facts_of(("cat", "dog"), learning=curve)
    head_only = replace(head_only, history=head_only.history[:2])
    assert "before fine-tuning" not in text_of(head_only)
