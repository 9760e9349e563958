"""The board of prioritised paths: the few best paths that training has met so far, with what they cost.

Peng et al., "Cream of the Crop: Distilling Prioritized Paths For One-Shot Neural Architecture Search", 2020, arXiv 2010.15821. A path gets
onto a full board in place of the worst one, if it is clearly more accurate, or more accurate and cheaper.

Departures: accuracies are of images that nobody trains on, and of the same ones, with the same weights, for both that are compared (the
released code compares each path's accuracy on the one training batch that it met, for ever); a path stands on the board once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from evonas.space import Architecture


@dataclass(frozen=True)
class Entry:
    """A path on the board.

    Attributes:
        path: an option a choice.
        accuracy: on held-out images, in [0, 1], when it was measured last.
        cost: its complexity.
    """

    path: Architecture
    accuracy: float
    cost: float


class Board:
    """Prioritised paths, the best first.

    Args:
        size: most entries (K).
        gap: a more complex path has to be more accurate by more than this.
    """

    def __init__(self, size: int = 10, gap: float = 0.05) -> None:
        self.size, self.gap = size, gap
        self.entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def full(self) -> bool:
        """Whether a path has to push another one off."""
        return len(self.entries) >= self.size

    @property
    def worst(self) -> Entry:
        """The last entry."""
        return self.entries[-1]

    def holds(self, path: Architecture) -> bool:
        """Whether a path is on the board."""
        return any(entry.path == path for entry in self.entries)

    def offer(self, new: Entry, against: float | None = None) -> bool:
        """Take a path in, if there is room or it beats the worst one.

        Args:
            new: the path.
            against: the accuracy of the worst entry where `new` was measured; what it was when it was measured last otherwise.

        Returns:
            Whether it is on the board now.
        """
        if self.holds(new.path):
            return False
        if self.full:
            bound = self.worst.accuracy if against is None else against
            if not (new.accuracy > bound + self.gap or (new.accuracy > bound and new.cost < self.worst.cost)):
                return False
            self.entries.pop()
        self.entries.append(new)
        self._sort()
        return True

    def measure(self, accuracy: Callable[[Architecture], float]) -> None:
        """Measure all entries anew: weights have moved since they came."""
        self.entries = [replace(entry, accuracy=accuracy(entry.path)) for entry in self.entries]
        self._sort()

    def plain(self) -> list[list[Any]]:
        """As plain data."""
        return [[list(entry.path), entry.accuracy, entry.cost] for entry in self.entries]

    def restore(self, plain: list[list[Any]]) -> None:
        """See `plain`."""
        self.entries = [Entry(tuple(path), accuracy, cost) for path, accuracy, cost in plain]

    def _sort(self) -> None:
        self.entries.sort(key=lambda entry: (-entry.accuracy, entry.cost, entry.path))
