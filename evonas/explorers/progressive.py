"""Progressive growth: train small architectures, let a predictor that learned from them choose among the next larger ones.

Liu et al., "Progressive Neural Architecture Search", 2017, arXiv 1712.00559. Level 1 is trained whole. At every later level all children
of the `beam` best members are listed, a predictor fitted on everything trained so far scores them, and the best `beam` of them are trained.

What grows is a `Growth`: blocks of a cell (the paper), or the choices of any space from the first to the last, the others
held at a base option (a chain by depth).

Departures: equal children are removed at every level, not only the first. In spaces where a small architecture is also a member of the
next level (a chain whose last layers are the base option), it stays a parent and is not trained again. A level whose children
are fewer than the beam, because of a budget, is filled with random feasible architectures, so that levels have sizes that a resumed
search can know. After the last level the search goes on with the next best children of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evonas.budget import Budget
from evonas.explorers.base import Explorer, require
from evonas.explorers.screened import Predictor
from evonas.sampling import Collector
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History

LEVEL = "level"


class Growth(Protocol):
    """How architectures of one level become those of the next; levels count from 1."""

    levels: int

    def first(self) -> Population:
        """Every member of level 1."""
        ...

    def children(self, parents: Population, level: int) -> Population:
        """Every way to grow members of `level - 1` into members of `level`; equal ones may repeat."""
        ...

    def members(self, population: Population, level: int) -> npt.NDArray[np.bool_]:
        """Mask of the rows that belong to `level`."""
        ...


class ChoiceGrowth:
    """One more free choice at every level, in the order of the space; the others are held at `base`.

    Args:
        space: any.
        base: options of the choices that are not free yet; the first allowed ones unless told otherwise.
    """

    def __init__(self, space: SearchSpace, base: Architecture | None = None) -> None:
        self.space = space
        self.base = np.array(base if base is not None else [indices[0] for indices in space.allowed], dtype=np.int64)
        self.levels = len(space)

    def first(self) -> Population:
        """The base with every option of the first choice."""
        return self.children(self.base[None], 1)

    def children(self, parents: Population, level: int) -> Population:
        """Every parent with every option of the choice that is now free."""
        options = self.space.allowed[level - 1]
        rows = np.repeat(parents, len(options), axis=0)
        rows[:, level - 1] = np.tile(options, len(parents))
        return rows

    def members(self, population: Population, level: int) -> npt.NDArray[np.bool_]:
        """Rows whose choices beyond the level are the base."""
        return np.asarray((population[:, level:] == self.base[level:]).all(axis=1))


class ProgressiveExplorer(Explorer):
    """Grows architectures level by level, a beam of the best at a time.

    Use it where small members of the space are cheap to train and tell of large ones; where every member costs the same,
    `BayesianExplorer` needs fewer evaluations.

    Args:
        space: what is explored.
        budget: bounds that every proposal keeps.
        predictor: a scikit-learn regressor of populations that accepts larger architectures than it was fitted on. It is cloned.
        growth: how architectures grow; `evonas.cells.CellGrowth` for the cells of PNAS, `ChoiceGrowth` unless told otherwise.
        beam: architectures trained at every level after the first, and parents of the next (K in the paper).
        seed: seeds what fills a level.
        first: architectures to try before anything else, see `Explorer`.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        predictor: Predictor,
        growth: Growth | None = None,
        beam: int = 256,
        seed: int = 0,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        require(type(self), at_least_one={"beam": beam})
        super().__init__(space, budget, seed=seed, generation_size=beam, first=first)
        self.predictor = predictor
        self.growth: Growth = growth or ChoiceGrowth(space)
        self.beam = beam
        self._starts: list[int] | None = None

    def generation(self, number: int) -> tuple[int, int]:
        """(start, size) of the level that trial `number` belongs to, or of one of the beams after the last level."""
        level, starts = self.level(number), self.schedule()
        if level < len(starts) - 1 or number < starts[-1]:
            return starts[level - 1], starts[level] - starts[level - 1]
        return number - (number - starts[-1]) % self.beam, self.beam

    def level(self, number: int) -> int:
        """The level at which trial `number` is trained, from 1; the last one for all that follow."""
        return min(int(np.searchsorted(self.schedule(), number, side="right")), self.growth.levels)

    def attributes(self, number: int) -> dict[str, Any]:
        """Every trial carries its level."""
        return {LEVEL: self.level(number)}

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`."""
        history, level = history.before(start), self.level(start)
        collector = Collector(self.space, self.budget, history.keys)
        if level == 1:
            collector.take(self.growth.first(), size)
        elif len(history.scored) > 1:
            collector.take(self._ranked(history, level), size)
        collector.draw(size - len(collector), self.rng(start))
        return collector.population()

    def _ranked(self, history: History, level: int) -> Population:
        """Children of the best members of the level before, best predicted first."""
        from sklearn.base import clone

        members = self.growth.members(history.population[history.scored], level - 1)
        parents = history.population[history.scored[members][: self.beam]]
        if len(parents) == 0:
            return parents
        children = np.unique(self.space.canonical(self.growth.children(parents, level)), axis=0)
        predictor = clone(self.predictor, safe=False).fit(history.population[history.scored], history.scores[history.scored])
        return children[np.argsort(-np.asarray(predictor.predict(children)), kind="stable")]

    def schedule(self) -> list[int]:
        """The first trial of every level and, last, the first after all levels.

        Levels are whole until a beam cannot hold them, and a beam from there on.
        """
        if self._starts is None:
            seen = Collector(self.space, self.budget, set())
            whole = seen.take(self.growth.first(), self.space.count())
            starts = [0, max(whole, 1)]
            for level in range(2, self.growth.levels + 1):
                new = self.beam
                if len(seen) == starts[-1] and len(seen) <= self.beam:
                    population = seen.population()
                    parents = population[self.growth.members(population, level - 1)]
                    new = min(self.beam, max(seen.take(self.growth.children(parents, level), self.space.count()), 1))
                starts.append(starts[-1] + new)
            self._starts = starts
        return self._starts
