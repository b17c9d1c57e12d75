"""Parameters that are a path or an address (`s3://bucket/photos`), and words about them. May import click, naming and
places; `mirror` when a run or a model is at an address.
"""

from pathlib import Path
from typing import Any

import click

from imgclf.storage.naming import told
from imgclf.storage.places import Address, place, require_here


class _Place(click.ParamType[Any]):
    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path or `Address`; click's own type would take the second slash of `s3://` away."""
        return place(value)


class Here(click.Path):
    """A file or folder to write that must be on this computer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; click's own type would make a folder `s3:` of an address."""
        require_here(place(value), param.opts[0] if param is not None else "the path")
        return super().convert(value, param, ctx)


class _Read(_Place):
    """A run or a model file that is read only: what is needed of one at an address is fetched."""

    def __init__(self, needs: str) -> None:
        self.needs = needs

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; of an address, that of its mirror here."""
        given = place(value)
        if not isinstance(given, Address):
            return given
        from imgclf.storage import mirror

        return mirror.here(given, getattr(mirror, self.needs))


PLACE = _Place()
ANSWERING = _Read("ANSWERING")  # what a run answers with
MEASURED = _Read("MEASURED")  # and its images and figures
PROVEN = _Read("PROVEN")  # and its mobile files


def echo(text: object) -> None:
    """Print a result; folders that mirror an address are called by it."""
    click.echo(told(str(text)))
