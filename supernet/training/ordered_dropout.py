"""Ordered dropout: a width for every image of a batch, so that one forward-backward pass trains many networks.

Yang, Liao and Sze, "NetAdaptV2", 2021, arXiv 2104.00031. Every image draws the filters of every block, uniformly; what lies beyond an
image's filters is dropped from the end, never at random places, so that narrow networks are the leading parts of wide ones.

Decided where the paper is silent: choices that are no widths (kernels) cannot be masked and are drawn once for a group of images, one group
unless told otherwise; batch norm takes its statistics over all images, whatever their widths, since whatever is scored takes them anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from evonas.space import Population
from supernet.chain import ChainSupernet
from supernet.data import Batch
from supernet.training import team
from supernet.training.registry import way
from supernet.training.way import Losses, Moment, Way


@way("ordered-dropout", summary="a width for every image of a batch", paper="Yang et al. 2021, arXiv 2104.00031")
class OrderedDropout(Way):
    """A network for every image, widths by masks, cross-entropy with label smoothing.

    In a supernet without widths that are masked (`Block.masked_by`), every group of images has one uniform path.

    Args:
        groups: of images that share what cannot be masked.
        label_smoothing: of the loss.
    """

    def __init__(self, *, groups: int = 1, label_smoothing: float = 0.1) -> None:
        super().__init__()
        self.groups, self.label_smoothing = groups, label_smoothing

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        images, labels = batch
        rows = self.paths(network, len(images) * team.size(), rng)
        mine = rows[team.rank() :: team.size()]
        path = mine[0] if (mine == mine[0]).all() else mine
        return cross_entropy(network(images, path).float(), labels, label_smoothing=self.label_smoothing)

    def paths(self, network: ChainSupernet, images: int, rng: np.random.Generator) -> Population:
        """A path for every image: shape (images, choices)."""
        masked = [network.space.names.index(name) for block in network.chain for name in block.masked_by]
        group = np.arange(images) * self.groups // images
        space = network.space
        if not masked:
            return space.sample(self.groups, rng)[group]

        def draw(count: int) -> Population:  # kernels as they are drawn, also where an image has nothing that they could be the kernel of
            return space.from_ranks(rng.integers(0, space.allowed_counts, size=(count, len(space))))

        rows = draw(self.groups)[group]
        rows[:, masked] = draw(images)[:, masked]
        return rows
