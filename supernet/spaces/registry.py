"""`SPACES`, the list of search spaces, and the decorator that puts one into it."""

from __future__ import annotations

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
    """Registers a function `(image_shape, classes, **settings)` that gives a supernet or a family of networks that stand alone.

    Its name is what `--space` takes and what a delivered `model.pt` is read by, so the settings have to be plain data.
    """

    def register(make: M) -> M:
        SPACES.add(SpaceEntry(name, summary, paper, make, supernet))
        return make

    return register


def supernet_of(name: str, image_shape: tuple[int, int, int], classes: int, **settings: Any) -> ChainSupernet:
    """The supernet of a registered space.

    Raises:
        UsageError: an unknown space, one whose networks are trained on their own, or settings that it does not take.
    """
    entry = SPACES.pick(name)
    if not entry.supernet:
        raise UsageError(f"The networks of the space {name} have no supernet; expected a space that has one (evonas list).")
    try:
        made: ChainSupernet = entry.make(image_shape, classes, **settings)
    except TypeError as error:
        raise UsageError(f"The space {name} {str(error).split(') ')[-1]}; leave it out.") from None
    return made
