"""Strictly fair single-path training: in every step each option of a choice is trained equally often.

Chu et al., "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural Architecture Search", 2019, arXiv 1907.01845. A step runs
as many paths over one batch as there are options and updates once: no option is ahead of another by more than the step in hand,
where uniform paths leave that to chance.

Departure: choices may differ in their number of options. Each choice deals its options from a shuffled deck and shuffles again when
that is empty, so that its options never differ by more than one path; with equal numbers this is the paper's permutation a step.
Equal networks under different names (`space.canonical`) are trained as dealt, since renaming them would undo the balance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evonas.space import Population, SearchSpace
from supernet.training.paths import PathWay
from supernet.training.registry import way


@way("fair", summary="every option equally often", paper="Chu et al. 2019, arXiv 1907.01845")
class FairPaths(PathWay):
    """As many paths a step as the largest choice has options; the sum of their cross-entropies, as the paper adds gradients.

    Args:
        label_smoothing: of the loss.
    """

    def __init__(self, *, label_smoothing: float = 0.1) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self._decks: list[list[int]] = []

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The paths of the next step: shape (largest number of options, choices)."""
        decks = self._decks or [[] for _ in space.allowed]
        rows = np.empty((max(map(len, space.allowed)), len(space)), dtype=np.int64)
        for row in rows:
            for column, options in enumerate(space.allowed):
                deck = [option for option in decks[column] if option in options] or rng.permutation(options).tolist()
                row[column], decks[column] = deck[0], deck[1:]
        self._decks = decks
        return rows

    def get_extra_state(self) -> dict[str, Any]:
        """What is left of the decks."""
        return {"decks": self._decks}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back the decks."""
        self._decks = state["decks"]
