"""Architectures as features: a population of option indices to the matrix a regressor takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from evonas.space import Choice, Population, SearchSpace

Floats = npt.NDArray[np.float64]


def one_hot(sizes: Sequence[int] | np.ndarray) -> OneHotEncoder:
    """A transformer for pipelines: (n, choices) option indices to (n, sum of sizes) zeros and ones.

    The columns follow the un-narrowed space (`SearchSpace.sizes`), so a fitted pipeline stays valid when the space is narrowed.

    Args:
        sizes: number of options of every choice.
    """
    return OneHotEncoder(categories=[np.arange(int(size)) for size in sizes], sparse_output=False, dtype=np.float32)


def measures(*functions: Callable[[Population], npt.ArrayLike]) -> FunctionTransformer:
    """A transformer for pipelines: a population to one column for each function, such as costs, NN-Degree or NN-Mass.

    Args:
        functions: population to numbers of shape (n,).
    """
    return FunctionTransformer(partial(_measured, functions))


def _measured(functions: Sequence[Callable[[Population], npt.ArrayLike]], population: Population) -> Floats:
    rows = np.asarray(population).astype(np.int64)
    return np.stack([np.asarray(function(rows), dtype=np.float64) for function in functions], axis=1)


def option_columns(space: SearchSpace, population: Population) -> list[Floats]:
    """One matrix a choice, shape (n, its options): 1 where the row takes the option."""
    return [(population[:, [i]] == np.arange(len(choice.options))).astype(np.float64) for i, choice in enumerate(space.choices)]


def ordered_columns(space: SearchSpace, population: Population) -> list[Floats]:
    """As `option_columns`, and for options that are numbers one more column: their place in order, as spread out as the others together.

    So near numbers are alike, and every choice weighs as much as it would by names.
    """
    columns = option_columns(space, population)
    for i, choice in enumerate(space.choices):
        if _is_ordered(choice):
            n = len(choice.options)
            by_name, by_place = (n - 1) / n, (n + 1) / (12 * (n - 1))  # variances, where all options are as frequent
            columns[i] = np.concatenate([columns[i], math.sqrt(by_name / by_place) * _places(choice)[population[:, [i]]]], axis=1)
    return columns


def option_counts(space: SearchSpace, population: Population) -> Floats:
    """How often each option is taken, over all choices that have the same options: shape (n, options of shared lists).

    A list of options that only one choice has is left out: its counts would repeat `option_columns`.
    """
    lists = [choice.options for choice in space.choices]
    shared = [options for options in dict.fromkeys(lists) if lists.count(options) > 1]
    columns = [
        (population[:, [i for i, other in enumerate(lists) if other == options]] == option).sum(axis=1)
        for options in shared
        for option in range(len(options))
    ]
    return np.stack(columns, axis=1).astype(np.float64) if columns else np.zeros((len(population), 0))


def option_numbers(space: SearchSpace, population: Population) -> Floats:
    """The position in ascending order of options that are numbers (widths, kernels, depths), from 0 to 1: shape (n, such choices).

    Choices of two options are left out: their order says nothing that `option_columns` does not.
    """
    columns = []
    for i, choice in enumerate(space.choices):
        if _is_ordered(choice):
            columns.append(_places(choice)[population[:, i]])
    return np.stack(columns, axis=1) if columns else np.zeros((len(population), 0))


def path_counts(space: SearchSpace, population: Population) -> Floats:
    """How often each sequence of operations lies on a path of the space's graph; no columns where it declares none."""
    if space.graph is None:
        return np.zeros((len(population), 0))
    return space.graph.path_counts([choice.options for choice in space.choices], population)


def _is_ordered(choice: Choice) -> bool:
    return len(choice.options) > 2 and all(_is_number(option) for option in choice.options)


def _places(choice: Choice) -> Floats:
    """Of each option in the ascending order of all, from 0 to 1."""
    return np.argsort(np.argsort([float(option) for option in choice.options])) / (len(choice.options) - 1)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
