"""Bayesian optimisation of architectures: fit a predictor with a spread, propose where its upper bound is highest.

Srinivas et al., "Gaussian Process Optimization in the Bandit Setting", 2009, arXiv 0912.3995 (the upper confidence bound); batches after
Desautels et al., 2012, arXiv 1206.6402; White et al., "BANANAS", 2019, arXiv 1910.11858, brought the scheme to architectures.

Departures: the predictor is fitted on the normal scores of the ranks, because accuracies have a long lower tail that says
nothing about the best networks, and the width of the bound is a constant. Small spaces are listed whole; in large ones the
candidates are bred towards the bound itself, so that no evaluation is spent on finding them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evonas.budget import Budget
from evonas.errors import UsageError
from evonas.explorers.base import Explorer, require
from evonas.explorers.screened import Predictor
from evonas.explorers.variation import Variation, breed, redraw
from evonas.ranks import normal_scores
from evonas.sampling import Collector, draw_feasible
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History

Floats = npt.NDArray[np.float64]

LISTED_WHOLE = 1 << 15
OWN_SHARE = 0.5
FAILURES = 0.2
ASKED_FIRST = 500
ALONE, TOGETHER = 1.0, 1.5


class Belief(Protocol):
    """What a predictor holds of a list of candidates; `condition(row)` tells it that a row will be read."""

    mean: Floats

    @property
    def std(self) -> Floats: ...

    def condition(self, row: int) -> None: ...


class Worth(Protocol):
    """What proposing candidates is worth; higher is better, and never lower for a higher mean or standard deviation."""

    def __call__(self, population: Population, mean: Floats, std: Floats) -> Floats:
        """Of candidates of which a predictor holds `mean` and `std`: shape (n,)."""

    def expect(self, row: Population, mean: float) -> None:
        """A candidate, shape (choices,), will be read; that is what it is expected to score. Of a copy, it leaves the original as it is."""


class UpperBound:
    """The mean plus so many standard deviations."""

    def __init__(self, optimism: float) -> None:
        self.optimism = optimism

    def __call__(self, population: Population, mean: Floats, std: Floats) -> Floats:
        return mean + self.optimism * std

    def expect(self, row: Population, mean: float) -> None:
        """Nothing changes but what the belief says itself."""


class BayesianExplorer(Explorer):
    """Proposes the candidates with the highest mean plus `optimism` times spread; the most frugal explorer here.

    Use it when an evaluation costs more than some 50 ms; below that, `EvolutionExplorer` sees more networks in the same time.

    Args:
        space: what is explored.
        budget: bounds that every proposal keeps.
        predictor: a scikit-learn regressor of scores with `predict(population, return_std=True)`; where it has `belief(population)`, as
            `predictors.GaussianProcess` does, a generation is spread out. It is cloned, never changed.
        seed: seeds every generation together with its number.
        generation_size: trials that are proposed together. 1 needs the fewest evaluations; take the number of networks that are
            scored at once.
        initial: scored trials that are drawn at random before the predictor is asked.
        optimism: width of the upper bound, in standard deviations; 1 one at a time, and 1.5 in larger generations, within which nothing is
            learned, unless told otherwise.
        pool: candidates of one round of breeding, in spaces too large to list.
        rounds: rounds of breeding.
        first: architectures to try before anything else, see `Explorer`.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        predictor: Predictor,
        seed: int = 0,
        generation_size: int = 1,
        initial: int = 3,
        optimism: float | None = None,
        pool: int = 1000,
        rounds: int = 5,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        require(type(self), at_least_one={"generation_size": generation_size, "initial": initial, "pool": pool, "rounds": rounds})
        if optimism is not None and not optimism >= 0:
            raise UsageError(f"{type(self).__name__} got optimism={optimism}; expected 0 or more.")
        super().__init__(space, budget, seed=seed, generation_size=generation_size, first=first)
        self.predictor = predictor
        self.initial = initial
        self.optimism = (ALONE if generation_size == 1 else TOGETHER) if optimism is None else optimism
        self.pool = pool
        self.rounds = rounds
        self._listed: Population | None = None
        self._position: dict[Architecture, int] = {}

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`."""
        rng = self.rng(start)
        history = history.before(start)
        if len(history.scored) < max(self.initial, 2):
            return draw_feasible(self.space, self.budget, size, rng, history.keys)
        predictor = self._fitted(history, self.targets(history))
        worth = self.worth(history)
        pool = self._list(history) if self.space.count() <= LISTED_WHOLE else self._breed(history, predictor, worth, rng)
        if len(pool) == 0:
            return pool
        pool = pool[rng.permutation(len(pool))]
        return pool[self._picked(predictor, worth, pool, history.population[~np.isfinite(history.scores)], min(size, len(pool)))]

    def targets(self, history: History) -> Floats:
        """What the predictor is fitted on: of the scored trials, best first."""
        return normal_scores(history.scores[history.scored])

    def worth(self, history: History) -> Worth:
        """What candidates are chosen by, given scored trials whose targets the predictor was fitted on."""
        return UpperBound(self.optimism)

    def parents(self, history: History) -> Population:
        """The trials that candidates are bred from first, where a space is too large to list: shape (n, choices)."""
        return history.population[history.scored[:20]]

    def recommend(self, history: History) -> npt.NDArray[np.int64]:
        """Positions of the scored trials, best first, by the mean of each score and what the predictor makes of it.

        A score is part luck and part a merit that no predictor sees. One evaluation cannot tell them apart; each gets half. In units of
        the score: ranks would stretch the distance of the best to the second. The lowest fifth is raised to the fifth's upper
        end first, because how bad a failure is says nothing about the best.
        """
        scored = history.scored
        if len(scored) < max(self.initial, 2):
            return scored
        own = np.maximum(history.scores[scored], np.quantile(history.scores[scored], FAILURES))
        predicted = np.asarray(self._fitted(history, own).predict(history.population[scored]))
        return np.asarray(scored[np.argsort(-(OWN_SHARE * own + (1 - OWN_SHARE) * predicted), kind="stable")])

    def _fitted(self, history: History, targets: Floats) -> Any:
        """The predictor fitted on the scored trials, best first."""
        from sklearn.base import clone

        return clone(self.predictor, safe=False).fit(history.population[history.scored], targets)

    def _picked(self, predictor: Any, worth: Worth, pool: Population, waiting: Population, size: int) -> npt.NDArray[np.int64]:
        """The rows of the pool to read, one after another; `waiting` are read already, with no score yet.

        What a predictor can say quickly (`screen`) leaves out most of a large pool: no ceiling among them reaches the last that is picked.
        Nothing raises a ceiling: what will be read lowers spreads, and only leaves less to be gained.
        """
        if not hasattr(predictor, "screen"):
            return self._pick(predictor, worth, pool, waiting, size)[0]
        ceilings = worth(pool, *predictor.screen(pool))
        order = np.argsort(-ceilings, kind="stable")
        asked = max(ASKED_FIRST, 4 * size)
        while True:
            rows = np.sort(order[:asked])
            picked, least = self._pick(predictor, copy.copy(worth), pool[rows], waiting, size)
            if asked >= len(pool) or least >= ceilings[order[asked]]:
                return rows[picked]
            asked *= 4

    def _pick(self, predictor: Any, worth: Worth, pool: Population, waiting: Population, size: int) -> tuple[npt.NDArray[np.int64], float]:
        """As `_picked`, with a look at the whole pool; and the least that one of the picked was worth."""
        picked: list[int] = []
        if not hasattr(predictor, "belief"):
            values = worth(pool, *predictor.predict(pool, return_std=True))
            rows = np.argsort(-values, kind="stable")[:size]
            return rows, float(values[rows[-1]])
        candidates = np.concatenate([pool, waiting])
        belief: Belief = predictor.belief(candidates)
        for row in range(len(pool), len(candidates)):
            belief.condition(row)
            worth.expect(candidates[row], float(belief.mean[row]))
        left, least = np.ones(len(pool), dtype=bool), np.inf
        for _ in range(size):
            values = np.where(left, worth(pool, belief.mean[: len(pool)], belief.std[: len(pool)]), -np.inf)
            picked.append(int(values.argmax()))
            left[picked[-1]] = False
            least = min(least, float(values[picked[-1]]))
            if len(picked) < size:
                belief.condition(picked[-1])
                worth.expect(candidates[picked[-1]], float(belief.mean[picked[-1]]))
        return np.array(picked, dtype=np.int64), least

    def _list(self, history: History) -> Population:
        """Everything feasible and new."""
        if self._listed is None:
            everything = self.space.enumerate()
            self._listed = everything[self.budget.feasible(everything)]
            self._position = {key: i for i, key in enumerate(map(tuple, self._listed.tolist()))}
        new = np.ones(len(self._listed), dtype=bool)
        new[[self._position[key] for key in history.keys if key in self._position]] = False
        return self._listed[new]

    def _breed(self, history: History, predictor: Any, worth: Worth, rng: np.random.Generator) -> Population:
        """Feasible and new candidates, bred from the best trials and then from those worth most."""
        collector = Collector(self.space, self.budget, history.keys)
        collector.draw(self.pool // 2, rng)
        parents = self.parents(history)
        mean = std = np.zeros(0)
        for _ in range(self.rounds):
            variation = Variation(self.space, parents)
            if len(variation) == 0:
                break
            breed(collector, self.pool // 2, partial(variation.single_changes, rng=rng), attempts=3)
            breed(collector, self.pool // 4, partial(variation.mutants, rng=rng, mutate=redraw(min(2 / len(self.space), 1.0))), attempts=3)
            breed(collector, self.pool // 4, partial(variation.crossovers, rng=rng), attempts=3)
            if len(collector) == 0:
                break
            population = collector.population()
            found = predictor.predict(population[len(mean) :], return_std=True) if len(population) > len(mean) else ((), ())
            mean, std = (np.concatenate([known, new]) for known, new in zip((mean, std), found, strict=True))
            parents = population[np.argsort(-worth(population, mean, std), kind="stable")[:50]]
        return collector.population()
