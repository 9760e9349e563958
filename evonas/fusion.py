"""A fitness out of a dear score and cheap ones, on a scale that stays: the likelihood with inherited weights, MACs, number of operators.

What ranks the networks of NAS-Bench-Macro best is not the accuracy of a supernet but the likelihood of the labels, fused with what costs
nothing (docs/evidence/gap.md). Fused scores are sums of normal scores (`evonas.ranks.fused`), which depend on the company. Here the company
is a reference population, drawn once: a network's score is its own then, so that evolution, predictors and the dashboard can use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from evonas.budget import Cost
from evonas.ranks import NormalScale
from evonas.search import Scored
from evonas.space import Population

Both = Callable[[Population], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]


class FusedFitness:
    """The normal score of a likelihood plus the mean of those of cheap scores, all against a reference population.

    The two sides weigh the same, whatever the number of cheap scores: nothing has to be fitted to networks that were trained.

    Args:
        both: (accuracy, likelihood) of a population, such as `supernet.InheritedFitness.both`.
        cheap: more of each is taken to be better; none at all is possible.
        reference: architectures that make the scale, shape (n, choices): random ones of those that are searched.
        likelihood: of the reference, shape (n,).
    """

    def __init__(self, both: Both, cheap: Sequence[Cost], reference: Population, likelihood: npt.NDArray[np.float64]) -> None:
        self._both, self._cheap = both, cheap
        self._likelihood = NormalScale(likelihood)
        self._scales = [NormalScale(np.asarray(cost(reference), dtype=np.float64)) for cost in cheap]

    def __call__(self, population: Population) -> Scored:
        """Fused scores, with accuracy and likelihood beside them."""
        accuracy, likelihood = self._both(population)
        return Scored(self.fused(population, likelihood), {"accuracy": accuracy, "likelihood": likelihood})

    def fused(self, population: Population, likelihood: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The scores of networks whose likelihood is known: shape (n,)."""
        cheap = [scale(np.asarray(cost(population), dtype=np.float64)) for cost, scale in zip(self._cheap, self._scales, strict=True)]
        return np.asarray(self._likelihood(likelihood) + (np.mean(cheap, axis=0) if cheap else 0.0))


def fused_costs(costs: Mapping[str, Cost], operators: Cost) -> list[Cost]:
    """What a likelihood is fused with: the operations that are counted (MACs, or BitOps where all have as many), and the operators."""
    counted = [costs[name] for name in ("bitops", "macs") if name in costs][:1]
    return [*counted, operators]
