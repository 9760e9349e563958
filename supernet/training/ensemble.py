"""Training ensembles: every member learns by itself from the labels, a random ensemble a step; and one ensemble on its own.

Chen, Fu and Ling, "One-Shot Neural Ensemble Architecture Search", 2021, arXiv 2104.00597: the loss is the sum of those of the members' own
logits, not that of their mean, and all of it is one step; what comes back to the trunk is the mean (`supernet.ensemble_block`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evonas.errors import UsageError
from supernet.data import Batch
from supernet.ensemble_block import Heads
from supernet.training.standalone import StandAlone
from supernet.training.uniform import UniformPaths
from supernet.training.way import Losses, Moment


def members_of(modules: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Logits of all members of an ensemble, shape (members, n, classes).

    Args:
        modules: of the ensemble in order, the heads last.
        images: shape (n, channels, height, width).

    Raises:
        UsageError: the last module has no heads of members.
    """
    *body, heads = modules
    if not isinstance(heads, Heads):
        raise UsageError(f"The network ends with {type(heads).__name__}; expected the heads of an ensemble (space ensemble).")
    value: Any = images
    for module in body:
        value = module(value)
    return heads.members(value)


def sum_of_losses(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """The cross-entropy of every member, their sum; logits of shape (members, n, classes)."""
    return len(logits) * cross_entropy(logits.float().flatten(0, 1), labels.repeat(len(logits)), label_smoothing=label_smoothing)


class EnsemblePaths(UniformPaths):
    """A uniform ensemble a step; all members learn from the labels.

    Args:
        label_smoothing, budget: see `UniformPaths`.
    """

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        images, labels = batch
        self.begin(moment)
        (path,) = self.paths(network.space, rng)
        return sum_of_losses(members_of(network.active(path), images), labels, self.label_smoothing)


class EnsembleAlone(StandAlone):
    """An ensemble on its own, as one network; all members learn from the labels.

    Args:
        label_smoothing: of the loss.
    """

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        images, labels = batch
        return sum_of_losses(members_of(list(network), images), labels, self.label_smoothing)
