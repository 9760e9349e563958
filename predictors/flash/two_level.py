"""Two-level SHGO over a space of ordered options: coarse, then fine around what was found, then an integer polish.

The hierarchical search of Li et al., "FLASH", 2021, arXiv 2108.00568, on top of SciPy's simplicial homology global optimisation (Endres,
Sandrock and Focke, 2018, J. Global Optimization 72). It is for models that cost microseconds: a whole search is under 2,000 calls.

Departures, because SHGO has no integer variables, and on a rounded objective its local minimiser cannot move:
- SHGO only says which vertices of its complex are minima; they are scored a complex at a time, in one call of the model.
- The polish walks from the best point of each option of the shortest choices, and from points far from those. It measures every single
  step of 1, 2, 4, 16 and 64, adds the differences up to foretell pairs and triples of steps, and measures the best of these. Along an
  active constraint, where a single step either breaks it or costs, this finds the exchange that a coordinate descent misses.
- Networks that break a bound rank behind all that keep them, by how much they break it, instead of a penalty that must be weighed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import shgo

from evonas.budget import Budget
from evonas.errors import UsageError
from evonas.space import Architecture, Population, SearchSpace

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

BEHIND = 1e100
MOST_CHOICES = 10
SHORT = 3
FAR = 0.5
MOST_STARTS = 24
FORETOLD = 16
PAIRS = 60


@dataclass(frozen=True)
class Optimum:
    """What a two-level search found.

    Attributes:
        architecture: the best one, which keeps every bound.
        value: of the objective.
        calls: architectures that the models were asked about.
    """

    architecture: Architecture
    value: float
    calls: int


def two_level_search(
    space: SearchSpace,
    budget: Budget,
    objective: Callable[[Mapping[str, Floats]], Floats],
    *,
    coarse: int = 5,
    anchors: int = 2,
    steps: tuple[int, ...] = (1, 2, 4, 16, 64),
    most_calls: int = 2000,
) -> Optimum:
    """Minimise an objective within a budget.

    Args:
        space: its options are in order, by size for example; none may be narrowed away.
        budget: bounds that the result keeps, and costs for the objective.
        objective: costs by name to values, all of shape (n,).
        coarse: steps from end to end of a choice on the first level.
        anchors: minima of the first level that the second looks around.
        steps: of the polish, in options.
        most_calls: architectures that may be asked about; a space of no more is listed.

    Raises:
        UsageError: no architecture was found that keeps every bound (says how far the nearest is off), or the space is narrowed or
            has more than ten choices.
    """
    if (space.allowed_counts != space.sizes).any():
        raise UsageError("Two-level search needs a space with all its options; this one was narrowed. Bound a cost instead.")
    if space.count() > most_calls and (space.sizes > 1).sum() > MOST_CHOICES:
        raise UsageError(
            f"Two-level search takes up to {MOST_CHOICES} choices (its first complex has a vertex for every corner of the space), got "
            f"{len(space)}. Use an explorer, such as EvolutionExplorer."
        )
    memory = _Memory(space, budget, objective, most_calls)
    if space.count() <= most_calls:
        memory(space.enumerate())
    else:
        _explore(memory, coarse, anchors, steps)
    best, value, violations = memory.best()
    if not (violations <= 0).all():
        raise UsageError(
            f"No network found that keeps {budget}; the nearest of {memory.calls:,} {budget.verdicts(violations[None])[0]}. Loosen a bound."
        )
    return Optimum(space.keys(best[None])[0], float(value), memory.calls)


def _explore(memory: _Memory, coarse: int, anchors: int, steps: tuple[int, ...]) -> None:
    last = memory.last
    step = np.maximum(last // coarse, 1)
    with _collection_paused():
        minima = _minima(memory, np.zeros_like(last), last, step)
        for anchor in minima[np.argsort(memory.merit(minima), kind="stable")][:anchors]:
            _minima(memory, np.maximum(anchor - step, 0), np.minimum(anchor + step, last), np.ones_like(step))
    for start in islice(_starts(memory), MOST_STARTS):
        if memory.left < _calls_of_a_round(memory.space, steps):
            break
        _polish(memory, start, steps)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """SHGO's vertices point at each other; looking for garbage among them and all else in the process takes longer than the search."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Memory:
    """Objective and violations of every architecture that was asked about; each is asked about once."""

    def __init__(self, space: SearchSpace, budget: Budget, objective: Callable[[Mapping[str, Floats]], Floats], most: int) -> None:
        self.space, self.budget, self.objective, self.most = space, budget, objective, most
        self.last = space.sizes - 1
        self._weights = np.concatenate([np.cumprod(space.sizes[:0:-1])[::-1], [1]])
        self._at: dict[int, int] = {}
        self._values = np.empty(most)
        self._violations = np.empty((most, budget.violations_of(dict.fromkeys(budget.costs, ()), 0).shape[1]))
        self._rows = np.empty((most, len(space)), dtype=np.int64)

    @property
    def calls(self) -> int:
        return len(self._at)

    @property
    def left(self) -> int:
        return self.most - self.calls

    def __call__(self, rows: Population) -> tuple[Floats, Floats]:
        """Values (n,) and violations (n, bounds). Beyond the limit, an architecture that was not asked about is as bad as can be."""
        keys = (rows @ self._weights).tolist()
        new = {key: i for i, key in enumerate(keys) if key not in self._at}
        fresh = rows[list(new.values())[: self.left]]
        if len(fresh):
            start, end = self.calls, self.calls + len(fresh)
            costs = self.budget.values(self.space.canonical(fresh))
            self._rows[start:end], self._values[start:end] = fresh, self.objective(costs)
            self._violations[start:end] = self.budget.violations_of(costs, len(fresh))
            self._at.update(zip(new, range(start, end), strict=False))
        at = np.array([self._at.get(key, -1) for key in keys], dtype=np.int64)
        values, violations = self._values[at], self._violations[at]
        values[at < 0], violations[at < 0] = np.inf, np.inf
        return values, violations

    def merit(self, rows: Population) -> Floats:
        return _merit(*self(rows))

    def ranked(self) -> Population:
        """Every architecture that was asked about, the best first."""
        order = np.argsort(_merit(self._values[: self.calls], self._violations[: self.calls]), kind="stable")
        return self._rows[order]

    def best(self) -> tuple[Integers, float, Floats]:
        row = self.ranked()[:1]
        values, violations = self(row)
        return row[0], values[0], violations[0]


def _merit(values: Floats, violations: Floats) -> Floats:
    """The objective; for what breaks a bound, something larger that falls with the violation."""
    behind = BEHIND * (1 + np.maximum(violations, 0).sum(axis=-1))
    return np.nan_to_num(np.where((violations <= 0).all(axis=-1), values, behind), nan=np.inf, posinf=np.inf)


def _minima(memory: _Memory, lower: Integers, upper: Integers, step: Integers) -> Population:
    """The minima that SHGO sees on the grid of a box, at least one row."""
    free = np.flatnonzero(upper > lower)

    def snapped(points: Any) -> Population:
        rows = np.repeat(lower[None], len(points), axis=0)
        rows[:, free] += (np.rint((np.asarray(points) - lower[free]) / step[free]) * step[free]).astype(np.int64)
        return np.minimum(rows, upper)

    def scored_together(_: Any, points: Any) -> list[float]:
        return memory.merit(snapped(points)).tolist() if len(points) else []

    found = shgo(
        lambda point: float(memory.merit(snapped(point[None]))[0]),
        list(zip(lower[free].astype(float), upper[free].astype(float), strict=True)),
        sampling_method="simplicial",
        workers=scored_together,
        minimizer_kwargs={"method": "SLSQP", "options": {"maxiter": 1}},
        options={"minimize_every_iter": False},
    )
    points = [point for point in np.atleast_2d(found.get("xl", found.x)) if point is not None]
    return np.unique(snapped(points), axis=0) if points else memory.ranked()[:1]


def _starts(memory: _Memory) -> Any:
    """Where to polish from: the best row of each option of the shortest choices, then the best of those far from all before."""
    ranked, sizes = memory.ranked(), memory.space.sizes
    short = [column for column in range(len(sizes)) if 1 < sizes[column] <= SHORT]
    firsts = {int(np.argmax(ranked[:, column] == option)) for column in short for option in np.unique(ranked[:, column])} | {0}
    taken = ranked[sorted(firsts)]
    yield from taken
    distance = np.abs(ranked[:, None] - taken).astype(np.float64) @ (1 / np.maximum(memory.last, 1))
    nearest = distance.min(axis=1)
    while nearest.max() >= FAR:
        next_one = ranked[int(np.argmax(nearest >= FAR))]
        yield next_one
        nearest = np.minimum(nearest, np.abs(ranked - next_one) @ (1 / np.maximum(memory.last, 1)))


def _polish(memory: _Memory, row: Integers, steps: tuple[int, ...]) -> None:
    """Walk from a row as long as a step, or a pair or triple of steps, is better."""
    merit = memory.merit(row[None])[0]
    while memory.left >= _calls_of_a_round(memory.space, steps):
        moves, column = _moves(row, memory.last, steps)
        values, violations = memory(row + moves)
        together = _foretold(values - values[0], violations - violations[0], values[0], violations[0], column)
        candidates = np.concatenate([row + moves, *(row + sum(moves[list(part)] for part in parts) for parts in together)])
        merits = memory.merit(candidates)
        if not merits.min() < merit - 1e-12:
            return
        row, merit = candidates[merits.argmin()], merits.min()


def _calls_of_a_round(space: SearchSpace, steps: tuple[int, ...]) -> int:
    return 2 * len(space) * len(steps) + 2 * FORETOLD


def _moves(row: Integers, last: Integers, steps: tuple[int, ...]) -> tuple[Integers, Integers]:
    """No move, then every step of one column that stays inside: shape (moves, columns); and the column of each, -1 for none."""
    reached = {(c, int(np.clip(row[c] + sign * step, 0, last[c]))) for c in range(len(row)) for step in steps for sign in (-1, 1)}
    moved = sorted((c, to) for c, to in reached if to != row[c])
    moves = np.zeros((len(moved) + 1, len(row)), dtype=np.int64)
    for i, (c, to) in enumerate(moved, start=1):
        moves[i, c] = to - row[c]
    return moves, np.array([-1, *(c for c, _ in moved)])


def _foretold(change: Floats, shift: Floats, value: float, violations: Floats, column: Integers) -> list[tuple[Integers, ...]]:
    """Pairs and triples of moves that should be best if differences added up: position tuples, each part of shape (FORETOLD,)."""
    first, second = np.triu_indices(len(column), 1)
    apart = column[first] != column[second]
    first, second = first[apart], second[apart]
    pair_change, pair_shift = change[first] + change[second], shift[first] + shift[second]
    order = np.argsort(_merit(value + pair_change, violations + pair_shift), kind="stable")
    best = order[:FORETOLD]
    wide = order[:PAIRS]
    third = np.tile(np.arange(1, len(column)), len(wide))
    pair = np.repeat(wide, len(column) - 1)
    apart = (column[third] != column[first[pair]]) & (column[third] != column[second[pair]])
    third, pair = third[apart], pair[apart]
    merit = _merit(value + pair_change[pair] + change[third], violations + pair_shift[pair] + shift[third])
    top = np.argsort(merit, kind="stable")[:FORETOLD]
    return [(first[best], second[best]), (first[pair[top]], second[pair[top]], third[top])]
