"""The sandwich rule: in every step the largest path, the smallest, and random ones between, which learn from the largest.

Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", 2019, arXiv 1903.05134, for widths; Yu et al., "BigNAS",
2020, arXiv 2003.11142, for whole spaces. The largest path learns from the labels; the others from its probabilities in the same step
(in-place distillation), which do not get a gradient.

Departure: with a budget, the largest and the smallest are those that keep it, and so are the random ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evonas.budget import Budget, Cost
from evonas.extremes import cheapest_and_dearest
from evonas.space import Population, SearchSpace
from evonas.tables import Shape, tabulate
from supernet.chain import ChainSupernet
from supernet.data import Batch
from supernet.training.registry import way
from supernet.training.uniform import UniformPaths
from supernet.training.way import Losses, Moment


def weights(module: nn.Module, input_shape: Shape) -> float:
    """Number of weights of a module."""
    return float(sum(parameter.numel() for parameter in module.parameters()))


def _for(supernet: ChainSupernet) -> Sandwich:
    return Sandwich(tabulate(supernet.space, supernet.parts(), weights))


@way("sandwich", summary="largest, smallest, random paths, with distillation", paper="Yu et al. 2020, arXiv 2003.11142", make=_for)
class Sandwich(UniformPaths):
    """The largest, the smallest and random paths in every step.

    Args:
        size: says what is large, such as MACs.
        random: paths between the two; the paper's.
        label_smoothing: of the largest path's loss.
        budget: all paths keep it.
    """

    def __init__(self, size: Cost, *, random: int = 2, label_smoothing: float = 0.1, budget: Budget | None = None) -> None:
        super().__init__(label_smoothing=label_smoothing, budget=budget)
        self._size, self.random = size, random
        self._ends: tuple[tuple[tuple[int, ...], ...], Population] | None = None

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The largest path, the smallest, and the random ones: shape (2 + random, choices)."""
        if self._ends is None or self._ends[0] != space.allowed:
            ends = cheapest_and_dearest(space, self._size, self._budget or Budget())
            self._ends = (space.allowed, ends[::-1])
        drawn = [super(Sandwich, self).paths(space, rng) for _ in range(self.random)]
        return np.concatenate([self._ends[1], *drawn])

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        images, labels = batch
        self.begin(moment)
        largest, *others = self.paths(self.opened(network.space, moment), rng)
        logits = network(images, largest).float()
        losses = [cross_entropy(logits, labels, label_smoothing=self.label_smoothing)]
        taught = logits.detach().softmax(1)
        losses += [cross_entropy(network(images, path).float(), taught) for path in others]
        return sum(losses[1:], losses[0])
