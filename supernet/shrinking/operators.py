"""From scores of architectures to scores of options, and which options of a space to drop.

Hu et al., 2020, arXiv 2004.13431: an option is worth what the architectures that hold it are worth on average; the worst options of all
choices are dropped, one stays in every choice. Departure: all architectures that are scored keep the budget, whatever it bounds; an option
that none of them holds is dropped first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from evonas.budget import Budget
from evonas.sampling import draw_feasible
from evonas.space import Architecture, Population, SearchSpace

Floats = npt.NDArray[np.float64]
Scores = list[Floats]  # for every choice one score an option, NaN where it is not allowed, minus infinity where nothing holds it


def pool_of(space: SearchSpace, budget: Budget, count: int, rng: np.random.Generator) -> Population:
    """Different architectures, at least `count` of which hold every option that is allowed, where there are so many.

    Shape (n, choices).
    """
    most = max(map(len, space.allowed))
    rows = draw_feasible(space, budget, count * most, rng)
    seen: set[Architecture] = set(space.keys(rows))
    found = [rows]
    for column, indices in enumerate(space.allowed):
        for option in indices:
            missing = count - sum(int((part[:, column] == option).sum()) for part in found)
            if missing > 0 and len(indices) > 1:
                choice = space.choices[column]
                more = draw_feasible(space.narrow({choice.name: [choice.options[option]]}), budget, missing, rng, seen)
                seen |= set(space.keys(more))
                found.append(more)
    return np.concatenate(found)


def scores_of_options(space: SearchSpace, population: Population, scores: Floats) -> Scores:
    """The mean score of the architectures that hold an option, for every option of every choice."""
    found = []
    for column, (choice, indices) in enumerate(zip(space.choices, space.allowed, strict=True)):
        means = np.full(len(choice.options), np.nan)
        for option in indices:
            holding = scores[population[:, column] == option]
            means[option] = holding.mean() if len(holding) else -np.inf
        found.append(means)
    return found


def without_the_worst(
    space: SearchSpace, scores: Scores, *, count: int | None = None, size: float = 1.0, per_choice: bool = False
) -> SearchSpace:
    """The space without its worst options; every choice keeps one.

    Args:
        space, scores: see `scores_of_options`.
        count: how many to drop; as many as bring the space down to `size` unless told otherwise.
        size: architectures that are enough, where `count` is None: the last option dropped is the one with which there are no more.
        per_choice: drop the worst of every choice that has more than one instead, so that all keep equally many.
    """
    allowed = [list(indices) for indices in space.allowed]
    if per_choice:
        for column, indices in enumerate(allowed):
            if len(indices) > 1:
                indices.remove(min(indices, key=lambda option, column=column: scores[column][option]))  # type: ignore[misc]
    else:
        order = sorted((float(scores[c][option]), c, option) for c, indices in enumerate(space.allowed) for option in indices)
        dropped = 0
        for _, column, option in order:
            if dropped == count or (count is None and math.prod(map(len, allowed)) <= size):
                break
            if len(allowed[column]) > 1:
                allowed[column].remove(option)
                dropped += 1
    names = {choice.name: [choice.options[option] for option in indices] for choice, indices in zip(space.choices, allowed, strict=True)}
    return space.narrow(names)


def mean_of_ranks(*scores: Callable[[Population], Floats]) -> Callable[[Population], Floats]:
    """The mean rank of an architecture by several scores, 0 to 1."""

    def ranked(population: Population) -> Floats:
        ranks = [score(population).argsort(kind="stable").argsort() for score in scores]
        return np.asarray(np.mean(ranks, axis=0) / max(len(population) - 1, 1))

    return ranked
