"""Mutation and crossover of ensembles, as operators of DEAP for `evonas.EvolutionExplorer`.

Chen, Fu and Ling, "One-Shot Neural Ensemble Architecture Search", 2021, arXiv 2104.00597: operators are redrawn, the split moves by a
layer, and parents exchange what both of them share and what both have apart. A layer that is shared no longer is copied to all members, so
that a split that moves towards the stem changes nothing at first; one that becomes shared is that of a random member. The search was never
released; probabilities are ours.
"""

from __future__ import annotations

import random

import numpy as np

from evonas.explorers.variation import Individual, Mate, Mutate
from evonas.space import SearchSpace
from supernet.ensemble_chain import EnsembleSupernet, Layers


def mutation(supernet: EnsembleSupernet, *, probability: float = 0.1, split_probability: float = 0.2) -> Mutate:
    """Redraws operators and moves the split.

    Args:
        supernet: of ensembles; its space says which splits are allowed.
        probability: of every operator that runs.
        split_probability: of the split, to move to the next on one side.
    """
    splits, laid_out = _allowed(supernet.space, supernet.laid_out), supernet.laid_out

    def mutate(individual: Individual, low: list[int], up: list[int]) -> tuple[Individual]:
        split, paths = individual[0], _paths(individual, laid_out)
        if random.random() < split_probability:
            split = _moved(paths, split, min(max(split + random.choice((-1, 1)), low[0]), up[0]), splits)
        for layer in range(laid_out.layers):
            shared = layer < splits[split]
            for path in paths[:1] if shared else paths:
                if random.random() < probability:
                    path[layer] = random.randint(low[1 + layer], up[1 + layer])
        return (_individual(split, paths, splits),)

    return mutate


def crossover(supernet: EnsembleSupernet) -> Mate:
    """Exchanges what both parents share, and what both have apart; every child keeps its parent's split. Members may change places."""
    splits, laid_out = _allowed(supernet.space, supernet.laid_out), supernet.laid_out

    def mate(one: Individual, other: Individual) -> tuple[Individual, Individual]:
        first, second = _paths(one, laid_out), _paths(other, laid_out)
        shared = [splits[individual[0]] for individual in (one, other)]
        if random.random() < 0.5:
            tails = [path[shared[1] :] for path in second]
            random.shuffle(tails)
            second = [second[0][: shared[1]] + tail for tail in tails]
        for layer in range(laid_out.layers):
            if min(shared) <= layer < max(shared):
                continue
            for a, b in list(zip(first, second, strict=True))[: 1 if layer < min(shared) else None]:
                if random.random() < 0.5:
                    a[layer], b[layer] = b[layer], a[layer]
        return _individual(one[0], first, splits), _individual(other[0], second, splits)

    return mate


def _moved(paths: list[Individual], before: int, after: int, splits: tuple[int, ...]) -> int:
    """The split where it is now; the paths are changed where that needs it."""
    for layer in range(splits[before], splits[after]):
        paths[0][layer] = random.choice(paths)[layer]
    return after


def _allowed(space: SearchSpace, laid_out: Layers) -> tuple[int, ...]:
    """Layers that are shared, by position among the splits that are allowed."""
    return tuple(np.array(laid_out.splits)[list(space.allowed[0])].tolist())


def _paths(individual: Individual, laid_out: Layers) -> list[Individual]:
    return [individual[1 + m * laid_out.layers : 1 + (m + 1) * laid_out.layers] for m in range(laid_out.members)]


def _individual(split: int, paths: list[Individual], splits: tuple[int, ...]) -> Individual:
    """Members have the shared layers of the first, so that they keep them where the split moves."""
    shared = paths[0][: splits[split]]
    return [split, *(option for path in paths for option in shared + path[splits[split] :])]
