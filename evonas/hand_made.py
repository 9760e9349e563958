"""Networks that a person would try before any search: the largest, the deepest, and those with the same option everywhere.

A search that scores them first is never behind them by its own measure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evonas.budget import Budget, Cost
from evonas.errors import UsageError
from evonas.extremes import cheapest_and_dearest
from evonas.space import IDLE, Population, SearchSpace

SAMPLED = 1000


@dataclass(frozen=True)
class _Order:
    """An order of networks, as a cost."""

    of: Callable[[Population], npt.NDArray[np.float64]]
    unit: str = ""

    def __call__(self, population: Population) -> npt.NDArray[np.float64]:
        return self.of(population)


def hand_made(space: SearchSpace, budget: Budget, size: Cost, depth: Cost) -> Population:
    """Hand-made networks that keep the budget, each once, the largest first: shape (n, choices).

    The largest; the deepest, and of those the largest; and for every option that all choices of a kind offer (an operator, a width) the
    deepest network with no other: MobileNetV2 has one operator everywhere. Blocks may be left out where the space lets them.

    Args:
        space, budget: what is searched. A kind of choices is what follows the last dot of their names.
        size: MACs, say.
        depth: number of operators, see `predictors.costs.operators`.
    """
    largest = float(np.max(size(space.sample(SAMPLED, np.random.default_rng(0)))))

    def deep_then_large(population: Population) -> npt.NDArray[np.float64]:
        return np.asarray(depth(population)) + 1e-3 * np.asarray(size(population)) / largest

    rows = [_dearest(space, size, budget), _dearest(space, _Order(deep_then_large), budget)]
    rows += [_dearest(part, _Order(deep_then_large), budget) for part in _same_everywhere(space)]
    population = np.unique(space.canonical(np.concatenate(rows)), axis=0)
    return population[np.argsort(-np.asarray(size(population)), kind="stable")]


def _dearest(space: SearchSpace, cost: Cost, budget: Budget) -> Population:
    """None or one."""
    try:
        return cheapest_and_dearest(space, cost, budget)[1:]
    except UsageError:
        return np.zeros((0, len(space)), np.int64)


def _same_everywhere(space: SearchSpace) -> list[SearchSpace]:
    """The space with one option for all choices of a kind, for every kind and option."""
    kinds: dict[str, list[int]] = {}
    for column, name in enumerate(space.names):
        kinds.setdefault(name.rpartition(".")[2], []).append(column)
    parts = []
    for columns in kinds.values():
        offered = [{space.choices[column].options[i] for i in space.allowed[column]} for column in columns]
        for option in dict.fromkeys(space.choices[columns[0]].options):
            if option not in IDLE and all(option in options for options in offered):
                kept = {option, *IDLE}
                parts.append(space.narrow({space.names[c]: sorted(found & kept) for c, found in zip(columns, offered, strict=True)}))
    return parts
