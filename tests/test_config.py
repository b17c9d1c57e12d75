import json
from pathlib import Path

import pytest

from imgclf.config import TrainConfig
from imgclf.errors import InputError


def test_settings_survive_json() -> None:
    config = TrainConfig(backbone="tiny", epochs=3, formats=("float32",), flip=False)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, ["--epochs is 0", "1 to 10000"]),
        ({"epochs": 2.5}, ["--epochs is 2.5", "a whole number"]),
        ({"epochs": True}, ["--epochs is True", "a whole number"]),
        ({"dropout": 1.5}, ["--dropout is 1.5", "0 to 0.9"]),
        ({"augment": "hevy"}, ["--augment is 'hevy'", "none, shift, light, medium, strong"]),
        ({"augment": "lite"}, ["did you mean 'light'"]),
        ({"formats": ("float64",)}, ["--formats", "did you mean 'float"]),
        ({"backbone": 3}, ["--backbone is 3", "a word"]),
        ({"val_share": 0.6, "test_share": 0.6}, ["0.9 at most"]),
        ({"learning_rate": float("nan")}, ["--learning-rate is nan"]),
    ],
)
def test_bad_values_are_named_with_their_range(settings: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        TrainConfig(**settings)  # type: ignore[arg-type]
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_is_as_good_as_its_text() -> None:
    assert TrainConfig().replace(weights=Path("runs") / "first").weights == str(Path("runs") / "first")


def test_unknown_settings_suggest_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'fine_tune_epochs'"):
        TrainConfig().replace(finetune_epochs=3)


def test_every_setting_has_help_and_an_option() -> None:
    for spec in TrainConfig.describe():
        assert spec.help.endswith("."), spec.name
        assert spec.option.startswith("--")
        assert (spec.default is None) <= bool(spec.auto), f"{spec.name}: what does None stand for?"
