"""Supernets by the name of their space, for commands that take `--space`."""

from __future__ import annotations

from typing import Any

from evonas.errors import UsageError
from supernet.chain import ChainSupernet
from supernet.spaces import SPACES


def supernet_of(space: str, image_shape: tuple[int, int, int], classes: int, **settings: Any) -> ChainSupernet:
    """The supernet of a registered space.

    Raises:
        UsageError: an unknown space, one whose networks are trained on their own, or settings that it does not take.
    """
    make = SPACES.pick(space).make
    try:
        made = make(image_shape, classes, **settings)
    except TypeError as error:
        raise UsageError(f"The space {space} takes no such settings: {str(error).split(') ')[-1]}. Leave them out.") from None
    if not isinstance(made, ChainSupernet):
        raise UsageError(f"The networks of the space {space} have no supernet; expected a space that has one (evonas list).")
    return made
