"""Uniform single-path training: every step draws one path, each equally likely, and trains nothing else.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from evonas.budget import Budget
from evonas.sampling import draw_feasible
from evonas.space import Population, SearchSpace
from supernet.training.paths import PathWay
from supernet.training.registry import way
from supernet.training.way import Losses, Moment

DRAWN_TOGETHER = 256


@way("uniform", summary="one uniform path a step", paper="Guo et al. 2019, arXiv 1904.00420")
class UniformPaths(PathWay):
    """One uniform path a step, cross-entropy with label smoothing.

    Args:
        label_smoothing: of the loss; the paper's.
        budget: only paths that keep it are drawn: no time goes into networks that the search may not choose. Any path without one.
    """

    def __init__(self, *, label_smoothing: float = 0.1, budget: Budget | None = None) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self._budget = budget
        self._drawn: list[np.ndarray] = []

    def step(self, network: Any, batch: Any, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        self.begin(moment)
        return super().step(network, batch, moment, rng)

    def begin(self, moment: Moment) -> None:
        """What was drawn in another epoch is forgotten, so that training goes on after a kill as it would have gone on without."""
        if moment.step * moment.epochs % moment.steps == 0:
            self._drawn = []

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The path of the next step: shape (1, choices)."""
        if self._budget is None:
            return space.sample(1, rng)
        if not self._drawn:
            self._drawn = list(draw_feasible(space, self._budget, DRAWN_TOGETHER, rng))
        return self._drawn.pop()[None]
