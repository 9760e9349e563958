"""Uniform single-path training: every step draws one path, each equally likely, and trains nothing else.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evonas.space import Population, SearchSpace
from supernet.data import Batch
from supernet.training.loop import Way


class UniformPaths(Way):
    """One uniform path a step, cross-entropy with label smoothing.

    Args:
        label_smoothing: of the loss; the paper's.
    """

    def __init__(self, *, label_smoothing: float = 0.1) -> None:
        self.label_smoothing = label_smoothing

    def step(self, network: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """See `Way.step`; `network` is a supernet."""
        images, labels = batch
        path = self.paths(network.space, rng)[0]  # type: ignore[arg-type]
        return cross_entropy(network(images, path).float(), labels, label_smoothing=self.label_smoothing)

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The path of the next step: shape (1, choices)."""
        return space.sample(1, rng)
