"""NSGA-II: the front of accuracy against costs instead of one winner.

Deb, Pratap, Agarwal and Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on
Evolutionary Computation 6(2), 2002; selection is DEAP's.

Departures: the survivors are selected from all trials of the study rather than from the last parents and children. The front itself is the
same, and the explorer needs no memory of its own. The first generation is spread over the range of costs, which are known before anything
is scored: of many random networks those at even ranks. Generations are of 20: of a few hundred queries, fifty at random are many.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from deap import base, tools

from evonas.budget import Budget
from evonas.errors import UsageError, unknown
from evonas.explorers.base import Explorer, require
from evonas.explorers.variation import UNIFORM, Mate, Mutate, Variation, breed, deap_random, redraw
from evonas.sampling import Collector, draw_feasible
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History

CANDIDATES = 10  # random networks for each of the first generation


class ParetoExplorer(Explorer):
    """Proposes children of the architectures that no other beats in accuracy and in every named cost.

    Use it to see what each budget would buy before choosing one; for one given budget `EvolutionExplorer` finds better networks.
    The study keeps accuracy as its value and the costs as attributes.

    Args:
        space: what is explored.
        budget: bounds that every proposal keeps; it also knows the costs.
        costs: names of the costs to be minimised beside accuracy; all of the budget's unless told otherwise.
        seed: seeds every generation together with its number.
        population: trials in a generation, and survivors that children descend from.
        crossover_probability: share of the children made by uniform crossover before they are mutated.
        mutation_probability: chance of every choice of a child to be redrawn; 1 / choices unless told otherwise.
        mutate: DEAP's operator that every child goes through, in place of redrawing choices with that probability.
        mate: DEAP's operator that makes crossovers.
        first: architectures to try before anything else, see `Explorer`.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        costs: Sequence[str] | None = None,
        seed: int = 0,
        population: int = 20,
        crossover_probability: float = 0.9,
        mutation_probability: float | None = None,
        mutate: Mutate | None = None,
        mate: Mate = UNIFORM,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        chances = {"crossover_probability": crossover_probability, "mutation_probability": mutation_probability}
        require(type(self), at_least_one={"population": population}, probability=chances)
        super().__init__(space, budget, seed=seed, generation_size=population, first=first)
        self.mutate = mutate
        self.mate = mate
        self.costs = tuple(self.budget.costs if costs is None else costs)
        self.crossover_probability = crossover_probability
        self.mutation_probability = mutation_probability
        if not self.costs:
            raise UsageError("ParetoExplorer weighs accuracy against costs and got none; expected a budget that knows one or more.")
        for name in self.costs:
            if name not in self.budget.costs:
                raise unknown("cost", name, self.budget.costs)

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`."""
        rng = self.rng(start)
        history = history.before(start)
        collector = Collector(self.space, self.budget, history.keys)
        if len(history.scored):
            probability = self.mutation_probability or 1 / len(self.space)
            parents = Variation(self.space, self._tournaments(history, 2 * size, rng))
            if len(parents):
                breed(collector, size, lambda n: self._children(parents, n, probability, rng))
        else:
            collector.take(self._spread(size, rng), size)
        collector.draw(size - len(collector), rng)
        return collector.population()

    def _spread(self, size: int, rng: np.random.Generator) -> Population:
        """Random networks at even ranks of the mean rank by all costs, in random order: shape (at most size, choices)."""
        rows = draw_feasible(self.space, self.budget, CANDIDATES * size, rng)
        if not len(rows):
            return rows
        ranks = [np.asarray(self.budget.costs[name](rows)).argsort(kind="stable").argsort() for name in self.costs]
        order = np.mean(ranks, axis=0).argsort(kind="stable")
        return rows[rng.permutation(order[np.linspace(0, len(order) - 1, min(size, len(order))).round().astype(int)])]

    def _children(self, parents: Variation, n: int, probability: float, rng: np.random.Generator) -> Population:
        crossed = int(rng.binomial(n, self.crossover_probability))
        children = np.concatenate([parents.crossovers(crossed, rng, self.mate), parents.mutants(n - crossed, rng, redraw(0.0))])
        if self.mutate is not None:
            return Variation(self.space, children).each(rng, self.mutate)
        redrawn = rng.random(children.shape) < probability
        return np.where(redrawn, self.space.from_ranks(rng.integers(0, self.space.allowed_counts, size=children.shape)), children)

    def _tournaments(self, history: History, n: int, rng: np.random.Generator) -> Population:
        """`n` parents by binary tournaments on front and crowding among the survivors."""
        individuals = _individuals(history, self.budget, self.costs)
        survivors = tools.selNSGA2(individuals, min(self.generation_size, len(individuals)), nd="log")
        with deap_random(rng):
            chosen = [
                tools.selTournamentDCD(random.sample(survivors, 4), 4)[0] if len(survivors) >= 4 else random.choice(survivors)
                for _ in range(n)
            ]
        return np.array([individual.row for individual in chosen], dtype=np.int64)


def pareto_front(costs: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Positions of the points that no other beats in both, by ascending cost."""
    order = np.lexsort((-scores, costs))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], scores[order]]))[:-1]
    return np.asarray(order[scores[order] > best])


class _Individual:
    """What DEAP's selection reads: an object with a `fitness`."""

    def __init__(self, row: np.ndarray, fitness: base.Fitness) -> None:
        self.row, self.fitness = row, fitness


def _individuals(history: History, budget: Budget, costs: Sequence[str]) -> list[_Individual]:
    kind = type("_Fitness", (base.Fitness,), {"weights": (1.0,) + (-1.0,) * len(costs)})
    population = history.population[history.scored]
    columns = [history.scores[history.scored], *(np.asarray(budget.costs[name](population)) for name in costs)]
    return [_Individual(row, kind(values)) for row, values in zip(population, np.stack(columns, axis=1).tolist(), strict=True)]
