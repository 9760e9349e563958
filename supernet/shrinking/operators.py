"""From scores of architectures to scores of options, and which options of a space to drop.

Hu et al., 2020, arXiv 2004.13431: an option is worth what the architectures that hold it are worth on average; the worst options of all
choices are dropped, one stays in every choice. Departure: all architectures that are scored keep the budget, whatever it bounds; an option
that none of them holds is dropped first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

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
    for columns in space.groups:
        indices = space.allowed[columns[0]]
        for option in indices:
            missing = count - sum(int((part[:, columns] == option).any(axis=1).sum()) for part in found)
            if missing > 0 and len(indices) > 1:
                only = {space.names[column]: [space.choices[column].options[option]] for column in columns}
                more = draw_feasible(space.narrow(only), budget, missing, rng, seen)
                seen |= set(space.keys(more))
                found.append(more)
    return np.concatenate(found)


def scores_of_options(space: SearchSpace, population: Population, scores: Floats) -> Scores:
    """The mean score of the architectures that hold an option, for every option of every choice; choices that are alike have one mean."""
    found = [np.zeros(0)] * len(space)
    for columns in space.groups:
        means = np.full(len(space.choices[columns[0]].options), np.nan)
        for option in space.allowed[columns[0]]:
            holding = np.concatenate([scores[population[:, column] == option] for column in columns])
            means[option] = holding.mean() if len(holding) else -np.inf
        for column in columns:
            found[column] = means
    return found


def without_the_worst(
    space: SearchSpace,
    scores: Scores,
    *,
    count: int | None = None,
    size: float = 1.0,
    per_choice: bool = False,
    least: int = 1,
    whole: Collection[str] = (),
) -> SearchSpace:
    """The space without its worst options; choices that are alike lose them together.

    Args:
        space, scores: see `scores_of_options`.
        count: how many to drop; as many as bring the space down to `size` unless told otherwise.
        size: architectures that are enough, where `count` is None: the last option dropped is the one with which there are no more.
        per_choice: drop the worst of every choice that has more than `least` instead, so that all keep equally many.
        least: options that every choice keeps.
        whole: choices that keep all.
    """
    allowed = [list(indices) for indices in space.allowed]
    groups = [columns for columns in space.groups if not {space.names[column] for column in columns} & set(whole)]

    def drop(columns: tuple[int, ...], option: int) -> None:
        for column in columns:
            allowed[column].remove(option)

    if per_choice:
        for columns in groups:
            if len(indices := allowed[columns[0]]) > least:
                drop(columns, min(indices, key=lambda option, first=columns[0]: scores[first][option]))  # type: ignore[misc]
    else:
        order = sorted((float(scores[columns[0]][option]), columns, option) for columns in groups for option in space.allowed[columns[0]])
        dropped = 0
        for _, columns, option in order:
            if dropped == count or (count is None and math.prod(map(len, allowed)) <= size):
                break
            if len(allowed[columns[0]]) > least:
                drop(columns, option)
                dropped += 1
    names = {choice.name: [choice.options[option] for option in indices] for choice, indices in zip(space.choices, allowed, strict=True)}
    return space.narrow(names)


def mean_of_ranks(*scores: Callable[[Population], Floats]) -> Callable[[Population], Floats]:
    """The mean rank of an architecture by several scores, 0 to 1."""

    def ranked(population: Population) -> Floats:
        ranks = [score(population).argsort(kind="stable").argsort() for score in scores]
        return np.asarray(np.mean(ranks, axis=0) / max(len(population) - 1, 1))

    return ranked
