"""DARTS, first order: the mixture of all options is trained as a whole, and the weights of the options learn beside it.

Liu et al., "DARTS: Differentiable Architecture Search", 2018, arXiv 1806.09055. A step trains the network's weights through the mixture;
after it the weights of the options take a step of Adam on held-out images. The result is `supernet.mixing.strongest` of what was learned.
With `edge_normalisation`, in a space whose operators see a part of the channels (`darts(share=4)`), it is PC-DARTS (Xu et al., 2019,
arXiv 1907.05737).

Departures: first order only (the paper's second order costs twice the time and ended level with it on CIFAR-10); the held-out images are a
slice of *train*; loss with label smoothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from evonas.space import SearchSpace
from supernet.blocks import Mixture
from supernet.data import Batch, Part
from supernet.training.architecture_weights import ArchitectureWeights, recorded
from supernet.training.registry import way
from supernet.training.way import Moment, Record, Way


@way(
    "learned-mixtures",
    summary="a mixture of all options whose weights are learned",
    paper="Liu et al. 2018, arXiv 1806.09055",
    make=lambda supernet: LearnedMixtures(supernet.space),
)
class LearnedMixtures(Way):
    """One mixture for all images and steps, which learns its weights.

    Args:
        space: of the supernet.
        held_out: share of the training images that the weights of the options learn from.
        label_smoothing: of the network's loss.
        keep: edges that a node of the recommended architecture keeps; None for the heaviest option of every choice.
        architecture_lr, architecture_weight_decay: of Adam.
        warmup: share of the epochs in which the network is trained alone.
        edge_normalisation: see the module.
        seed: of the first weights of the options.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        held_out: float = 0.5,
        label_smoothing: float = 0.1,
        keep: int | None = None,
        architecture_lr: float = 3e-4,
        architecture_weight_decay: float = 1e-3,
        warmup: float = 0.0,
        edge_normalisation: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.held_out, self.label_smoothing, self.keep, self.warmup = held_out, label_smoothing, keep, warmup
        self.weights = ArchitectureWeights(
            space, lr=architecture_lr, weight_decay=architecture_weight_decay, edge_normalisation=edge_normalisation, seed=seed
        )

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor:
        """See `Way.step`; `network` is a supernet whose options can be mixed."""
        images, labels = batch
        fixed = Mixture([weights.detach() for weights in self.weights.mixture(network).weights])
        return cross_entropy(network(images, fixed).float(), labels, label_smoothing=self.label_smoothing)

    def after_step(self, network: Any, batch: Batch, held_out: Batch | None, moment: Moment, rng: np.random.Generator) -> None:
        """The step of the options' weights; see `Way.after_step`."""
        assert held_out is not None
        if moment.epoch >= int(self.warmup * moment.epochs):
            self.weights.learn(network, held_out)

    def record(self, network: Any, held_out: Part | None, moment: Moment) -> Record:
        """The architecture that the weights stand for, its accuracy on the held-out images with the mixture's weights, and all of them."""
        assert held_out is not None
        return recorded(network, held_out, self.weights.derived(network, self.keep), self.weights.distribution(network.space))
