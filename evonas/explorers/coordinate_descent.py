"""Coordinate descent: from the dearest network down to the budget, several choices a step.

Yang, Liao and Sze, "NetAdaptV2: Efficient Neural Architecture Search with Fast Super-Network Training and Architecture Optimization", 2021,
arXiv 2104.00031 (multi-layer coordinate descent); with one choice a step it is that of NetAdapt (Yang et al., 2018, arXiv 1804.03230). A
step asks for a little less of the resource; every sample lowers some choices, drawn at random, until it is there; the one that loses least
for what it saves is where the next step begins. The budget is a black box: whatever it bounds, tables or measurements, is only asked.

Open in the paper and decided: how a sample shares the reduction among its choices (one level at a time, of a random one of them), how many
choices that are (a quarter), and that a step no sample reaches is halved. Departures: resources are what the network has of the budget, the
largest share of any bound; once the budget is reached the last steps are sampled again, from networks along the way, for as long as there
are evaluations; where sampling finds too little that is new, random networks of the budget follow; steps begin at 6 % with 50 samples,
which lose next to nothing beside smaller ones with more (docs/evidence/netadaptv2.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evonas.budget import Budget
from evonas.errors import UsageError
from evonas.explorers.base import Explorer, require
from evonas.sampling import Collector, draw_feasible
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History

Floats = npt.NDArray[np.float64]
LOST, SAVED = 1e-6, 1e-5  # added to what a step loses and saves, as NetAdapt's code does
ROUNDS = 8  # of sampling, before random networks follow


@dataclass(frozen=True)
class _Descent:
    """Where a descent stands: the networks so far, the dearest first, and the share of the budget that the next step saves."""

    way: tuple[Architecture, ...]
    step: float


class CoordinateDescentExplorer(Explorer):
    """Walks from the dearest network to the budget; what it proposes on the way breaks the budget, what it recommends does not.

    Use it where a supernet ranks large networks well, and where the budget is measured: `generation_size` evaluations a step, and eleven
    steps to 40 % at the defaults. `together=1` tries every choice by itself (NetAdapt).

    Args:
        space: what is explored.
        budget: with at least one upper bound, which the descent ends at.
        seed: seeds every generation together with its number.
        generation_size: samples a step (J); as many as there are choices where `together` is 1.
        together: choices that a sample lowers (L); a quarter of them unless told otherwise.
        first_step: share of the dearest network's resources that the first step saves (r0).
        decay: of the step, from one to the next.
        first: see `Explorer`.

    Raises:
        UsageError: no upper bound, or a setting that makes no sense.
    """

    keeps_budget = False

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        seed: int = 0,
        generation_size: int = 50,
        together: int | None = None,
        first_step: float = 0.06,
        decay: float = 0.98,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        require(type(self), at_least_one={} if together is None else {"together": together}, probability={"decay": decay})
        if not 0 < first_step < 1:
            raise UsageError(f"CoordinateDescentExplorer got first_step={first_step}; expected a share between 0 and 1.")
        if space.listed is not None:
            raise UsageError("Coordinate descent changes some choices at a time; expected a space without a list of architectures.")
        super().__init__(space, budget, seed=seed, generation_size=len(space) if together == 1 else generation_size, first=first)
        if not any(np.isfinite(bound.upper) for bound in self.budget.bounds):
            raise UsageError("Coordinate descent walks down to a budget; expected one with an upper bound, such as macs=50%.")
        self.together = min(together or max(1, round(len(space) / 4)), len(space))
        self.first_step, self.decay = first_step, decay
        self._order = self._levels()

    def generation(self, number: int) -> tuple[int, int]:
        """The dearest network by itself, then a step each."""
        if number == 0:
            return 0, 1
        return number - (number - 1) % self.generation_size, self.generation_size

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`; proposals keep what the step asks for, which is the budget only in the end."""
        history, rng = history.before(start), self.rng(start)
        if start == 0:
            return self.space.canonical(np.array([[order[0] for order in self._order]]))
        descent = self._descended(history, start)
        seen, found = set(history.keys), np.zeros((0, len(self.space)), dtype=np.int64)
        for _ in range(ROUNDS):
            if len(found) < size:
                collector = Collector(self.space, Budget(), seen)
                collector.take(self._samples(descent, max(size - len(found), 1), rng), size - len(found))
                found = np.concatenate([found, collector.population()])
                seen |= set(map(tuple, collector.population().tolist()))
        return np.concatenate([found, draw_feasible(self.space, self.budget, size - len(found), rng, seen)])

    def recommend(self, history: History) -> npt.NDArray[np.int64]:
        """By score, those that keep the budget."""
        scored = history.scored
        return np.asarray(scored[self.budget.feasible(history.population[scored])])

    def resources(self, population: Population) -> Floats:
        """What networks have of the budget, the largest share of any upper bound: shape (n,). At most 1 keeps all of them."""
        values = self.budget.values(population)
        shares = [values[bound.cost] / bound.upper for bound in self.budget.bounds if np.isfinite(bound.upper)]
        return np.asarray(np.max(shares, axis=0))

    def way(self, history: History) -> Population:
        """The networks that the descent went through by all trials of a study, the dearest first: shape (steps + 1, choices)."""
        ahead = len(self.first)
        return np.array(self._descended(history.renumbered(-ahead), max(len(history.population) - ahead, 1)).way)

    def unfinished(self, history: History) -> str:
        """See `Explorer.unfinished`."""
        left = float(self.resources(self.way(history)[-1:])[0])
        return "" if left <= 1 else f"the descent ended at {left:.3g} times the budget; expected more evaluations, or larger steps"

    def _levels(self) -> list[npt.NDArray[np.int64]]:
        """The options of every choice, the dearest first, by what they cost in the dearest network.

        That is found by taking the dearest option of every choice until nothing changes: what a kernel costs shows where there are filters.
        """
        base = np.array([[indices[0] for indices in self.space.allowed]])
        for _ in range(len(self.space) + 1):
            orders = []
            for column, indices in enumerate(self.space.allowed):
                rows = np.repeat(base, len(indices), axis=0)
                rows[:, column] = indices
                orders.append(np.array(indices)[np.argsort(-self.resources(rows), kind="stable")])
            dearest = np.array([[order[0] for order in orders]])
            if (dearest == base).all():
                break
            base = dearest
        return orders

    def _descended(self, history: History, start: int) -> _Descent:
        """The descent so far, from the scores of the steps before a trial."""
        way = [tuple(self.propose(history, 0, 1)[0].tolist())]
        step = self.first_step * float(self.resources(np.array(way))[0])
        at = {int(number): i for i, number in enumerate(history.numbers)}
        for begun in range(1, start, self.generation_size):
            resource = float(self.resources(np.array(way[-1:]))[0])
            if resource <= 1:
                break
            positions = np.array([at[n] for n in range(begun, min(begun + self.generation_size, start)) if n in at], dtype=np.int64)
            rows, scores = history.population[positions], history.scores[positions]
            resources = self.resources(rows) if len(rows) else np.zeros(0)
            able = np.isfinite(scores) & (resources <= max(resource - step, 1.0) + 1e-12) & self.space.contains(rows)
            if not able.any():
                step /= 2
                continue
            known = history.scores[(history.population == way[-1]).all(axis=1)]
            accuracy = known[0] if len(known) and np.isfinite(known[0]) else scores[able].max()
            lost = (accuracy - scores[able] + LOST) / (resource - resources[able] + SAVED)
            way.append(tuple(rows[able][lost.argmin()].tolist()))
            step *= self.decay
        return _Descent(tuple(way), step)

    def _samples(self, descent: _Descent, count: int, rng: np.random.Generator) -> Population:
        """Networks of the next step; some may not get there and are left out."""
        now = float(self.resources(np.array(descent.way[-1:]))[0])
        goal = max(now - descent.step, 1.0)
        if now > 1 or len(descent.way) == 1:
            rows = np.repeat(np.array(descent.way[-1:]), count, axis=0)
        else:  # there: the last steps once more, from networks along the way
            rows = np.array(descent.way[:-1])[rng.integers(len(descent.way) - 1, size=count)]
        levels = np.stack([(column[:, None] == order).argmax(axis=1) for column, order in zip(rows.T, self._order, strict=True)], axis=1)
        last = np.array([len(order) - 1 for order in self._order])
        if self.together == 1:
            chosen = np.zeros(rows.shape, dtype=bool)
            chosen[np.arange(count), np.arange(count) % len(self.space)] = True
        else:
            chosen = rng.random(rows.shape).argsort(axis=1) < self.together
        for _ in range(int(last.sum()) + 1):
            above = self.resources(rows) > goal
            free = chosen & (levels < last)
            moving = np.flatnonzero(above & free.any(axis=1))
            if not len(moving):
                break
            column = np.where(free[moving], rng.random((len(moving), len(self.space))), -1).argmax(axis=1)
            levels[moving, column] += 1
            for c in np.unique(column):
                mine = moving[column == c]
                rows[mine, c] = self._order[c][levels[mine, c]]
        rows = self.space.canonical(rows)
        return rows[self.resources(rows) <= goal + 1e-12]
