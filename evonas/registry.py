"""What a list of parts shows of each: explorers, search spaces, recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered part.

    Attributes:
        name: as users write it.
        summary: what it is, in a few words.
        paper: authors, year and identifier.
        make: gives the part, or runs it.
    """

    name: str
    summary: str
    paper: str
    make: T
