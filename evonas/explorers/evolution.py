"""Evolution in generations, as Single Path One-Shot NAS searches its supernet.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420.

Departures: the parents are the best of *all* trials of the study, which is the paper's all-time list computed from its
records; children are drawn in chunks rather than one at a time, which changes no probability.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evonas.budget import Budget
from evonas.errors import UsageError
from evonas.explorers.base import Explorer, require
from evonas.explorers.variation import UNIFORM, Mate, Mutate, Variation, breed, redraw
from evonas.sampling import Collector
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History


class EvolutionExplorer(Explorer):
    """The first generation is random (or descends from `first`); every later one is half mutants and half crossovers of the all-time best.

    The sound default for a few hundred to a few thousand evaluations with cheap fitness. Where evaluations are dear, put a
    predictor in front of it (`ScreenedExplorer`). No candidate is proposed twice; infeasible ones are redrawn, at most ten
    times as many as wanted, and what is missing then is filled with random feasible architectures.

    Args:
        space: what is explored.
        budget: bounds that every proposal keeps.
        seed: seeds every generation together with its number.
        population: trials in a generation.
        parents: size of the all-time list that children descend from.
        mutants: children by mutation in a full generation.
        crossovers: children by uniform crossover in a full generation.
        mutation_probability: chance of every choice of a mutant to be redrawn.
        mutate: DEAP's operator that makes mutants, in place of redrawing choices with that probability.
        mate: DEAP's operator that makes crossovers.
        first: architectures to try before anything else, see `Explorer`.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        seed: int = 0,
        population: int = 50,
        parents: int = 10,
        mutants: int = 25,
        crossovers: int = 25,
        mutation_probability: float = 0.1,
        mutate: Mutate | None = None,
        mate: Mate = UNIFORM,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        require(
            type(self),
            at_least_one={"population": population, "parents": parents},
            probability={"mutation_probability": mutation_probability},
        )
        if min(mutants, crossovers) < 0 or mutants + crossovers > population:
            raise UsageError(
                f"EvolutionExplorer got {mutants} mutants and {crossovers} crossovers in a population of {population}; "
                f"expected at least 0 of each, and no more than the population together."
            )
        super().__init__(space, budget, seed=seed, generation_size=population, first=first)
        self.parents = parents
        self.mutants = mutants
        self.crossovers = crossovers
        self.mutation_probability = mutation_probability
        self.mutate = mutate
        self.mate = mate

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`; a size other than the population keeps the shares of mutants and crossovers."""
        rng = self.rng(start)
        history = history.before(start)
        collector = Collector(self.space, self.budget, history.keys)
        variation = Variation(self.space, history.population[history.scored[: self.parents]])
        if len(variation):
            mutants, crossovers = (int(np.ceil(size * n / self.generation_size)) for n in (self.mutants, self.crossovers))
            mutate = self.mutate or redraw(self.mutation_probability)
            breed(collector, min(mutants, size), lambda n: variation.mutants(n, rng, mutate))
            breed(collector, min(crossovers, size - len(collector)), lambda n: variation.crossovers(n, rng, self.mate))
        collector.draw(size - len(collector), rng)
        return collector.population()
