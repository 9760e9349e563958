"""Training mixtures of all options, the other way to train a supernet: what differentiable search does, here with random gates.

Liu et al., "DARTS: Differentiable Architecture Search", 2018, arXiv 1806.09055, trains sums of all options and keeps one of each in
the end; what is lost then is the discretisation loss (Xie et al., 2020, arXiv 2008.01475). Here gates are not learned: every step draws
them from the uniform Dirichlet distribution, so that weights fit mixtures in general. `supernet.diagnosis.causes` measures what their paths
are worth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from evonas.space import SearchSpace
from supernet.blocks import Mixture
from supernet.data import Batch
from supernet.training.registry import way
from supernet.training.way import Moment, Way


def draw_gates(space: SearchSpace, rng: np.random.Generator, device: torch.device) -> list[Tensor]:
    """Random weights of a mixture: for every choice a vector, shape (options,), that adds up to 1; options not allowed get 0."""
    gates = []
    for choice, allowed in zip(space.choices, space.allowed, strict=True):
        weights = np.zeros(len(choice.options), dtype=np.float32)
        weights[list(allowed)] = rng.dirichlet(np.ones(len(allowed)))
        gates.append(torch.from_numpy(weights).to(device))
    return gates


@way("mixtures", summary="random mixtures of all options", paper="Liu et al. 2018, arXiv 1806.09055")
class Mixtures(Way):
    """One random mixture a step.

    Args:
        label_smoothing: of the loss.
    """

    def __init__(self, *, label_smoothing: float = 0.1) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor:
        """See `Way.step`; `network` is a supernet whose options can be mixed."""
        images, labels = batch
        gates = Mixture(draw_gates(network.space, rng, images.device))
        return cross_entropy(network(images, gates).float(), labels, label_smoothing=self.label_smoothing)
