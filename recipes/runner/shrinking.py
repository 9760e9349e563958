"""Shrinking around any way of training, as recipes offer it (`supernet.shrinking`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from evonas import Budget
from supernet.shrinking.rounds import SCORES, Shrinking
from supernet.training.way import Way

NONE = "none"
LEFT = 1e6  # architectures

Shrink = Annotated[
    str,
    typer.Option(
        help=f"Drop the worst options after half of the supernet's training, as evonas abs does, by: {', '.join(SCORES)}; or none."
    ),
]


def shrunk(inner: Callable[[], Way], score: str, seed: int, **settings: Any) -> dict[str, Any]:
    """The fields of a `OneShot` about a way of training: `inner` alone, or shrinking around it by a score, within the budget.

    Raises:
        UsageError: an unknown score.
    """
    if score == NONE:
        return {"way": inner()}

    def within(limits: Budget | None) -> Way:
        return Shrinking(inner(), score=score, budget=limits, seed=seed, **settings)

    return {"way": within(None), "way_within": within}


def trained_as(score: str, **settings: Any) -> dict[str, Any]:
    """What a supernet that was shrunk has to agree on to be searched again; nothing where it was not."""
    return {} if score == NONE else {"shrink": score, **settings}
