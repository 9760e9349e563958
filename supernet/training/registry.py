"""`WAYS`, the list of ways of training a supernet, and the decorator that puts one into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from evonas.registry import Entry, Registry
from supernet.chain import ChainSupernet
from supernet.training.way import Way

Make = Callable[[ChainSupernet], Way]
C = TypeVar("C", bound=type[Way])

WAYS: Registry[Entry[Make]] = Registry("way", "supernet.training")


def way(name: str, *, summary: str, paper: str = "", make: Make | None = None) -> Callable[[C], C]:
    """Registers a way of training.

    Args:
        name, summary, paper: as in `evonas.registry.Entry`.
        make: gives one for a supernet; the class without arguments unless told otherwise.
    """

    def register(kind: C) -> C:
        def plain(supernet: ChainSupernet) -> Way:
            return kind()

        plain.__module__, plain.__qualname__ = kind.__module__, kind.__qualname__
        WAYS.add(Entry(name, summary, paper, make or plain))
        return kind

    return register
