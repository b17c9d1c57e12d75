"""Progress and notes on stderr: tqdm bars on a terminal, plain lines elsewhere. May import tqdm, naming and errors.

The only place of imgclf that writes progress. Results go to stdout, and that is the command line's business.
"""

import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from imgclf.errors import InputError
from imgclf.storage.naming import told

T = TypeVar("T")

PLAIN_INTERVAL = 5.0  # seconds between the plain lines of one step; a log file needs no more

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Turn all progress and notes off (`--quiet`) or on again; warnings are always shown."""
    global _quiet
    _quiet = quiet


@contextmanager
def muted() -> Iterator[None]:
    """No progress and no notes within the block; warnings are still shown."""
    before = _quiet
    set_quiet(True)
    try:
        yield
    finally:
        set_quiet(before)


def say(line: str) -> None:
    """Write one line for the user to stderr, above any bar; nothing when quiet."""
    if not _quiet:
        _write(line)


def warn(line: str) -> None:
    """Write one warning to stderr, quiet or not."""
    _write(f"warning: {line}")


class Bar:
    """What a running step is told; this one, the base of the others, keeps silent."""

    def update(self, n: int = 1) -> None:
        """Count n more items as done."""

    def note(self, text: str) -> None:
        """Show a figure beside the bar."""

    def close(self) -> None:
        """The step is over."""


class _PlainBar(Bar):
    """One line at the start of a long step, then one every few seconds with the time left."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.text = 0, ""
        self.start = self.last = time.monotonic()

    def update(self, n: int = 1) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.last >= PLAIN_INTERVAL and 0 < self.done < self.total:
            self.last = now
            left = (now - self.start) / self.done * (self.total - self.done)
            _write(f"{self.title}: {self.done}/{self.total} {self.unit}, {duration(left)} left{self.text}")

    def note(self, text: str) -> None:
        self.text = f" ({text})" if text else ""

    def close(self) -> None:
        spent = time.monotonic() - self.start
        if spent >= 1.0:
            _write(f"{self.title}: {self.done} {self.unit} in {duration(spent)}{self.text}")


class _TerminalBar(Bar):
    def __init__(self, title: str, total: int, unit: str) -> None:
        from tqdm import tqdm

        # delay: a step that is over within a second shows no bar at all
        self.bar = tqdm(
            total=total, desc=title, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, delay=1.0, smoothing=0.1
        )

    def update(self, n: int = 1) -> None:
        self.bar.update(n)

    def note(self, text: str) -> None:
        self.bar.set_postfix_str(text, refresh=False)

    def close(self) -> None:
        self.bar.close()


@contextmanager
def step(title: str, total: int, unit: str = "images") -> Iterator[Bar]:
    """Show the progress of one step.

    Args:
        title: what is being done, as `reading images`.
        total: the number of items, 0 or more.
        unit: what the items are called.

    Yields:
        A bar: `update(n)` after n more items, `note(text)` for a figure beside it.
    """
    bar: Bar = Bar()
    if not _quiet:
        bar = (_TerminalBar if sys.stderr.isatty() else _PlainBar)(title, total, unit)
    try:
        yield bar
    finally:
        bar.close()


def track(items: Iterable[T], title: str, total: int, unit: str = "images") -> Iterator[T]:
    """Iterate over items under a bar of `total` steps."""
    with step(title, total, unit) as bar:
        for item in items:
            yield item
            bar.update()


def duration(seconds: float) -> str:
    """A time span in words as a person would say it: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 and whole < 600 else f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def parse_duration(text: str) -> float:
    """The seconds of a time span: `90s`, `10m`, `1.5h`, `1h30m`; a number alone is seconds.

    Raises:
        InputError: it is none, or none that is longer than nothing.
    """
    words = text.strip().lower().replace(" ", "")
    number = r"\d+(?:\.\d*)?|\.\d+"
    parts = re.fullmatch(rf"(?:({number})h)?(?:({number})m(?:in)?)?(?:({number})s?)?", words)
    numbers = parts.groups() if parts else ()
    seconds = sum((float(part) * unit for part, unit in zip(numbers, (3600, 60, 1), strict=False) if part), 0.0)
    if seconds <= 0:
        raise InputError(f"{text!r} is not a time span", "expected for example 90s, 10m or 1h30m")
    return seconds


def plural(count: int, noun: str) -> str:
    """`1 epoch`, `3 epochs`, `1 class`, `2 classes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def printable(text: str) -> str:
    """A text that any terminal can take on one line: control characters and what is no Unicode are written out."""
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in plain)


def _write(line: str) -> None:
    line = printable(told(line))
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)
