"""Round-robin single-path training: the networks of a list take their turns, one a step.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search", 2020, arXiv 2001.01431: the order is fixed, so that the
network trained last is known at every step; or it is drawn again after every round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from supernet.training.paths import PathWay
from supernet.training.registry import way


@way(
    "ordered",
    summary="listed networks in turn; 64 random ones unless listed",
    paper="Zhang et al. 2020, arXiv 2001.01431",
    make=lambda supernet: OrderedPaths(supernet.space.sample(64, np.random.default_rng(0))),
)
class OrderedPaths(PathWay):
    """One listed network a step, in turn.

    Args:
        population: the networks in their order, shape (n, choices).
        reshuffle: draw a new order after every round.
        label_smoothing: of the loss; the paper has none.
    """

    def __init__(self, population: Population, *, reshuffle: bool = False, label_smoothing: float = 0.0) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self.population, self.reshuffle = population, reshuffle
        self._left: list[int] = []

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The path of the next step: shape (1, choices); networks that the space does not allow lose their turns.

        Raises:
            UsageError: it allows none of them.
        """
        inside = space.contains(self.population)
        self._left = [row for row in self._left if inside[row]]
        if not self._left:
            rows = np.flatnonzero(inside)
            if not len(rows):
                raise UsageError(f"None of the {len(self.population)} listed networks is in the space; expected one that is allowed.")
            self._left = (rng.permutation(rows) if self.reshuffle else rows).tolist()
        return self.population[[self._left.pop(0)]]

    def get_extra_state(self) -> dict[str, Any]:
        """What is left of the round."""
        return {"left": self._left}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back the round."""
        self._left = state["left"]
