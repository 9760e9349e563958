"""What recipes that search cells have in common on the command line: which cells, how many, how wide."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import typer

from evonas.errors import UsageError, unknown
from recipes.runner import options as o

SPACES = ("nasbench201", "darts")
SMALL_IMAGES = 24  # pixels

Space = Annotated[str, typer.Option(help="Cells: nasbench201 (6 edges, 5 operators) or darts (14 edges, 7 or 8 operators).")]
Channels = Annotated[int | None, typer.Option(help="Of the first cells; 8 for images up to 24 pixels and 16 for others.", min=4)]
CellsOption = Annotated[
    int | None,
    typer.Option(
        "--cells",
        help="nasbench201: in each of three stages (1 for images up to 24 pixels, 5 for others). darts: in all, from 3 on (3, or 8).",
        min=1,
    ),
]


def known(space: str) -> None:
    """Refuse a space without cells.

    Raises:
        UsageError: it has none.
    """
    if space not in SPACES:
        raise unknown("space", space, SPACES)


def settings(
    space: str, channels: int | None, cells: int | None, image_shape: tuple[int, int, int], of_darts: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of a space, as plain data.

    Args:
        space: one of `SPACES`.
        channels, cells: as on the command line.
        image_shape: (channels, height, width).
        of_darts: more for that space.

    Raises:
        UsageError: too few cells.
    """
    small = min(image_shape[1:]) <= SMALL_IMAGES
    first = channels or (8 if small else 16)
    if space == "nasbench201":
        return {"widths": [first, 2 * first, 4 * first], "cells": cells or (1 if small else 5)}
    if cells is not None and cells < 3:
        raise UsageError(f"Got --cells {cells}; expected at least 3 for the space darts, two of which halve the map.")
    return {"channels": first, "cells": cells or (3 if small else 8), **of_darts}


def training(batch_size: int, lr: float | None, image_shape: tuple[int, int, int], seed: int, device: torch.device) -> dict[str, Any]:
    """Settings that supernets of cells and their winners are trained with; the learning rate by the image size unless told."""
    rate = o.rate_by_size(image_shape) if lr is None else lr
    return {"batch_size": batch_size, "lr": rate, "weight_decay": 5e-4, "seed": seed, "device": device}
