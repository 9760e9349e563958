"""Mutation and crossover of architectures with DEAP's operators, shared by the evolutionary explorers.

DEAP draws from Python's global `random` module. `deap_random` lends it a seed taken from our generator for the length of a
block and puts the global state back, so that neither side disturbs the other. Individuals are lists of positions among the
*allowed* options of each choice, so narrowed spaces need nothing special.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from deap import tools

from evonas.errors import UsageError
from evonas.sampling import Collector
from evonas.space import Population, SearchSpace

Individual = list[int]  # positions among the allowed options of every choice
Mutate = Callable[[Individual, list[int], list[int]], tuple[Individual]]
"""(individual, low, up) -> (individual,): a DEAP mutation, such as `redraw(0.1)`; low and up are the ends of every position."""
Mate = Callable[[Individual, Individual], tuple[Individual, Individual]]
"""(one, other) -> (child, child): a DEAP crossover, such as `UNIFORM`; the first child is taken."""

UNIFORM: Mate = partial(tools.cxUniform, indpb=0.5)


def redraw(probability: float) -> Mutate:
    """Every choice is redrawn uniformly with a probability; the same option may be drawn again."""
    return partial(tools.mutUniformInt, indpb=probability)


_lock = threading.Lock()


@contextmanager
def deap_random(rng: np.random.Generator) -> Iterator[None]:
    """Within the block the global `random` is seeded from `rng`; afterwards it is what it was."""
    with _lock:
        state = random.getstate()
        random.seed(int(rng.integers(1 << 62)))
        try:
            yield
        finally:
            random.setstate(state)


class Variation:
    """Children of a fixed list of parents.

    Args:
        space: parents outside of it (left behind by narrowing) are not used.
        parents: shape (n, choices).
    """

    def __init__(self, space: SearchSpace, parents: Population) -> None:
        parents = parents[space.contains(parents)]
        self.space = space
        position = np.zeros((len(space), int(space.sizes.max())), dtype=np.int64)
        for row, indices in zip(position, space.allowed, strict=True):
            row[list(indices)] = np.arange(len(indices))
        self.parents: list[list[int]] = position[np.arange(len(space)), parents].tolist()
        self._low = [0] * len(space)
        self._up = (space.allowed_counts - 1).tolist()

    def __len__(self) -> int:
        return len(self.parents)

    def mutants(self, n: int, rng: np.random.Generator, mutate: Mutate) -> Population:
        """`n` uniform parents, each changed by `mutate`."""
        chosen = rng.integers(len(self.parents), size=n).tolist()
        with deap_random(rng):
            children = [list(mutate(self.parents[i].copy(), self._low, self._up)[0]) for i in chosen]
        return self._population(children)

    def each(self, rng: np.random.Generator, mutate: Mutate) -> Population:
        """Every parent once, in order, changed by `mutate`."""
        with deap_random(rng):
            children = [list(mutate(parent.copy(), self._low, self._up)[0]) for parent in self.parents]
        return self._population(children)

    def crossovers(self, n: int, rng: np.random.Generator, mate: Mate = UNIFORM) -> Population:
        """`n` first children of two uniform parents each, made by `mate`."""
        chosen = rng.integers(len(self.parents), size=(n, 2)).tolist()
        with deap_random(rng):
            children = [list(mate(self.parents[i].copy(), self.parents[other].copy())[0]) for i, other in chosen]
        return self._population(children)

    def single_changes(self, n: int, rng: np.random.Generator) -> Population:
        """`n` uniform parents with one choice each set to another allowed option."""
        ranks = np.array(self.parents, dtype=np.int64)[rng.integers(len(self.parents), size=n)]
        counts = self.space.allowed_counts
        free = np.flatnonzero(counts > 1)
        if len(free):
            column = rng.choice(free, size=n)
            shift = rng.integers(1, counts[column])
            ranks[np.arange(n), column] = (ranks[np.arange(n), column] + shift) % counts[column]
        return self.space.from_ranks(ranks)

    def _population(self, children: list[list[int]]) -> Population:
        ranks = np.array(children, dtype=np.int64).reshape(-1, len(self.space))
        if ((ranks < 0) | (ranks >= self.space.allowed_counts)).any():
            raise UsageError("A variation operator left the space; expected positions among the allowed options, between `low` and `up`.")
        return self.space.from_ranks(ranks)


def breed(collector: Collector, wanted: int, make: Callable[[int], Population], attempts: int = 10) -> int:
    """Call `make(n)` until `wanted` children are feasible and new, at most for `attempts * wanted` children; returns how many were kept."""
    missing, left = wanted, attempts * wanted
    while missing > 0 and left > 0:
        n = min(max(2 * missing, 4), left)
        missing -= collector.take(make(n), missing)
        left -= n
    return wanted - missing
