"""The table of networks: all rows, and what is asked of them. Imports no TensorFlow, so that listing it is instant."""

import difflib
from collections.abc import Callable
from typing import Any

from imgclf.errors import InputError
from imgclf.models import pretrained, scratch
from imgclf.models.row import Backbone, Variant

__all__ = ["ALL", "DEFAULT", "Backbone", "Variant", "check_size", "get", "names", "table"]

DEFAULT = "mobilenet_v2"
SMALL_DEFAULT, SMALL_GREY_DEFAULT = "resnet9", "cnn_small"  # for images of 64 pixels or less
ALL: tuple[Backbone, ...] = (*pretrained.ROWS, *scratch.ROWS)


def names() -> tuple[str, ...]:
    """The names of all backbones, in the table's order."""
    return tuple(row.name for row in ALL)


def get(name: str | Callable[..., Any]) -> Backbone:
    """The row of that name, or one for a network of the user's own.

    Args:
        name: of a row, `package.module:function`, or the function itself.

    Raises:
        InputError: there is none; the message suggests the nearest name.
    """
    if callable(name) or ":" in name:
        return _own(name)
    for row in ALL:
        if row.name == name:
            return row
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names(), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"unknown backbone {name!r}", f"{hint}`imgclf backbones list` shows all")


def title(name: str) -> str:
    """How people call the network that a setting names; a network of the user's own need not be there any more."""
    return name if ":" in name else get(name).title


def _own(name: str | Callable[..., Any]) -> Backbone:
    title = name if isinstance(name, str) else getattr(name, "__qualname__", "own network")
    return Backbone(name="own", title=title, application="", variants=(Variant(1.0, 0),), default_size=224, min_size=16,
                    scaling="inside", cuts=(), default_unfreeze=0, builder=name)  # fmt: skip


def check_size(row: Backbone, size: int | tuple[int, int]) -> None:
    """Make sure that a backbone can take images of that size.

    Args:
        row: the backbone.
        size: side of a square, or (height, width), in pixels.

    Raises:
        InputError: a side is too small.
    """
    sides = (size, size) if isinstance(size, int) else size
    if min(sides) < row.min_size:
        raise InputError(
            f"{row.name} cannot take images of {sides[0]} x {sides[1]} pixels",
            f"expected {row.min_size} pixels or more a side; its default is {row.default_size} (--image-size)",
        )


def table() -> dict[str, list[dict[str, str | int | float]]]:
    """The table for printing: title to one dictionary per network, all of a title with the same keys."""
    return {
        "with ImageNet weights": [
            {
                "name": row.name,
                "title": row.title,
                "alpha": " ".join(f"{alpha:g}" for alpha in row.alphas) if len(row.alphas) > 1 else "",
                "image size": row.default_size,
                "smallest size": row.min_size,
                "parameters (M)": round(row.variant().parameters / 1e6, 2),
                "weights (MB)": row.variant().weights_mb,
                "blocks": len(row.cuts),
                "unfreezes": row.default_unfreeze,
                "licence": row.licence,
            }
            for row in pretrained.ROWS
        ],
        "from scratch": [
            {
                "name": row.name,
                "title": row.title,
                "image size": f"up to {row.default_size}",
                "smallest size": row.min_size,
                "parameters (M)": round(row.variant().parameters / 1e6, 2),
                "BatchNorm": "yes" if row.norm else "no",
                "optimizer": row.recipe.optimizer,
                "batch size": row.recipe.batch_size,
                "augmentation": row.recipe.augment,
            }
            for row in scratch.ROWS
        ],
    }
