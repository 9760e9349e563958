"""`SPACES`, the list of search spaces, and the decorator that puts one into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from evonas.registry import Entry, Registry
from supernet.family import Family

Make = Callable[..., Family]
M = TypeVar("M", bound=Make)

SPACES: Registry[Entry[Any]] = Registry("space", "supernet.spaces")


def space(name: str, *, summary: str, paper: str = "") -> Callable[[M], M]:
    """Registers a function `(image_shape, classes, **settings)` that gives a supernet or a family of networks that stand alone.

    Its name is what `--space` takes and what a delivered `model.pt` is read by, so the settings have to be plain data.
    """

    def register(make: M) -> M:
        SPACES.add(Entry(name, summary, paper, make))
        return make

    return register
