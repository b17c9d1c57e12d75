"""What a folder here is called where people know it: the mirror of a run at an address (`mirror`). Imports nothing.

The work is done in the mirror, and everything that is said or written down names the address. The few places where
text leaves the program ask `told`: errors, progress, the command line, JSON files.
"""

from typing import Any

_called: dict[str, str] = {}  # a folder here -> the address that it mirrors


def call(folder: str, address: str) -> None:
    """From now on a folder is called by an address."""
    _called[folder] = address


def forget(folder: str) -> None:
    """A folder is called by its own name again."""
    _called.pop(folder, None)


def address_of(path: str) -> str | None:
    """The address that a folder mirrors; None of any other path."""
    return _called.get(path)


def told(text: str) -> str:
    """A text with addresses in the place of the folders that mirror them."""
    for folder, address in list(_called.items()):
        if folder in text:
            text = text.replace(folder, address)
    return text


def told_within(value: Any) -> Any:
    """The same in every text of a plain JSON value."""
    if not _called:
        return value
    if isinstance(value, str):
        return told(value)
    if isinstance(value, dict):
        return {key: told_within(item) for key, item in value.items()}
    return [told_within(item) for item in value] if isinstance(value, (list, tuple)) else value
