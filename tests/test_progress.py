import pytest

from imgclf.errors import InputError
from imgclf.progress import muted, parse_duration, say


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("90", 90), ("10m", 600), ("10 min", 600), ("1.5h", 5400), ("1h30m", 5400), ("1H 2M 3S", 3723)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "ten minutes", "-5m", "0", "0s", "1.2.3s", "5d", "10m5h", "nan", "inf"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InputError, match="90s, 10m"):
        parse_duration(text)


def test_muted_is_over_when_the_block_is(capsys: pytest.CaptureFixture[str]) -> None:
    with muted():
        say("inside")
    say("outside")
    assert capsys.readouterr().err == "outside\n"
