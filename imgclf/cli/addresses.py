"""A parameter that is a path or an address (`s3://bucket/photos`). May import click and places."""

from typing import Any

import click

from imgclf.places import place


class _Place(click.ParamType[Any]):
    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path or `Address`; click's own type would take the second slash of `s3://` away."""
        return place(value)


PLACE = _Place()
