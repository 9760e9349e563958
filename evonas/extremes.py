"""The cheapest and the dearest network that keep a budget: nearly the best, by climbing from random ones, in about a second."""

from __future__ import annotations

import numpy as np

from evonas.budget import Budget, Cost
from evonas.errors import UsageError
from evonas.sampling import SMALL_SPACE, draw_feasible, single_changes
from evonas.space import Population, SearchSpace

STARTS, CLIMBING, PAIRS = 1000, 8, 2048


def cheapest_and_dearest(space: SearchSpace, cost: Cost, budget: Budget, *, seed: int = 0) -> Population:
    """Two networks within the budget, shape (2, choices): as cheap and as dear in `cost` as can be found.

    Exact where the space can be listed. Elsewhere the best of a thousand random networks and of those that come from the eight best by
    changing one or two choices at a time.

    Raises:
        UsageError: no network keeps the budget.
    """
    rng = np.random.default_rng([seed, 17])
    if space.count() <= SMALL_SPACE:
        population = space.enumerate()
        population = population[budget.feasible(population)]
    else:
        population = draw_feasible(space, budget, STARTS, rng)
    if not len(population):
        raise UsageError(f"No network keeps {budget}; expected one. Loosen the bounds.")
    ends = []
    for sign in (1, -1):
        values = sign * np.asarray(cost(population), dtype=np.float64)
        best = population[np.argsort(values, kind="stable")[:CLIMBING]]
        ends.append(_climb(space, cost, budget, best, sign, rng) if space.count() > SMALL_SPACE else best[0])
    return np.stack(ends)


def _climb(space: SearchSpace, cost: Cost, budget: Budget, population: Population, sign: int, rng: np.random.Generator) -> np.ndarray:
    """Follow the best feasible change from every row until none is better: any single one, or one of many pairs."""
    done: list[tuple[float, np.ndarray]] = []
    for row in population:
        value = sign * float(cost(row[None])[0])
        while True:
            single = single_changes(space, row[None])[0]
            pairs = single[rng.integers(len(single), size=(PAIRS, 2))]
            near = np.concatenate([single, np.where(pairs[:, 0] != row, pairs[:, 0], pairs[:, 1])])
            near = space.canonical(near)
            near = near[budget.feasible(near)]
            values = sign * np.asarray(cost(near), dtype=np.float64)
            best = int(values.argmin()) if len(near) else -1
            if best < 0 or values[best] >= value:
                break
            row, value = near[best], float(values[best])
        done.append((value, row))
    return min(done, key=lambda entry: entry[0])[1]
