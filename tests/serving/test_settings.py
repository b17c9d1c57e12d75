import pytest

from imgclf.errors import InputError
from imgclf.serving.settings import is_loopback, own_names, parse_size


@pytest.mark.parametrize(
    ("text", "size"), [("20MB", 20 << 20), ("1.5 mb", 3 << 19), ("512K", 1 << 19), ("700", 700), ("1GB", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "0", "-1MB", "2GB", "20 apples", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="20MB"):
        parse_size(text)


def test_which_addresses_only_this_computer_reaches() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "192.168.1.2", "::", "example.org"))


def test_names_of_a_server_have_its_port() -> None:
    assert own_names("127.0.0.1", 8000) == {"127.0.0.1:8000", "localhost:8000", "[::1]:8000"}
    assert "localhost" in own_names("127.0.0.1", 80)  # browsers leave this port out
