from pathlib import Path

import pytest

from imgclf.config import TrainConfig
from imgclf.data.inspect import inspect
from imgclf.data.scan import scan
from imgclf.data.split import assign_parts
from imgclf.models import backbones
from imgclf.search.space import AXES, candidates, draw, first_points, trial_config
from tests.conftest import draw as picture


class Chooser:
    """A trial that takes the last choice of everything, or what it is told, and notes the names."""

    def __init__(self, **told):
        self.told, self.asked = told, {}

    def suggest_categorical(self, name, choices):
        self.asked[name] = list(choices)
        return self.told.get(name, choices[-1])

    def suggest_float(self, name, low, high, *, log=False):
        self.asked[name] = [low, high]
        return self.told.get(name, high)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Pictures of 300 pixels: photos, for which pretrained networks are meant."""
    root = tmp_path_factory.mktemp("space") / "photos"
    for label, name in enumerate(("disc", "frame")):
        (root / name).mkdir(parents=True)
        for number in range(10):
            picture(label, number, 300).save(root / name / f"{number}.png")
    return assign_parts(inspect(scan(root), workers=0))


@pytest.fixture
def small(photos):
    return assign_parts(inspect(scan(photos), workers=0))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache with the weights of two widths of MobileNetV2 and a large network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name, alpha in (("mobilenet_v2", 1.0), ("mobilenet_v2", 0.35), ("vgg16", None)):
        row = backbones.get(name)
        path = Path(tmp_path, "models", row.weights_name(row.variant(alpha), row.default_size))
        path.parent.mkdir(exist_ok=True)
        path.touch()


@pytest.mark.usefixtures("home")
def test_photos_are_tried_with_the_weights_that_are_here(large):
    space = candidates(large, TrainConfig())
    assert [network.name for network in space.networks] == ["mobilenet_v2 1.0", "mobilenet_v2 0.35"]
    assert {network.sizes for network in space.networks} == {(128, 160, 224)}
    trial = Chooser()
    found = draw(space, trial)
    assert found.settings == {
        "backbone": "mobilenet_v2", "alpha": 0.35, "image_size": 224, "unfreeze": "10", "augment": "light",
        "fine_tune_learning_rate": 8e-4, "learning_rate": 0.012,
    }  # fmt: skip
    assert [trial_config(space, found, images).fine_tune_epochs for images in (40, 640, 2000)] == [8, 5, 3]


@pytest.mark.usefixtures("home")
def test_what_does_not_matter_is_not_drawn(large):
    trial = Chooser(depth="head")
    found = draw(candidates(large, TrainConfig()), trial)
    assert found.settings["fine_tune_epochs"] == 0
    assert set(trial.asked) == {"network", "image_size", "depth", "rate"}


@pytest.mark.usefixtures("home")
def test_where_the_head_is_perfect_no_depth_is_asked_for(large):
    trial = Chooser()
    assert draw(candidates(large, TrainConfig()), trial, enough=lambda network: True).settings["fine_tune_epochs"] == 0
    assert "depth" not in trial.asked


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"image_size": 96}, "image_size"),
        ({"unfreeze": "1"}, "depth"),
        ({"learning_rate": 1e-3}, "rate"),
        ({"fine_tune_learning_rate": 1e-4}, "fine_tune_rate"),
        ({"augment": "strong"}, "augment"),
        ({"backbone": "mobilenet_v2", "alpha": 0.35}, "network"),
        ({"alpha": 0.35}, "network"),
        ({"backbone": "vgg16"}, "network"),
    ],
)
def test_what_is_given_is_not_searched(large, given, parameter):
    space = candidates(large, TrainConfig(**given))
    trial = Chooser()
    config = trial_config(space, draw(space, trial), 2000)
    assert parameter not in trial.asked and set(trial.asked)
    assert {name: getattr(config, name) for name in given} == given
    assert parameter not in [axis.name for axis in space.axes]
    assert all(parameter not in point for point in first_points(space))


@pytest.mark.usefixtures("home")
def test_the_widths_of_a_named_network_are_searched(large):
    space = candidates(large, TrainConfig(backbone="mobilenet_v2"))
    assert [network.alpha for network in space.networks] == [1.0, 0.35]


@pytest.mark.usefixtures("home")
def test_head_only_leaves_rates_and_sizes(large):
    space = candidates(large, TrainConfig(fine_tune_epochs=0))
    assert [axis.name for axis in space.axes] == ["network", "image_size", "rate"]
    assert trial_config(space, draw(space, Chooser()), 2000).fine_tune_epochs == 0


def test_without_weights_networks_from_scratch_are_tried(large, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    space = candidates(large, TrainConfig())
    assert [network.name for network in space.networks] == ["tiny", "cnn_small", "resnet9"]
    assert space.notes
    assert [axis.name for axis in space.axes] == ["network", "image_size", "augment", "rate"]


@pytest.mark.usefixtures("home")
def test_small_images_are_learned_from_scratch(small):
    space = candidates(small, TrainConfig())
    assert {network.name for network in space.networks} == {"tiny", "cnn_small", "resnet9"}
    assert all(network.sizes[-1] == 48 for network in space.networks)
    assert space.networks[0].name == "resnet9", "what imgclf takes by itself comes first"


@pytest.mark.usefixtures("home")
def test_the_first_points_are_the_heads_and_then_the_usual_training(large):
    space = candidates(large, TrainConfig())
    points = first_points(space)
    assert [point["depth"] for point in points] == ["head", "head", "usual"]
    assert points[-1]["network"] == "mobilenet_v2 1.0"
    found = draw(space, Chooser(**points[-1]))
    assert found.settings["unfreeze"] == "5" and found.settings["image_size"] == 224


def test_every_axis_fixes_settings_that_exist():
    names = {spec.name for spec in TrainConfig.describe()}
    assert all(set(axis.fixed_by) <= names for axis in AXES)
