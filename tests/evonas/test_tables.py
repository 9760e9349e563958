"""Costs as tables along which a state runs, against sums made by hand."""

import numpy as np
import pytest

from evonas import Budget, Choice, SearchSpace, profile
from evonas.tables import AdditiveCost, CostTable, TooWide


def by_hand(cost, row):
    """One look-up after another."""
    total, state = cost.constant, 0
    for columns, values, following in cost.tables:
        options = tuple(row[column] for column in columns)
        total += values[options] if values.ndim == len(columns) else values[(state if len(values) > 1 else 0, *options)]
        if following is not None:
            state = following[(state if len(following) > 1 else 0, *options)]
    return total


def random_case(seed):
    """A small space with some options taken away, and tables that share choices and hand states on."""
    rng = np.random.default_rng(seed)
    space = SearchSpace(tuple(Choice(f"c{i}", tuple("abc"[: rng.integers(1, 4)])) for i in range(rng.integers(2, 6))))
    space = space.narrow({c.name: list(rng.permutation(c.options)[: rng.integers(1, len(c.options) + 1)]) for c in space.choices})
    tables, states = [], 1
    for _ in range(rng.integers(1, 9)):
        columns = tuple(rng.permutation(len(space))[: rng.integers(0, 3)].tolist())
        sizes = [int(space.sizes[column]) for column in columns]
        kind = rng.integers(3)
        if kind == 0:
            tables.append(CostTable(columns, rng.normal(size=sizes)))
        elif kind == 1:
            tables.append(CostTable(columns, rng.normal(size=[states, *sizes])))
        else:
            handed = int(rng.integers(1, 4))
            tables.append(CostTable(columns, rng.normal(size=[states, *sizes]), rng.integers(handed, size=[states, *sizes])))
            states = handed
    return space, AdditiveCost("", float(rng.normal()), tuple(tables))


@pytest.mark.parametrize("seed", range(60))
def test_sums_and_ends_are_those_of_brute_force(seed):
    space, cost = random_case(seed)
    everything = space.enumerate()
    truth = np.array([by_hand(cost, row) for row in everything.tolist()])
    np.testing.assert_allclose(cost(everything), truth, atol=1e-12)
    ends = space.population(cost.extremes(space))
    np.testing.assert_allclose(cost(ends), [truth.min(), truth.max()], atol=1e-12)


def test_two_tables_may_share_a_column():
    """Each alone would choose another option: the cheapest sum is 2, not the 9 of choosing table by table."""
    space = SearchSpace((Choice("a", ("x", "y")), Choice("b", ("x", "y"))))
    cost = AdditiveCost("", 0.0, (CostTable((0, 1), np.array([[0.0, 8.0], [5.0, 1.0]])), CostTable((1,), np.array([9.0, 1.0]))))
    assert cost.extremes(space)[0] == (1, 1)
    assert cost(np.array(cost.extremes(space))).tolist() == [2.0, 14.0]


def test_what_is_too_wide_is_found_by_local_search_and_said():
    """Pairs of everything with everything keep all choices open to the end."""
    space = SearchSpace(tuple(Choice(f"c{i}", tuple("abcd")) for i in range(12)))
    rng = np.random.default_rng(0)
    pairs = [CostTable((i, j), rng.random((4, 4))) for i in range(12) for j in range(i)]
    cost = AdditiveCost("", 0.0, tuple(pairs))
    with pytest.raises(TooWide):
        cost.extremes(space)
    found = profile(space, Budget({"macs": cost})).ranges[0]
    assert not found.exact
    assert "by local search" in str(found)
    assert found.smallest <= cost(space.sample(5000, rng)).min()


def test_values_that_are_not_known_are_never_an_end():
    space = SearchSpace((Choice("a", ("x", "y", "z")),))
    cost = AdditiveCost("ms", 0.0, (CostTable((0,), np.array([2.0, np.nan, 1.0])),))
    assert cost.extremes(space) == ((2,), (0,))
