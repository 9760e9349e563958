"""Random architectures that keep a budget and were not seen before, also where few do.

Three steps, each only when the one before fell short: rejection sampling (uniform over what is wanted), listing the space
where it is small enough (so that "exhausted" is a fact), and descent on the violated bounds from random starting points
(not uniform, but it finds corners that a million random draws miss). Every step is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evonas.budget import Budget
from evonas.space import Architecture, Population, SearchSpace

SMALL_SPACE = 1 << 18
MOST_DRAWS = 1 << 18


class Collector:
    """Takes candidate rows one batch after another and keeps those that are feasible and new, in order, each once.

    Args:
        space: rows outside of it are dropped.
        budget: rows that break a bound are dropped.
        seen: canonical keys that count as known already.
    """

    def __init__(self, space: SearchSpace, budget: Budget, seen: set[Architecture]) -> None:
        self.space, self.budget = space, budget
        self._known = set(seen)
        self._rows: list[Architecture] = []

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, candidates: Population, limit: int) -> int:
        """Keep up to `limit` more rows out of the candidates; returns how many were kept."""
        before = len(self._rows)
        if len(candidates):
            candidates = self.space.canonical(candidates)
            candidates = candidates[self.space.contains(candidates)]
            candidates = candidates[self.budget.feasible(candidates)]
            for key in map(tuple, candidates.tolist()):
                if len(self._rows) - before >= limit:
                    break
                if key not in self._known:
                    self._known.add(key)
                    self._rows.append(key)
        return len(self._rows) - before

    def draw(self, n: int, rng: np.random.Generator) -> int:
        """Keep up to `n` more rows drawn at random (see the module); fewer only when no more can be found."""
        missing, drawn, chunk = n, 0, max(4 * n, 64)
        while missing > 0 and drawn < MOST_DRAWS:
            missing -= self.take(self.space.sample(chunk, rng), missing)
            drawn, chunk = drawn + chunk, min(2 * chunk, 1 << 15)
            if self.space.count() <= SMALL_SPACE and drawn > 2 * self.space.count():
                break
        if missing > 0 and self.space.count() <= SMALL_SPACE:
            missing -= self.take(rng.permutation(self.space.enumerate()), missing)
        elif missing > 0:
            missing -= self.take(_descend(self.space, self.budget, self.space.sample(64, rng), rng), missing)
        return n - missing

    def population(self) -> Population:
        """What was kept, in the order of keeping: shape (len(self), choices)."""
        return np.array(self._rows, dtype=np.int64).reshape(-1, len(self.space))


def draw_feasible(
    space: SearchSpace, budget: Budget, n: int, rng: np.random.Generator, seen: set[Architecture] | None = None
) -> Population:
    """Up to `n` different feasible architectures that are not in `seen`; fewer only when no more can be found."""
    collector = Collector(space, budget, seen or set())
    collector.draw(n, rng)
    return collector.population()


@dataclass(frozen=True)
class Acceptance:
    """Outcome of drawing without regard to the budget: how many architectures were drawn, how many keep every bound."""

    drawn: int
    accepted: int

    def __str__(self) -> str:
        return f"{self.accepted:,} of {self.drawn:,} random networks"


def acceptance(space: SearchSpace, budget: Budget, rng: np.random.Generator, enough: int = 1000) -> Acceptance:
    """Draw until `enough` architectures are feasible or the bound on draws is reached."""
    drawn = accepted = 0
    while accepted < enough and drawn < MOST_DRAWS:
        population = space.sample(1 << 14, rng)
        drawn, accepted = drawn + len(population), accepted + int(budget.feasible(population).sum())
    return Acceptance(drawn, accepted)


def single_changes(space: SearchSpace, population: Population) -> Population:
    """Every architecture that differs from a row in at most one choice, row by row: shape (n, changes, choices)."""
    changes = [(column, option) for column, indices in enumerate(space.allowed) for option in indices]
    rows = np.repeat(population[:, None, :], len(changes), axis=1)
    for i, (column, option) in enumerate(changes):
        rows[:, i, column] = option
    return rows


def _descend(space: SearchSpace, budget: Budget, population: Population, rng: np.random.Generator) -> Population:
    """Follow the steepest single change of total violation from every row, then add the single changes of where it ends."""
    for _ in range(2 * len(space)):
        rows = single_changes(space, population)
        flat = rows.reshape(-1, len(space))
        violation = np.maximum(budget.violations(flat), 0).sum(axis=1).reshape(rows.shape[:2])
        best = (violation + 1e-12 * rng.random(violation.shape)).argmin(axis=1)
        population = rows[np.arange(len(rows)), best]
        if not violation[np.arange(len(rows)), best].any():
            break
    return np.concatenate([population, rng.permutation(single_changes(space, population).reshape(-1, len(space)))])
