"""Round-robin single-path training: the networks of a list take their turns, one a step.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search", 2020, arXiv 2001.01431: the order is fixed, so that the
network trained last is known at every step; or it is drawn again after every round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evonas.space import Population, SearchSpace
from supernet.data import Batch
from supernet.training.loop import Way


class OrderedPaths(Way):
    """One listed network a step, in turn.

    Args:
        population: the networks in their order, shape (n, choices).
        reshuffle: draw a new order after every round.
        label_smoothing: of the loss; the paper has none.
    """

    def __init__(self, population: Population, *, reshuffle: bool = False, label_smoothing: float = 0.0) -> None:
        self.population, self.reshuffle, self.label_smoothing = population, reshuffle, label_smoothing
        self._left: list[int] = []

    def step(self, network: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """See `Way.step`; `network` is a supernet."""
        path = self.paths(network.space, rng)[0]  # type: ignore[arg-type]
        images, labels = batch
        return cross_entropy(network(images, path).float(), labels, label_smoothing=self.label_smoothing)

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The path of the next step: shape (1, choices)."""
        if not self._left:
            n = len(self.population)
            self._left = (rng.permutation(n) if self.reshuffle else np.arange(n)).tolist()
        return self.population[[self._left.pop(0)]]

    def state_dict(self) -> dict[str, Any]:
        """What is left of the round."""
        return {"left": self._left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the round."""
        self._left = state["left"]
