"""Agents as an explorer: one for each choice, on any fitness.

Carlucci et al., "MANAS: Multi-Agent Neural Architecture Search", 2019, arXiv 1909.01051; `evonas.agents` has the agents. What the paper
does with the losses of a supernet while it is trained is done here with the scores of a study.

Departures: what the agents draw is proposed only where it keeps the budget and is new, so that a chance is a little more than an agent
believes; a generation is drawn from the same policies; where agents have settled and draw little that is new, random architectures
follow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evonas.agents import AGENTS, Agents
from evonas.budget import Budget
from evonas.errors import unknown
from evonas.explorers.base import Explorer, require
from evonas.sampling import Collector
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History

DRAWN, MOST_DRAWS = 1 << 10, 16


class AgentsExplorer(Explorer):
    """Every choice has an agent that draws its option, and all of them learn from the scores.

    Use it where choices hardly interact and there are many of them; evolution sees what belongs together, agents do not.

    Args:
        space: what is explored.
        budget: bounds that every proposal keeps.
        agents: "least-squares" or "exponential", see `evonas.agents`.
        rounds: scores that the exponential agents count on; as many as there will be evaluations.
        seed: seeds every generation together with its number.
        generation_size: see `Explorer`.
        first: see `Explorer`.

    Raises:
        UsageError: unknown agents, or a setting that makes no sense.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        agents: str = "least-squares",
        rounds: int = 1000,
        seed: int = 0,
        generation_size: int = 25,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        super().__init__(space, budget, seed=seed, generation_size=generation_size, first=first)
        require(type(self), at_least_one={"rounds": rounds})
        if agents not in AGENTS:
            raise unknown("agents", agents, AGENTS)
        self.agents, self.rounds = agents, rounds

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`."""
        history, rng = history.before(start), self.rng(start)
        agents = self.learned(history)
        collector = Collector(self.space, self.budget, history.keys)
        for _ in range(MOST_DRAWS):
            if len(collector) < size:
                collector.take(agents.draw(DRAWN, rng), size - len(collector))
        collector.draw(size - len(collector), rng)
        return collector.population()

    def learned(self, history: History) -> Agents:
        """The agents after the trials of a history, told of one generation after another.

        Exponential agents learn nothing from `first`, which they did not draw.
        """
        agents = AGENTS[self.agents](self.space, rounds=self.rounds)
        known = np.isfinite(history.scores) & ((history.numbers >= 0) | (self.agents == "least-squares"))
        starts = np.maximum(history.numbers, -1) // self.generation_size
        for start in np.unique(starts[known]):
            rows = known & (starts == start)
            agents.learn(history.population[rows], -history.scores[rows])
        return agents
