"""Formats for other places than phones."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from imgclf import predict, runs
from imgclf.errors import SetupError
from imgclf.export.others import OTHERS, require_installed, write_others
from tests.conftest import imgclf_here


@pytest.mark.slow
def test_a_saved_model_answers_as_the_model(run_copy: Path) -> None:
    import tensorflow as tf

    done = imgclf_here("export", run_copy, "--formats", "savedmodel")
    assert done.returncode == 0 and "saved_model" in done.stdout, done.stderr
    (made,) = write_others(runs.Run.open(run_copy), ["savedmodel"])  # a second time replaces the first
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    loaded = tf.saved_model.load(str(made))  # it goes with its functions when nobody holds it
    found = loaded.serve(images)
    np.testing.assert_allclose(found, predict.load(run_copy).scores(images), atol=1e-5)
    assert not list((run_copy / "exports").glob(".partial*"))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, words in (("onnx", r"tf2onnx and onnx; pip install 'imgclf\[onnx\]'"), ("openvino", "openvino")):
        with pytest.raises(SetupError, match=f"{name} needs {words}"):
            require_installed([name])
    require_installed(["savedmodel"])
    assert set(OTHERS) == {"savedmodel", "onnx", "openvino"}
