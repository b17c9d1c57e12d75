"""Predictions in Parquet files: complete, once each, gone on with; a worker's death is one image's fault."""

import os
import signal
from pathlib import Path

import pyarrow.parquet
import pytest

from imgclf import bulk, predict
from imgclf.errors import InputError
from tests.conftest import imgclf_here


def table(folder: Path) -> list[dict[str, object]]:
    return sorted(pyarrow.parquet.read_table(folder).to_pylist(), key=lambda row: str(row["path"]))


@pytest.fixture
def model(run: Path) -> Path:
    return run / "exports" / "model_float32.tflite"


def test_every_image_has_one_row_and_what_cannot_be_read_says_why(model: Path, photos: Path, tmp_path: Path) -> None:
    done = imgclf_here("predict", model, photos, "--out", tmp_path / "rows")
    assert done.returncode == 1 and "1 images could not be read" in done.stderr
    rows = table(tmp_path / "rows")
    predictor = predict.load(model)
    expected = {str(answer.path): answer for answer in predictor.each(predict.find_images([photos]))}
    assert [row["path"] for row in rows] == sorted(expected)
    for row in rows:
        answer = expected[str(row["path"])]
        if isinstance(answer, predict.Skipped):
            assert (row["error"], row["class"], row["probabilities"]) == (answer.reason, None, None)
        else:
            assert (row["error"], row["class"]) == (None, answer.label)
            assert row["probabilities"] == pytest.approx(answer.scores, abs=1e-6)
    metadata = pyarrow.parquet.read_schema(next((tmp_path / "rows").glob("part-*"))).metadata
    assert metadata[b"classes"].decode() == '["bar & co", "disc", "frame"]'


def test_a_stopped_prediction_goes_on_where_it_was(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = predict.find_images([photos])
    predictor = predict.load(model)
    monkeypatch.setattr(bulk, "ROWS", 16)
    asked = []

    class Stopping(bulk.Answers):
        def each(self, images):  # type: ignore[no-untyped-def]
            for number, answer in enumerate(super().each(images)):
                if number == 37:
                    raise KeyboardInterrupt
                yield answer

    with pytest.raises(KeyboardInterrupt):
        bulk.write(model, images, tmp_path / "rows", Stopping(model, predictor))
    assert len(table(tmp_path / "rows")) == 37

    class Asked(bulk.Answers):
        def each(self, images):  # type: ignore[no-untyped-def]
            asked.extend(images)
            return super().each(images)

    written = bulk.write(model, images, tmp_path / "rows", Asked(model, predictor))
    assert (written.images, written.before, written.skipped) == (62, 37, 1)
    assert asked == images[37:]
    assert [row["path"] for row in table(tmp_path / "rows")] == sorted(map(str, images))
    again = bulk.write(model, images, tmp_path / "rows", Asked(model, predictor))
    assert again.before == 62 and len(asked) == 62 - 37


def test_rows_go_to_an_address_and_are_gone_on_with_there(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bulk, "ROWS", 16)
    address = "memory://nightly/rows"
    first = imgclf_here("predict", model, photos / "disc", "--out", address)
    all_of_them = imgclf_here("predict", model, photos, "--out", address)
    assert (first.returncode, all_of_them.returncode) == (1, 1), all_of_them.stderr
    before = len(predict.find_images([photos / "disc"]))
    assert f"62 images in {address}, {before} of them from before" in all_of_them.stdout

    there = fsspec.filesystem("memory")
    names = {Path(name).name for name in there.find("/nightly/rows")}
    there.get("/nightly/rows", str(tmp_path / "rows"), recursive=True)
    here = bulk.write(model, predict.find_images([photos]), tmp_path / "here", bulk.Answers(model, predict.load(model)))
    assert table(tmp_path / "rows") == table(tmp_path / "here") and here.images == 62
    assert "_about.json" in names and all(name.startswith(("_about", "part-")) for name in names), "no probe is left"
    assert not (tmp_path / "memory:").exists()
    (tmp_path / "file").touch()
    for out, words in (("https://host/rows", "can be read but not written"), ("memory://nightly", "holds no predic"),
                       (tmp_path / "file", "is a file")):  # fmt: skip
        refused = imgclf_here("predict", model, photos / "disc", "--out", out)
        assert refused.returncode == 2 and words in refused.stderr


def test_another_models_rows_and_foreign_folders_are_left_alone(model: Path, photos: Path, tmp_path: Path) -> None:
    images = predict.find_images([photos / "disc"])
    bulk.write(model, images, tmp_path / "rows", bulk.Answers(model, predict.load(model)))
    other = model.with_name("model_float16.tflite")
    with pytest.raises(InputError, match="another model"):
        bulk.write(other, images, tmp_path / "rows", bulk.Answers(other, predict.load(other)))
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="no predictions of imgclf"):
        bulk.write(model, images, tmp_path / "mine", bulk.Answers(model, predict.load(model)))


class Fragile(bulk.Classify):
    """Dies of one image."""

    def __call__(self, job: bulk.Job) -> list[bulk.Answer]:
        if any(path.endswith("disc 3.png") for path in job.paths):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().__call__(job)


@pytest.mark.slow
def test_an_image_that_ends_its_worker_is_named_and_costs_no_other(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "Classify", Fragile)
    monkeypatch.setattr(bulk, "AT_ONCE", 7)
    images = predict.find_images([photos / "disc"])
    answers = list(bulk.Answers(model, predict.load(model), elsewhere=True).in_order(images))
    assert [answer.path for answer in answers] == images
    bad = {answer.path.name: answer.reason for answer in answers if isinstance(answer, predict.Skipped)}
    assert set(bad) == {"disc 3.png", "broken.jpg"} and "signal 11" in bad["disc 3.png"]
    here = list(predict.load(model).each(images))
    for ours, theirs in zip(answers, here, strict=True):
        if isinstance(ours, predict.Prediction) and isinstance(theirs, predict.Prediction):
            assert ours.scores == pytest.approx(theirs.scores, abs=1e-6)
