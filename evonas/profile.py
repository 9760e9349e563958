"""The profile of a space, before anything is trained: how small and large its networks are, and whether a budget can be met.

Every bound alone is checked against the exact ends of its cost, where the cost knows them; all bounds together by bounded
sampling, which reports its acceptance rate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from evonas.budget import Bound, BoundedCost, Budget, Cost, RequestedBound
from evonas.errors import UsageError
from evonas.sampling import Acceptance, acceptance, draw_feasible, single_changes
from evonas.space import Population, SearchSpace
from evonas.tables import TooWide
from evonas.units import format_quantity


@dataclass(frozen=True)
class CostRange:
    """Smallest, middle and largest value of one cost; `exact` says whether the two ends are proven or only the best found."""

    cost: str
    unit: str
    smallest: float
    median: float
    largest: float
    exact: bool

    def __str__(self) -> str:
        low, middle, high = (format_quantity(v, self.unit) for v in (self.smallest, self.median, self.largest))
        return f"{self.cost}: smallest {low}, median {middle}, largest {high}{'' if self.exact else ' (ends by local search)'}"


@dataclass(frozen=True)
class Profile:
    """Ranges of all costs, and the share of random networks that keep every bound."""

    ranges: tuple[CostRange, ...]
    acceptance: Acceptance


def profile(space: SearchSpace, budget: Budget, *, seed: int = 0, samples: int = 10_000) -> Profile:
    """Measure the space. Medians are over `samples` uniform architectures; ends are exact for costs that know them."""
    population = space.sample(samples, np.random.default_rng([seed, 0]))
    ranges = tuple(_range(space, budget, name, population) for name in budget.costs)
    return Profile(ranges, acceptance(space, budget, np.random.default_rng([seed, 1])))


def check_reachable(space: SearchSpace, budget: Budget, found: Profile, *, seed: int = 0) -> None:
    """Refuse a budget that no network meets.

    Raises:
        UsageError: naming the bound and the smallest (or largest) reachable value, or, when each bound alone can be met,
            the acceptance rate of the joint search.
    """
    ranges = {r.cost: r for r in found.ranges}
    for bound in budget.bounds:
        r = ranges[bound.cost]
        if r.smallest > bound.upper:
            raise UsageError(
                f"No network of this space meets {bound}: the smallest reachable value is "
                f"{format_quantity(r.smallest, r.unit)}. Raise the bound, or choose a smaller space."
            )
        if r.largest < bound.lower:
            raise UsageError(
                f"No network of this space meets {bound}: the largest reachable value is "
                f"{format_quantity(r.largest, r.unit)}. Lower the bound, or choose a larger space."
            )
    if found.acceptance.accepted == 0 and len(draw_feasible(space, budget, 1, np.random.default_rng([seed, 2]))) == 0:
        raise UsageError(
            f"No network found that meets all of: {budget} (each can be met alone; {found.acceptance} met all, "
            f"and a descent on the violated bounds found none). Loosen one of them."
        )


def parse_bounds(
    bounds: Iterable[str | RequestedBound],
    space: SearchSpace,
    costs: Mapping[str, Cost],
    *,
    seed: int = 0,
    of: Callable[[str], float] | None = None,
) -> tuple[Bound, ...]:
    """`Bound.parse`, which also understands shares: `NAME=30%` is at most what the cheapest 30 % of random networks of the space cost,
    `NAME=80%..` at least what 80 % of them stay below.

    A share asks for the same thing on a fast and on a slow machine, where milliseconds do not. With `of`, shares are of what it gives for a
    cost: of what a given network costs.
    """
    asked = [RequestedBound.parse(bound) if isinstance(bound, str) else bound for bound in bounds]
    return tuple(bound.resolve(space, costs, seed=seed, of=of) for bound in asked)


def _range(space: SearchSpace, budget: Budget, name: str, population: Population) -> CostRange:
    cost = budget.costs[name]
    values = np.asarray(cost(population))
    if space.listed is not None:
        everything = np.asarray(cost(space.enumerate()))
        return CostRange(name, cost.unit, float(everything.min()), float(np.median(values)), float(everything.max()), exact=True)
    if isinstance(cost, BoundedCost):
        with contextlib.suppress(TooWide):
            ends = np.asarray(cost(space.population(cost.extremes(space))))
            return CostRange(name, cost.unit, float(ends[0]), float(np.median(values)), float(ends[1]), exact=True)
    best = [_climb(space, cost, population[np.argsort(sign * values)[:8]], sign) for sign in (1, -1)]
    return CostRange(name, cost.unit, best[0], float(np.median(values)), best[1], exact=False)


def _climb(space: SearchSpace, cost: Cost, population: Population, sign: int) -> float:
    for _ in range(2 * len(space)):
        rows = single_changes(space, population)
        values = sign * np.asarray(cost(rows.reshape(-1, len(space)))).reshape(rows.shape[:2])
        best = values.argmin(axis=1)
        if (rows[np.arange(len(rows)), best] == population).all():
            break
        population = rows[np.arange(len(rows)), best]
    return float(sign * values.min())
