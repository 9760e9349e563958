"""Paths that learn from a trained network: every path of a step by the labels and by the probabilities of a teacher that stays as it is.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531, on every path, as Li et al., "Blockwisely Supervised
Neural Architecture Search with Knowledge Distillation", 2020, arXiv 1911.13053, teach the blocks of a supernet from outside. Where a
network is given, nothing has to be trained that is larger than what may be chosen: all paths keep a budget, so that a step costs what a few
of the networks cost that are searched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evonas.budget import Budget
from evonas.space import Population, SearchSpace
from supernet.data import Batch
from supernet.training.distilled import divergence, softened
from supernet.training.uniform import UniformPaths
from supernet.training.way import Losses, Moment


class TaughtPaths(UniformPaths):
    """A few random paths a step, taught by a fixed network.

    Args:
        teacher: trained; images in, logits out. No checkpoint holds it.
        together: paths of a step.
        weight: share of the teacher in the loss.
        temperature: that both sides' logits are divided by.
        label_smoothing, budget: as in `UniformPaths`.
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        together: int = 2,
        weight: float = 0.5,
        temperature: float = 2.0,
        label_smoothing: float = 0.1,
        budget: Budget | None = None,
    ) -> None:
        super().__init__(label_smoothing=label_smoothing, budget=budget)
        self._teacher = (teacher,)  # no part of the way: what a way owns is trained, and kept in every checkpoint
        self.together, self.weight, self.temperature = together, weight, temperature

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The paths of the next step: shape (together, choices)."""
        return np.concatenate([super(TaughtPaths, self).paths(space, rng) for _ in range(self.together)])

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        images, labels = batch
        self.begin(moment)
        taught = softened(self._teacher[0], images, self.temperature)
        by_labels, by_teacher = [], []
        for path in self.paths(self.opened(network.space, moment), rng):
            logits = network(images, path).float()
            by_labels.append(cross_entropy(logits, labels, label_smoothing=self.label_smoothing))
            by_teacher.append(divergence(logits, taught, self.temperature))
        return {
            "labels": (1 - self.weight) * torch.stack(by_labels).mean(),
            "teacher": self.weight * self.temperature**2 * torch.stack(by_teacher).mean(),
        }
