"""SETN: a template trained by uniform paths, and beside it an evaluator that learns which paths are worth evaluating.

Dong and Yang, "One-Shot Neural Architecture Search via Self-Evaluated Template Network", 2019, arXiv 1910.05733. The evaluator is a
categorical distribution for every choice; its product says how likely an architecture is a good one. After every step of the template
it learns from held-out images through the mixture of all options, weighted by its probabilities, with the template's weights fixed.

Open in the paper and decided: the gradient of the evaluator goes through the whole mixture, as in the released code. Departures: the
held-out images are a slice of the training images (the code takes half of the *test* set on two of its three data sets); paths that lead
from no input to the output are drawn again; loss with label smoothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evonas.space import Population, SearchSpace
from supernet.data import Batch, Part
from supernet.training.architecture_weights import ArchitectureWeights, recorded
from supernet.training.paths import connected
from supernet.training.registry import way
from supernet.training.uniform import UniformPaths
from supernet.training.way import Moment, Record


@way(
    "self-evaluated",
    summary="uniform paths, and an evaluator that learns beside them",
    paper="Dong & Yang 2019, arXiv 1910.05733",
    make=lambda supernet: SelfEvaluated(supernet.space),
)
class SelfEvaluated(UniformPaths):
    """Uniform paths with an evaluator.

    Args:
        space: of the supernet.
        held_out: share of the training images that the evaluator learns from; the paper's half.
        label_smoothing: of the template's loss.
        evaluator_lr, evaluator_weight_decay: of its Adam; the released code's. After a few thousand steps its rate has hardly moved a
            logit: trainings of minutes need a higher one.
        warmup: share of the epochs in which the template is trained alone. 0 in the paper; a step of the evaluator takes as long as four
            of the template, which an untrained template does not repay.
        seed: of the evaluator's first logits.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        held_out: float = 0.5,
        label_smoothing: float = 0.1,
        evaluator_lr: float = 3e-4,
        evaluator_weight_decay: float = 1e-3,
        warmup: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self.held_out, self.warmup = held_out, warmup
        self.evaluator = ArchitectureWeights(space, lr=evaluator_lr, weight_decay=evaluator_weight_decay, seed=seed)

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """One uniform path that leads from the input to the output, where the space says how its choices are wired."""
        draw = super().paths
        return connected(space, lambda: draw(space, rng))

    def after_step(self, network: Any, batch: Batch, held_out: Batch | None, moment: Moment, rng: np.random.Generator) -> None:
        """The evaluator's step; see `Way.after_step`."""
        assert held_out is not None
        if moment.epoch >= int(self.warmup * moment.epochs):
            self.evaluator.learn(network, held_out)

    def record(self, network: Any, held_out: Part | None, moment: Moment) -> Record:
        """The most probable architecture, its accuracy on the held-out images with inherited weights, and the evaluator's distribution."""
        assert held_out is not None
        return recorded(network, held_out, self.evaluator.derived(network, None), self.evaluator.distribution(network.space))
