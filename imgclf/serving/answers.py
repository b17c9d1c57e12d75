"""What a server says when it does not do what it was asked. Imports nothing."""

import json
from collections.abc import Mapping
from types import MappingProxyType


class Refusal(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP, 400 and above.
        error: what is wrong.
        fix: what to do about it.
        headers: beside the usual ones.
    """

    def __init__(self, status: int, error: str, fix: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(status, error, fix)
        self.status, self.error, self.fix, self.headers = status, error, fix, headers

    @property
    def body(self) -> bytes:
        """The answer's JSON."""
        return json.dumps({"error": self.error, "fix": self.fix}, ensure_ascii=False).encode("utf-8", "replace")


# What the framework itself refuses.
KNOWN = {
    404: ("there is nothing here", "see /docs for what there is"),
    405: ("this address does not take that method", "see /docs for what it takes"),
}
BUG = Refusal(500, "the server failed at this", "look at what it wrote on its terminal")
