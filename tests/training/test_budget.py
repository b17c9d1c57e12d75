import pytest

from imgclf.errors import InputError
from imgclf.progress import parse_duration
from imgclf.training.budget import FINISH_SECONDS, HEAD_SECONDS, LADDER, Speeds, affordable

# of 2 cores and MobileNetV2, measured: seconds for a reading, from the cut to the features, for a step
SPEEDS = Speeds(below=0.010, between=0.003, step=0.0085)


def planned(minutes: float, train: int = 3000) -> tuple[int, int]:
    found = affordable(60 * minutes, SPEEDS, train=train, val=300, test=300)
    return found.epochs, found.views


def test_more_time_is_more_training_until_there_is_no_more_to_gain() -> None:
    plans = [planned(minutes) for minutes in (1, 2, 3, 5, 8, 15, 30, 600)]
    assert plans == sorted(plans)
    assert plans[0] == (0, 1) and plans[-1] == LADDER[-1]
    assert planned(5) > planned(5, train=30_000)


@pytest.mark.parametrize("minutes", [2, 4, 8, 16])
def test_what_is_planned_fits(minutes: int) -> None:
    found = affordable(60 * minutes, SPEEDS, 3000, 300, 300)
    assert found.fits and found.seconds <= 60 * minutes
    work = 3000 * (found.views * 0.013 + found.epochs * 0.0085)
    assert found.seconds >= work + HEAD_SECONDS + FINISH_SECONDS


def test_the_head_is_trained_even_where_time_is_too_short_and_that_is_said() -> None:
    found = affordable(5.0, SPEEDS, 3000, 300, 300)
    assert (found.epochs, found.views, found.fits) == (0, 1, False)
    assert "the head alone" in str(found) and "too long" in str(found)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("90", 90), ("10m", 600), ("10 min", 600), ("1.5h", 5400), ("1h30m", 5400), ("2m5s", 125)],
)
def test_times_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "ten minutes", "-5m", "5d", "1..2h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="not a time span"):
        parse_duration(text)
