import csv
import json
import math

import pytest

from imgclf import runs
from imgclf.evaluation.metrics import Metrics
from tests.conftest import imgclf_here


@pytest.fixture(scope="module")
def known(training):
    return json.loads((training[0] / "metrics.json").read_text())


def evaluate(*arguments):
    return imgclf_here("evaluate", *arguments, "--quiet")


def gated(run, *gates, also=()):
    return evaluate(run, *(word for gate in gates for word in ("--assert", gate)), *also)


@pytest.fixture
def unmeasured(monkeypatch):
    """Nothing may be predicted: a mistake in a gate is found before that."""
    monkeypatch.setattr("imgclf.predict.Predictor.each", lambda *_: pytest.fail("it was evaluated"))


def test_gates_that_hold(run, known):
    low, recall = known["accuracy_low"], known["per_class"][0]["recall"]
    done = gated(run, f"accuracy_low>={low - 0.001}", f"recall[bar & co]=={recall}", "ece<1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("accuracy ")
    assert [line.split(" is ")[0] for line in done.stdout.splitlines()[-3:]] == [
        "holds: accuracy_low",
        "holds: recall[bar & co]",
        "holds: ece",
    ]


def test_a_gate_that_does_not_hold(run, known):
    done = gated(run, "n>=1", "log_loss<0", "recall[disc]>1")
    recall = {entry["label"]: entry["recall"] for entry in known["per_class"]}["disc"]
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"holds: n is {known['n']}, asked for >= 1"
    assert done.stderr == (f"error: log_loss is {known['log_loss']:.4g}, asked for < 0; "
                           f"recall[disc] is {recall:.4g}, asked for > 1\n")  # fmt: skip


def test_undefined_does_not_hold(run):
    done = gated(run, "top5_accuracy>=0")  # of three classes
    assert (done.returncode, done.stderr) == (
        1,
        "error: top5_accuracy is undefined on these images, asked for >= 0\n",
    )


@pytest.mark.parametrize("bound, code", [("0", 0), ("2", 1)])
def test_json_stays_json(run, known, bound, code):
    done = gated(run, f"macro_f1>={bound}", also=("--format", "json"))
    assert done.returncode == code
    assert json.loads(done.stdout) == known
    assert done.stderr.startswith("error: macro_f1 is" if code else "holds: macro_f1 is")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "gate, message",
    [
        ("macro_f2>=0.9", "there is no metric 'macro_f2'; expected macro_f1, "),
        ("recall[dics]>=0.9", "the model has no class 'dics'; expected one of disc, bar & co, frame"),
        ("recall[<script>]>=0.9", "the model has no class '<script>'"),
        ("macro_f1=0.9", "'macro_f1=0.9' is no gate"),
        ("macro_f1>=high", "'high' in 'macro_f1>=high' is no number"),
    ],
)
def test_a_mistake_is_bad_usage_before_anything_is_measured(run, unmeasured, gate, message):
    done = gated(run, "n>=1", gate)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1


def test_a_misspelled_metric_needs_no_model(tmp_path):
    done = gated(tmp_path / "gone", "macro_f2>=0.9")
    assert done.returncode == 2 and "macro_f1" in done.stderr


def test_unreadable_images_and_gates_are_one_error(run, photos):
    done = evaluate(run, photos, "--assert", "accuracy>1", "--assert", "n==61")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "holds: n is 61, asked for >= 61".replace(">=", "==")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: accuracy is ") and last.endswith("1 image could not be read and was left out")


def test_predictions_have_a_row_for_each_image(run, known, tmp_path):
    path = tmp_path / "rows.csv"
    assert evaluate(run, "--predictions", path).returncode == 0
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    classes = runs.read_classes(run / "classes.txt")
    assert list(rows[0]) == ["path", "label", "prediction", "probability", "loss", *(f"p:{name}" for name in classes)]
    assert len(rows) == known["n"]
    assert sum(row["label"] == row["prediction"] for row in rows) == round(known["accuracy"] * known["n"])
    for row in rows:
        shares = {name: float(row[f"p:{name}"]) for name in classes}
        assert math.isclose(sum(shares.values()), 1, abs_tol=1e-5)
        assert float(row["probability"]) == shares[row["prediction"]] == max(shares.values())
        assert math.isclose(float(row["loss"]), -math.log(max(shares[row["label"]], 1e-7)), rel_tol=1e-3, abs_tol=2e-6)


def test_slices(run, photos):
    done = evaluate(run, photos, "--slices", "--format", "json")
    table = json.loads(done.stdout)
    slices = table.pop("slices")
    assert Metrics.from_json(table).n == 61
    # the pictures are all of one size and in no sub-folder; three thirds by brightness, and noise has colours
    assert {each["property"] for each in slices} == {"brightness"}
    assert sum(each["n"] for each in slices) == 61
    assert sum(each["right"] for each in slices) == round(table["accuracy"] * 61)
    text = evaluate(run, photos, "--slices").stdout.splitlines()
    assert sum("elsewhere" in line for line in text) == len(slices) == 3


def test_an_empty_slice_table_is_said(run, tmp_path, photos):
    for name in ("disc", "frame"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes((photos / name / f"{name} 0.png").read_bytes())
    done = evaluate(run, tmp_path, "--slices")
    assert done.stdout.splitlines()[-1] == "no groups of 10 images or more to compare"
    assert evaluate(run, tmp_path).stdout.splitlines()[-1].startswith("frame")
