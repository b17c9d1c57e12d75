"""The few exceptions of imgclf, each with its exit code. Imports naming only.

Exit codes: 1 something asked for does not hold; 2 bad input or usage; 3 the environment (missing weights, full disk,
missing extra); 130 interrupted.
"""

from imgclf.storage.naming import told


class ImgclfError(Exception):
    """An error that a user can act on: one line that says what is wrong, what was expected and how to fix it.

    Args:
        what: what is wrong, with the path or the value in question.
        fix: what was expected and what to do about it, as one phrase; may be empty.
    """

    exit_code = 2

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.what}; {self.fix}" if self.fix else self.what
        return " ".join(told(text).split())


class InputError(ImgclfError):
    """Bad input or usage: a folder, a file, an option (exit code 2)."""


class SetupError(ImgclfError):
    """The environment is not up to it: missing weights, a full disk, a missing extra (exit code 3)."""

    exit_code = 3


class OutOfMemory(SetupError):
    """The network does not fit into this computer's memory."""


class CheckFailed(ImgclfError):
    """Done, but something asked for does not hold: a gate, unreadable images given to predict (exit code 1)."""

    exit_code = 1


class Interrupted(ImgclfError):
    """The user pressed Ctrl-C; what was worth keeping has been saved (exit code 130)."""

    exit_code = 130
