"""`--weights RUN`: the backbone and the head of an earlier run."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from imgclf import runs
from imgclf.config import TrainConfig
from imgclf.errors import InputError
from imgclf.models import backbones
from imgclf.models.build import build_backbone
from imgclf.models.earlier import backbone_of_run
from imgclf.models.files import load_keras_model
from imgclf.models.network import assemble, load_head, temper
from imgclf.models.weights import load_backbone_weights, resolve_weights
from tests.conftest import imgclf_here

IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)


def test_backbone_and_head_together_are_the_run(run: Path) -> None:
    expected = np.asarray(load_keras_model(run / runs.MODEL)(IMAGES))
    backbone, head = backbone_of_run(run, (32, 32))
    network = assemble(backbone, runs.read_classes(run / runs.CLASSES), binary=False, dropout=0.0, seed=1)
    assert not np.allclose(np.asarray(network.finished()(IMAGES)), expected)
    load_head(network, *head, network.classes)
    model = network.finished()
    temper(model, runs.read_json(run / runs.CALIBRATION)["temperature"])  # the head comes as it was trained
    np.testing.assert_allclose(np.asarray(model(IMAGES)), expected, atol=1e-6)


def test_a_binary_head_survives_the_way_to_two_scores_and_back(tmp_path: Path) -> None:
    backbone = build_backbone(backbones.get("tiny"), None, (32, 32))
    trained = assemble(backbone, ("a", "b"), binary=True, dropout=0.2, seed=5)
    trained.head.get_layer("scores").bias.assign([0.3])
    trained.finished().save(tmp_path / runs.MODEL)
    again, head = backbone_of_run(tmp_path, (32, 32))
    network = assemble(again, ("a", "b"), binary=True, dropout=0.2, seed=6)
    load_head(network, *head, network.classes)
    np.testing.assert_allclose(np.asarray(network.model(IMAGES)), np.asarray(trained.model(IMAGES)), atol=1e-6)


def test_another_size_is_fine_where_no_layer_depends_on_it(run: Path, tmp_path: Path) -> None:
    backbone, _ = backbone_of_run(run, (48, 48))
    assert backbone.input_shape == (None, 48, 48, 3)
    flat = build_backbone(backbones.get("cnn_cifar"), None, (32, 32))
    assemble(flat, ("a", "b", "c"), binary=False, dropout=0.0, seed=0).finished().save(tmp_path / runs.MODEL)
    with pytest.raises(InputError, match="made for images of 32 x 32"):
        backbone_of_run(tmp_path, (48, 48))


def test_a_model_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()]).save(tmp_path / runs.MODEL)
    with pytest.raises(InputError, match="does not end in a head of imgclf"):
        backbone_of_run(tmp_path, (32, 32))


def test_a_model_folder_of_keras_is_read_by_its_weights(tmp_path: Path) -> None:
    """What KerasHub's presets and unpacked .keras files look like."""
    row = backbones.get("tiny")
    source, target = build_backbone(row, None, (32, 32)), build_backbone(row, None, (32, 32))
    source.save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "config.json").write_text(json.dumps({"module": "keras", "class_name": "Functional"}))
    file = resolve_weights(str(tmp_path), row, None, (32, 32))
    assert file is not None and file.run is None
    load_backbone_weights(target, file)
    np.testing.assert_array_equal(np.asarray(source(IMAGES)), np.asarray(target(IMAGES)))
    (tmp_path / "model.weights.h5").unlink()
    with pytest.raises(InputError, match="no weights in the folder"):
        resolve_weights(str(tmp_path), row, None, (32, 32))


@pytest.mark.slow
def test_the_command_line_goes_on_from_a_run_with_other_classes(run: Path, two_photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    done = imgclf_here("train", two_photos, "--out", out, "--weights", run, "--epochs", "5", "--fine-tune-epochs", "1",
                       "--formats", "")  # fmt: skip
    assert done.returncode == 0, done.stderr
    config = json.loads((out / runs.CONFIG).read_text())
    assert (config["decided"]["backbone"], config["decided"]["image_size"]) == ("tiny", 32), "as the earlier run has it"
    assert "weights: the run " in done.stderr and "fine-tuning the top 3 blocks" in done.stderr
    shutil.rmtree(out)
    assert TrainConfig.from_json({**config["settings"], **config["decided"]}).weights == str(run)


def test_a_new_class_gets_an_output_below_the_others_which_stay_what_they_were() -> None:
    backbone = build_backbone(backbones.get("tiny"), None, (32, 32))
    network = assemble(backbone, ("b", "new", "a"), binary=False, dropout=0.0, seed=0)
    kernel = np.random.default_rng(0).normal(size=(network.features.shape[-1], 3)).astype(np.float32)
    load_head(network, kernel, np.array([0.5, -1.0, 2.0], np.float32), ("a", "b", "gone"))
    found, bias = network.head.get_layer("scores").get_weights()
    np.testing.assert_array_equal(found[:, 0], kernel[:, 1])
    np.testing.assert_array_equal(found[:, 2], kernel[:, 0])
    assert bias.tolist() == [-1.0, -1.0, 0.5]
    assert np.isfinite(found[:, 1]).all()
