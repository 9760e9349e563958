"""`SPACES`, the list of search spaces, and the decorator that puts one into it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from evonas.errors import UsageError
from evonas.registry import Entry, Registry
from supernet.chain import ChainSupernet
from supernet.family import Family

Make = Callable[..., Family]
M = TypeVar("M", bound=Make)


@dataclass(frozen=True)
class SpaceEntry(Entry[Callable[..., Any]]):
    """A search space; `make(image_shape, classes, **settings)` gives its supernet or, where it has none, its family.

    Attributes:
        supernet: whether its networks are trained as one.
    """

    supernet: bool = True


SPACES: Registry[SpaceEntry] = Registry("space", "supernet.spaces")


def space(name: str, *, summary: str, paper: str = "", supernet: bool = True) -> Callable[[M], M]:
    """Registers a function `(image_shape, classes, *, seed, **settings)` that gives a supernet.

    Its name is what `--space` takes and what a delivered `model.pt` is read by, so the settings have to be plain data. A family of networks
    that stand alone says `supernet=False` and takes no seed.
    """

    def register(make: M) -> M:
        SPACES.add(SpaceEntry(name, summary, paper, make, supernet))
        return make

    return register


def require_supernet(name: str) -> SpaceEntry:
    """A registered space whose networks are trained as one.

    Raises:
        UsageError: an unknown space, or one whose networks are trained on their own.
    """
    entry = SPACES.pick(name)
    if not entry.supernet:
        raise UsageError(f"The networks of the space {name} have no supernet; expected a space that has one (evonas list).")
    return entry


def supernet_of(name: str, image_shape: tuple[int, int, int], classes: int, **settings: Any) -> ChainSupernet:
    """The supernet of a registered space.

    Raises:
        UsageError: see `require_supernet`; settings that the space does not take; or what it gives is no supernet for so many classes.
    """
    make = require_supernet(name).make
    try:
        inspect.signature(make).bind(image_shape, classes, **settings)
    except TypeError as error:
        raise UsageError(f"The space {name} {error}; leave it out.") from None
    made = make(image_shape, classes, **settings)
    if not isinstance(made, ChainSupernet):
        raise UsageError(f"The space {name} gives {type(made).__name__}; expected a ChainSupernet.")
    if made.classes != classes:
        raise UsageError(f"The supernet of the space {name} gives {made.classes} logits for {classes} classes; expected as many.")
    return made
