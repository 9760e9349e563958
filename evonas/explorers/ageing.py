"""Ageing ("regularised") evolution: the oldest dies, not the worst.

Real, Aggarwal, Huang and Le, "Regularized Evolution for Image Classifier Architecture Search", 2018, arXiv 1802.01548.

Departures: no architecture is proposed twice (the paper trains duplicates again, because its training is noisy); when a
tournament's winner has no feasible new neighbour in ten attempts, a random feasible architecture takes the child's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from evonas.budget import Budget
from evonas.explorers.base import Explorer, require
from evonas.explorers.variation import Mutate, Variation, breed
from evonas.sampling import Collector
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History


class AgeingEvolutionExplorer(Explorer):
    """Each child is a single-choice mutant of the best of a random sample out of the most recent trials.

    Use it when scores are noisy: a lucky score is forgotten after `population` trials.

    Args:
        space: what is explored.
        budget: bounds that every proposal keeps.
        seed: seeds every generation together with its number.
        population: number of most recent scored trials that are alive, and of random ones to begin with.
        sample: tournament size, drawn with replacement as in the paper.
        children: children proposed together, from the same living population. 1 is the sequential algorithm; larger
            batches correspond to the paper's parallel workers.
        mutate: DEAP's operator that makes a child of a parent; one choice set to another option unless told otherwise.
        first: architectures to try before anything else, see `Explorer`.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        seed: int = 0,
        population: int = 100,
        sample: int = 25,
        children: int = 1,
        mutate: Mutate | None = None,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        require(type(self), at_least_one={"population": population, "sample": sample, "children": children})
        super().__init__(space, budget, seed=seed, generation_size=children, first=first)
        self.mutate = mutate
        self.population = population
        self.sample = sample

    def generation(self, number: int) -> tuple[int, int]:
        """The random beginning is one generation, then `children` at a time."""
        if number < self.population:
            return 0, self.population
        offset = number - self.population
        return self.population + offset - offset % self.generation_size, self.generation_size

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`."""
        rng = self.rng(start)
        history = history.before(start)
        collector = Collector(self.space, self.budget, history.keys)
        scored = history.scored
        alive = scored[history.numbers[scored].argsort()][-self.population :]
        if start >= self.population and len(alive):
            for _ in range(size):
                tournament = alive[rng.integers(len(alive), size=self.sample)]
                winner = tournament[history.scores[tournament].argmax()]
                variation = Variation(self.space, history.population[[winner]])
                if len(variation):
                    if self.mutate is None:
                        breed(collector, 1, partial(variation.single_changes, rng=rng))
                    else:
                        breed(collector, 1, partial(variation.mutants, rng=rng, mutate=self.mutate))
        collector.draw(size - len(collector), rng)
        return collector.population()
