"""What objects show in a notebook: HTML in which every name is text, figures that hold what they should."""

import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import imgclf
from imgclf.data.diagnosis import Diagnosis, Finding, Item
from imgclf.data.imageset import ImageFile, ImageSet
from imgclf.errors import InputError
from imgclf.evaluation.metrics import Metrics, compute
from imgclf.explaining.explanation import Explanation
from tests.conftest import draw

ODD = ("<script>alert(1)</script>", '$x^2$ & "co" \'', "a\nb\x1b[31m", "שלום \u202eevil", "日本語 🐱")
SHOWN = ("<script>alert(1)</script>", '$x^2$ & "co" \'', "a\\nb\\x1b[31m", "שלום \\u202eevil", "日本語 🐱")


class Page(HTMLParser):
    """The elements of a piece of HTML, and the texts in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def measured(names: tuple[str, ...], each: int = 4) -> Metrics:
    """Every image right but the first of class 0, which is taken for class 1."""
    labels = np.repeat(np.arange(len(names)), each)
    probabilities = np.full((len(labels), len(names)), 0.2 / (len(names) - 1))
    predicted = labels.copy()
    predicted[0] = 1
    probabilities[np.arange(len(labels)), predicted] = 0.8
    return compute(labels, probabilities, names)


def images(names: tuple[str, ...]) -> ImageSet:
    files = [ImageFile(Path("photos") / f"{at}.png", name, "train" if at else "test", verdict="fine")
             for at, name in enumerate(names)]  # fmt: skip
    bad = ImageFile(Path("photos/<b>.png"), names[0], "train", verdict="unreadable")
    return ImageSet(Path("photos<i>"), names, (*files, bad), {"not an image": ("x.txt",)})


def diagnosis(names: tuple[str, ...]) -> Diagnosis:
    items = tuple(Item((Path(f"photos<i>/{name}.png"),), "cut <short>") for name in names)
    return Diagnosis(images(names), (Finding("odd", "error", "Odd: 5", "they <are>", "look", items),))


@pytest.mark.parametrize(
    ("value", "names"), [(measured(ODD), SHOWN), (images(ODD), SHOWN), (diagnosis(ODD), SHOWN)],
    ids=["metrics", "images", "diagnosis"],
)  # fmt: skip
def test_odd_names_are_shown_as_text(value: Metrics | ImageSet | Diagnosis, names: tuple[str, ...]) -> None:
    html = value._repr_html_()
    page = Page(html)
    assert not page.open
    assert set(page.tags) <= {"p", "b", "br", "bdi", "table", "thead", "tbody", "tr", "th", "td", "small"}
    for name in names:
        assert name in page.texts
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", html)
    assert html.count("<table") + html.count("<p") == html.count("mathjax_ignore")  # dollars make no formulas


def test_metrics_show_their_intervals() -> None:
    page = Page(measured(("a", "b", "c"))._repr_html_())
    at = page.texts.index("a", page.texts.index("F1"))
    assert page.texts[at : at + 6] == ["a", "4", "1.000 ", "0.439–1.000", "0.750 ", "0.301–0.954"]  # Wilson: 3/3, 3/4


def test_images_are_counted_by_class_and_part() -> None:
    page = Page(images(("a", "b", "c"))._repr_html_())
    assert page.texts == ["photos<i>: 3 images in 3 classes", "1 image cannot be read", "ignored: not an image 1",
                          "class", "train", "test", "all",
                          "a", "0", "1", "1", "b", "1", "0", "1", "c", "1", "0", "1"]  # fmt: skip
    many = Page(images(tuple(f"{number:03}" for number in range(100)))._repr_html_())
    assert many.tags.count("tr") == 31 and many.texts[-1] == "and 70 more classes"


def test_a_diagnosis_shows_counts_and_findings() -> None:
    texts = Page(diagnosis(ODD)._repr_html_()).texts
    at = texts.index("1 error")
    assert texts[at + 1 :] == ["finding", "why it matters, what to do", "error", "Odd: 5",
                               *(f"{name}.png: cut <short>" for name in SHOWN[:3]), "... and 2 more", "they <are>",
                               "→ look"]  # fmt: skip
    assert "nothing found" in Diagnosis(images(("a", "b")), ())._repr_html_()


def test_the_confusion_matrix_holds_counts_and_names_as_they_are() -> None:
    figure = measured(ODD).plot_confusion()
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"{SHOWN[0][:23]}…", *SHOWN[1:]
    ]  # fmt: skip
    assert sorted((text.get_position(), text.get_text()) for text in axes.texts) == sorted(
        [((0, 0), "3"), ((1, 0), "1"), *(((at, at), "4") for at in range(1, 5))]
    )
    assert axes.images[0].get_array()[0].tolist() == [0.75, 0.25, 0, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing letter is no reason for a warning a name
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_many_classes_leave_the_numbers_and_some_names_out() -> None:
    figure = measured(tuple(f"class {number}" for number in range(130)), each=1).plot_confusion()
    axes = figure.axes[0]
    assert not axes.texts
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels[:2]] == ["class 0", "class 3"] and len(labels) == 44
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert max(figure.get_size_inches()) <= 13


def test_reliability_shows_each_range_with_its_interval() -> None:
    figure = measured(("a", "b", "c")).plot_reliability()
    above, below = figure.axes
    line = above.containers[0]
    assert line[0].get_xdata().tolist() == pytest.approx([0.8])
    assert line[0].get_ydata().tolist() == pytest.approx([11 / 12])
    low, high = line[2][0].get_segments()[0][:, 1]
    assert (low, high) == (pytest.approx(0.646, abs=1e-3), pytest.approx(0.985, abs=1e-3))  # Wilson of 11 of 12
    assert [bar.get_height() for bar in below.patches] == [12]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_explanation_shows_its_picture(tmp_path: Path) -> None:
    draw(0, 1).save(tmp_path / "a.png")
    heat = Explanation(tmp_path / "a.png", "cat", 0.5, "gradcam", np.eye(3, dtype=np.float32), (48, 48))
    assert heat._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_photos_are_shown_with_class_and_probability(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = imgclf.load(run / "exports" / "model_float32.tflite")
    odd = tmp_path / "$a$ & <b>.png"
    draw(2, 5).save(odd)
    files = [odd, *sorted((photos / "disc").glob("*.png"))[:4]]
    figure = classifier.show([*files, photos / "disc" / "broken.jpg"], columns=3)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(figure.axes) == 6 and len(shown) == 5
    for axes, prediction in zip(shown, classifier.predict(files), strict=True):
        assert axes.get_title() == f"{prediction.label}  {prediction.probability:.0%}"
    assert [text.get_text() for text in shown[0].texts] == ["$a$ & <b>.png"]
    np.testing.assert_array_equal(shown[0].images[0].get_array(), np.asarray(draw(2, 5)))
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert "broken.jpg" in capsys.readouterr().err
    few = classifier.show(photos / "disc", limit=2)
    assert sum(bool(axes.images) for axes in few.axes) == 2
    assert "the first 2 of 22" in capsys.readouterr().err
    with pytest.raises(InputError, match="none of these images can be read"):
        classifier.show(photos / "disc" / "broken.jpg")
    with pytest.raises(InputError, match="at least 1"):
        classifier.show(odd, columns=0)


def test_importing_the_package_and_showing_tables_draws_nothing() -> None:
    code = (
        "import sys, imgclf\n"
        "assert not {'numpy', 'matplotlib', 'tensorflow'} & set(sys.modules)\n"
        "import imgclf.classifier, imgclf.evaluation.metrics, imgclf.training.history\n"
        "imgclf.training.history.History(())._repr_html_()\n"
        "assert not {'matplotlib', 'tensorflow'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
