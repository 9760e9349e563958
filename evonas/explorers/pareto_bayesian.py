"""The whole front in one search: proposals by how much they are expected to enlarge it.

Emmerich, Giannakoglou and Naujoks, "Single- and Multiobjective Evolutionary Optimization Assisted by Gaussian Random Field Metamodels",
IEEE Transactions on Evolutionary Computation 10(4), 2006 (expected hypervolume improvement). Costs are known before anything is scored, so
that only the score is uncertain. What a network adds to the volume is then a sum over the steps of the front of the width of the step, as
far as the network is no dearer, times how much it is above; its expectation is the same sum of one-dimensional expected improvements
(Jones, Schonlau and Welch, 1998), in closed form for any number of costs.

Costs are taken as logarithms: a millisecond less is worth more to a small network. There is an end to that, or a network that costs nothing
would be worth more than all others: what is cheaper by far than every good network that is known, and than nearly all random ones, gains
nothing more. The end moves down with what is found. A batch is picked one by one; a network that is to be
read counts as on the front with its expected score.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from evonas.budget import Budget
from evonas.errors import UsageError, unknown
from evonas.explorers.bayesian import BayesianExplorer
from evonas.explorers.screened import Predictor
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History

Floats = npt.NDArray[np.float64]

SAMPLED = 2000
CHEAPEST = 0.02  # quantile of random networks' costs
GOOD = 1 / 3  # scored networks that are not the worst third say how far costs reach down
BEYOND = 0.3  # share of the way from the dearest to the cheapest good network that is worth something below that


class ParetoBayesianExplorer(BayesianExplorer):
    """Proposes the candidates that are expected to enlarge the front of score against costs most.

    Use it to see what every budget would buy, before choosing one.

    Args:
        space: what is explored.
        budget: bounds that every proposal keeps; it also knows the costs.
        predictor: see `BayesianExplorer`.
        costs: names of the costs to be minimised beside the score; all of the budget's unless told otherwise.
        seed: seeds every generation together with its number.
        generation_size: trials that are proposed together.
        initial: scored trials that are drawn at random before the predictor is asked.
        optimism: standard deviations are taken this many times as large: an expectation alone stays too near to what is known.
        pool: candidates of one round of breeding, in spaces too large to list.
        rounds: rounds of breeding.
        first: architectures to try before anything else, see `Explorer`.

    Raises:
        UsageError: no cost, or one that the budget does not know.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        predictor: Predictor,
        costs: Sequence[str] | None = None,
        seed: int = 0,
        generation_size: int = 1,
        initial: int = 5,
        optimism: float = 2.0,
        pool: int = 1000,
        rounds: int = 5,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        super().__init__(
            space,
            budget,
            predictor=predictor,
            seed=seed,
            generation_size=generation_size,
            initial=initial,
            optimism=optimism,
            pool=pool,
            rounds=rounds,
            first=first,
        )
        self.costs = tuple(self.budget.costs if costs is None else costs)
        if not self.costs:
            raise UsageError("ParetoBayesianExplorer weighs scores against costs and got none; expected a budget that knows one or more.")
        for name in self.costs:
            if name not in self.budget.costs:
                raise unknown("cost", name, self.budget.costs)
        sampled = self._of(space.sample(SAMPLED, np.random.default_rng([seed, 3])))
        self._least = _logarithms(np.quantile(sampled, CHEAPEST, axis=0))
        self._dearest = _logarithms(sampled.max(axis=0))

    def cheapest(self, population: Population, scores: Floats) -> Floats:
        """The logarithms of the costs below which nothing is gained, shape (costs,), by what was scored: shapes (n, choices) and (n,)."""
        good = _logarithms(self._of(population[scores >= np.quantile(scores, GOOD)])).min(axis=0)
        way = np.maximum(self._dearest - good, 0.0)
        return np.minimum(np.maximum(self._least, good - way), good - BEYOND * way)  # where many cost nothing, random ones say nothing

    def _of(self, population: Population) -> Floats:
        return np.stack([np.asarray(self.budget.costs[name](population), dtype=np.float64) for name in self.costs], axis=1)

    def worth(self, history: History) -> ExpectedVolume:
        """See `BayesianExplorer.worth`."""
        population, targets = history.population[history.scored], self.targets(history)
        least = self.cheapest(population, targets)

        def logarithms(rows: Population) -> Floats:
            return np.maximum(_logarithms(self._of(rows)), least)

        return ExpectedVolume(logarithms, population, targets, self._dearest, self.optimism)

    def parents(self, history: History) -> Population:
        """The front; see `BayesianExplorer.parents`."""
        return history.population[self.front(history, history.scores)]

    def recommend(self, history: History) -> npt.NDArray[np.int64]:
        """Positions of the scored trials: the front first, as far as the predictor can tell luck from merit, dearest first."""
        smoothed = np.full(len(history.scores), -np.inf)
        order = super().recommend(history)
        smoothed[order] = -np.arange(len(order))
        front = self.front(history, smoothed)
        return np.concatenate([front, order[~np.isin(order, front)]])

    def front(self, history: History, scores: Floats) -> npt.NDArray[np.int64]:
        """Positions of the scored trials that no other beats by scores and all costs, the best first."""
        return np.asarray(history.scored[undominated(self._of(history.population[history.scored]), scores[history.scored])])


def _logarithms(costs: Floats) -> Floats:
    return np.log(np.maximum(costs, np.finfo(np.float64).tiny))


class ExpectedVolume:
    """By how much candidates are expected to enlarge the volume under a front.

    Args:
        logarithms: of the costs of a population, shape (n, costs).
        population, scores: what is known, shapes (n, choices) and (n,).
        dearest: the reference point of the costs, shape (costs,); the lowest score is that of the scores.
        optimism: by which spreads are multiplied.
    """

    def __init__(
        self, logarithms: Callable[[Population], Floats], population: Population, scores: Floats, dearest: Floats, optimism: float = 1.0
    ) -> None:
        self._optimism = optimism
        self._logarithms, self._lowest = logarithms, float(scores.min())
        logs = logarithms(population)
        self._dearest = np.maximum(dearest, logs.max(axis=0))
        kept = undominated(logs, scores)  # the others lie under the front, and would make the grid of costs as fine as there are trials
        self._logs, self._scores = logs[kept], scores[kept]
        self._known: tuple[Population, Floats] | None = None  # the costs of a pool are asked for once

    def __call__(self, population: Population, mean: Floats, std: Floats) -> Floats:
        """The expectation for candidates: shape (n,)."""
        levels, widths = self.steps(self._costs(population))
        return np.asarray((widths * expected_improvement(mean[:, None], self._optimism * std[:, None], levels)).sum(axis=1))

    def expect(self, row: Population, mean: float) -> None:
        """See `evonas.explorers.bayesian.Worth`."""
        self._logs = np.concatenate([self._logs, self._logarithms(row[None])])
        self._scores = np.append(self._scores, mean)

    def steps(self, logs: Floats) -> tuple[Floats, Floats]:
        """The heights of the front, and by how much volume of costs candidates are below each.

        Args:
            logs: of the candidates, shape (n, costs).

        Returns:
            Heights, shape (steps,), and volumes, shape (n, steps): what costs at least as much as the candidate, no more than the dearest,
            and has that height on the front.
        """
        logs = np.minimum(logs, self._dearest)
        edges = [np.append(np.unique(np.minimum(column, end)), end) for column, end in zip(self._logs.T, self._dearest, strict=True)]
        edges = [np.unique(np.append(min(float(column.min()), each[0]) - 1.0, each)) for each, column in zip(edges, logs.T, strict=True)]
        heights = np.full([len(each) - 1 for each in edges], self._lowest)
        for log, score in zip(self._logs, self._scores, strict=True):
            at = tuple(slice(int(np.searchsorted(each, value)), None) for each, value in zip(edges, log, strict=True))
            heights[at] = np.maximum(heights[at], score)
        levels, level_of = np.unique(heights, return_inverse=True)
        volumes = (level_of.reshape(heights.shape)[..., None] == np.arange(len(levels))).astype(np.float64)
        for axis, each in enumerate(edges):  # what is above a corner of the grid, cost by cost
            shape = [-1 if i == axis else 1 for i in range(volumes.ndim)]
            volumes = volumes * np.diff(each).reshape(shape)
            volumes = np.flip(np.cumsum(np.flip(volumes, axis), axis), axis)
            volumes = np.concatenate([volumes, np.zeros_like(np.take(volumes, [0], axis))], axis)
        return levels, _interpolated(volumes, edges, logs)

    def _costs(self, population: Population) -> Floats:
        if self._known is None or self._known[0] is not population:
            self._known = (population, self._logarithms(population))
        return self._known[1]


def undominated(costs: Floats, scores: Floats) -> npt.NDArray[np.int64]:
    """Positions of the points that no other is at least as good as in score and all costs, the best score first; of equal ones the first.

    Args:
        costs: lower is better, shape (n, costs).
        scores: higher is better, shape (n,).
    """
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if not (costs[kept] <= costs[i]).all(axis=1).any():
            kept.append(i)
    return np.array(kept, dtype=np.int64)


def expected_improvement(mean: Floats, std: Floats, level: Floats) -> Floats:
    """The expectation of how far a normal variable is above a level, 0 where it is below."""
    from scipy.special import ndtr

    std = np.maximum(std, 1e-12)
    z = (mean - level) / std
    return np.asarray(std * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)))


def _interpolated(values: Floats, edges: Sequence[Floats], points: Floats) -> Floats:
    """Multilinear interpolation on a grid.

    Args:
        values: shape (*corners, k).
        edges: coordinates of the corners, ascending, an array an axis.
        points: inside of the grid, shape (n, axes).

    Returns:
        Shape (n, k).
    """
    cells, shares = [], []
    for each, column in zip(edges, points.T, strict=True):
        cell = np.clip(np.searchsorted(each, column, side="right") - 1, 0, len(each) - 2)
        cells.append(cell)
        shares.append((column - each[cell]) / (each[cell + 1] - each[cell]))
    found = np.zeros((len(points), values.shape[-1]))
    for corner in itertools.product((0, 1), repeat=len(edges)):
        weight = np.prod([share if side else 1 - share for share, side in zip(shares, corner, strict=True)], axis=0)
        found += weight[:, None] * values[tuple(cell + side for cell, side in zip(cells, corner, strict=True))]
    return found
