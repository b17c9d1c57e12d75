"""Settings of a training as options of the command line. May import click and config."""

from collections.abc import Callable
from typing import Any

import click

from imgclf.config import Setting, TrainConfig

ALIASES = {"from_run": ("--from",)}  # what people type; the setting cannot be called by a word of Python


def setting_options(*names: str, without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One option per row of TrainConfig, or only those named, or all but some."""
    specs = [spec for spec in TrainConfig.describe() if (not names or spec.name in names) and spec.name not in without]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for spec in reversed(specs):
            function = _option(spec)(function)
        return function

    return decorate


def given_settings(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given; an option that was not is absent."""
    return {name: value for name, value in options.items() if value is not None}


def _option(spec: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    default = f"default: {_shown_default(spec)}"
    limits = f"{spec.limits}; " if spec.limits is not None else ""
    text = f"{spec.help}  [{limits}{default}]"
    if spec.kind is bool:
        return click.option(f"{spec.option}/--no-{spec.option[2:]}", spec.name, default=None, help=text)
    kind: Any = {int: int, float: float}.get(spec.kind, str)
    metavar = "|".join(spec.choices) if spec.choices and spec.kind is not tuple else None
    if spec.kind is tuple:
        metavar = ",".join(spec.choices) or "NAME,NAME"
    names = (*ALIASES.get(spec.name, ()), spec.option, spec.name)
    return click.option(*names, type=kind, default=None, metavar=metavar, help=text)


def _shown_default(spec: Setting) -> str:
    if spec.auto:
        return spec.auto
    if isinstance(spec.default, tuple):
        return ",".join(spec.default)
    return {True: "on", False: "off"}.get(spec.default, spec.default) if spec.kind is bool else str(spec.default)
