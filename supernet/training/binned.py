"""Paths that are uniform over what they cost: every step first draws a range of the cost, then a path inside of it.

What the released trainer of Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420,
does: seven ranges of 10 M MACs, and at most 500 uniform paths until one is inside. The paper's text has plain uniform paths and calls
the constrained ones slightly better. Departure: where none is inside, the nearest of the 500 is taken, not just any.
"""

from __future__ import annotations

import numpy as np

from evonas.budget import Cost
from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from supernet.training.uniform import UniformPaths


def usual_range(space: SearchSpace, cost: Cost) -> tuple[float, float]:
    """The ends between which all but two in a thousand random architectures cost; 290 M and 363 M MACs in the paper's space."""
    low, high = np.quantile(cost(space.sample(10_000, np.random.default_rng(0))), [0.001, 0.999])
    return float(low), float(high)


class BinnedPaths(UniformPaths):
    """One path a step, from a range of the cost that is drawn uniformly.

    Args:
        cost: of a population.
        lower, upper: ends of all ranges together, in units of the cost; 290e6 and 360e6 MACs in the released code.
        bins: number of ranges, all equally large.
        tries: paths drawn at most.
        label_smoothing: of the loss.

    Raises:
        UsageError: an upper end that is not above the lower one.
    """

    def __init__(self, cost: Cost, lower: float, upper: float, *, bins: int = 7, tries: int = 500, label_smoothing: float = 0.1) -> None:
        super().__init__(label_smoothing=label_smoothing)
        if not lower < upper:
            raise UsageError(f"Got the ends {lower:.4g} and {upper:.4g} of a cost; expected the first to be the smaller.")
        self.cost, self.edges, self.tries = cost, np.linspace(lower, upper, bins + 1), tries

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """The path of the next step: shape (1, choices)."""
        bin_ = int(rng.integers(len(self.edges) - 1))
        population = space.sample(self.tries, rng)
        costs = np.asarray(self.cost(population))
        outside = np.maximum(np.maximum(self.edges[bin_] - costs, costs - self.edges[bin_ + 1]), 0)
        return population[[int(outside.argmin())]]  # the first one inside, where there is any
