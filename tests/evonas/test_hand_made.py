"""Extremes within a budget, and the networks that a person would try first: against listings of a small space."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas import Budget, Choice, EvolutionExplorer, SearchSpace, UsageError
from evonas.extremes import cheapest_and_dearest
from evonas.hand_made import hand_made
from evonas.sampling import draw_feasible
from evonas.testing import TableCost, example

OPTIONS = ("conv3", "conv5", "conv7", "skip")


def chain(length, seed):
    rng = np.random.default_rng(seed)
    space = SearchSpace(tuple(Choice(f"block{i}.op", OPTIONS) for i in range(length)))
    size = rng.integers(1, 20, (length, 4)).astype(float)
    size[:, 3] = 0
    return space, TableCost(size), TableCost(np.tile([1.0, 1.0, 1.0, 0.0], (length, 1)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 1.0))
def test_small_spaces_are_exact(seed, share):
    space, size, depth = chain(5, seed)
    everything = space.enumerate()
    budget = Budget({"macs": size}, [f"macs={share * size(everything).max():.6f}"])
    feasible = everything[budget.feasible(everything)]
    ends = size(cheapest_and_dearest(space, size, budget))
    assert ends.tolist() == [size(feasible).min(), size(feasible).max()]
    rows = hand_made(space, budget, size, depth)
    assert budget.feasible(rows).all()
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert size(rows).max() == size(feasible).max()
    assert depth(rows).max() == depth(feasible).max()
    for option in range(3):  # the deepest that has no other operator, and of those the largest
        only = feasible[np.isin(feasible, [option, 3]).all(axis=1)]
        deepest = only[depth(only) == depth(only).max()]
        same = rows[np.isin(rows, [option, 3]).all(axis=1)]
        same = same[depth(same) == depth(only).max()]
        assert size(same).max() == size(deepest).max()


def test_large_spaces_are_climbed_beyond_what_random_networks_reach(rng):
    space, size, _ = chain(14, 3)
    budget = Budget({"macs": size}, ["macs=100"])
    ends = cheapest_and_dearest(space, size, budget)
    drawn = draw_feasible(space, budget, 20_000, rng)
    assert budget.feasible(ends).all()
    assert size(ends)[0] == 0
    assert size(ends)[1] == 100 >= size(drawn).max()  # sums of whole numbers: the bound itself is reached


def test_a_budget_that_nothing_keeps():
    space, size, depth = chain(4, 0)
    budget = Budget({"macs": size}, ["macs=1000..2000"])
    with pytest.raises(UsageError, match="No network keeps 1k <= macs"):
        cheapest_and_dearest(space, size, budget)
    assert hand_made(space, budget, size, depth).shape == (0, 4)


def test_a_search_begins_with_them(rng):
    space, budget, _ = example()
    explorer = EvolutionExplorer(space, budget, first=space.population([[0] * len(space)]))
    rows = draw_feasible(space, budget, 5, rng)
    with pytest.warns(UserWarning, match="1 of 6 architectures to try first break the budget"):
        explorer.try_first(np.concatenate([rows, [[1] * len(space)]])) if not budget.feasible(np.full((1, len(space)), 1))[0] else None
    assert explorer.first.tolist()[-5:] == rows.tolist()
