"""Selective sampling: what is drawn follows the distribution, and the most probable come in order."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from evonas import Budget, Choice, DistributionExplorer, SearchSpace, UsageError, open_study
from evonas.budget import Bound
from evonas.graph import Graph
from evonas.testing import TableCost

SPACE = SearchSpace(tuple(Choice(f"c{i}", ("a", "b", "c", "d")[: 2 + i % 3]) for i in range(5)))


def drawn(seed):
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.ones(len(choice.options))) for choice in SPACE.choices]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 30), count=st.integers(1, 40))
def test_the_most_probable_are_those_of_the_whole_list(seed, count):
    """Under a budget and with an option that is not allowed, against sorting everything."""
    distribution, rng = drawn(seed), np.random.default_rng(seed)
    space = SPACE.narrow({"c2": ["a", "c", "d"]})
    costs = {"size": TableCost(rng.random((len(space), 4)))}
    budget = Budget(costs, (Bound("size", upper=2.6),))
    explorer = DistributionExplorer(space, budget, distribution=distribution, mode="most-probable", generation_size=count)
    rows = explorer.rows(open_study(None, "x"), 0, count)
    everything = space.enumerate()
    everything = everything[budget.feasible(everything)]
    logs = np.sum([np.log(p)[column] for p, column in zip(distribution, everything.T, strict=True)], axis=0)
    found = np.sum([np.log(p)[column] for p, column in zip(distribution, rows.T, strict=True)], axis=0)
    np.testing.assert_allclose(found, np.sort(logs)[::-1][: len(rows)])
    assert len(rows) == min(count, len(everything))


def test_samples_follow_the_distribution():
    """First proposals of 3,000 seeds, choice by choice, against the probabilities: chi-square."""
    distribution = drawn(4)
    rows = np.concatenate(
        [DistributionExplorer(SPACE, distribution=distribution, seed=seed).rows(open_study(None, "x"), 0, 1) for seed in range(600)]
    )
    for p, column in zip(distribution, rows.T, strict=True):
        assert chisquare(np.bincount(column, minlength=len(p)), p * len(rows)).pvalue > 1e-4


def test_where_the_distribution_has_no_more_random_ones_follow():
    certain = [np.eye(len(choice.options))[0] for choice in SPACE.choices]
    for mode in ("sample", "most-probable"):
        rows = DistributionExplorer(SPACE, distribution=certain, mode=mode, generation_size=10).rows(open_study(None, "x"), 0, 10)
        assert len({tuple(row) for row in rows.tolist()}) == 10
        assert rows[0].tolist() == [0] * 5


def test_every_architecture_comes_once():
    rows = DistributionExplorer(SPACE, mode="most-probable", generation_size=500).rows(open_study(None, "x"), 0, 500)
    assert sorted(map(tuple, rows.tolist())) == sorted(itertools.product(*(range(len(c.options)) for c in SPACE.choices)))


@pytest.mark.parametrize("mode", ["sample", "most-probable"])
def test_no_cell_is_proposed_whose_input_does_not_reach_its_output(mode):
    """Where "none" is by far the likeliest, all that have a path come before any that has not: against a brute-force list."""
    space = SearchSpace(tuple(Choice(f"edge{i}", ("none", "a")) for i in range(3)), graph=Graph(((0, 1), (1, 2), (0, 2))))
    explorer = DistributionExplorer(space, distribution=[[0.9, 0.1]] * 3, mode=mode, generation_size=8)
    rows = explorer.rows(open_study(None, "x"), 0, 8)
    reached = (rows[:, 0] & rows[:, 1]) | rows[:, 2]
    assert reached.tolist() == [1] * 5 + [0] * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "best"}, "mode"),
        ({"distribution": [[0.5, 0.5]]}, "1 choices; this space has 5"),
        ({"distribution": [[1, 2, 3]] * 5}, "a probability for each"),
        ({"distribution": [np.full(len(c.options), np.nan) for c in SPACE.choices]}, "a probability for each"),
        ({"distribution": [np.zeros(len(c.options)) for c in SPACE.choices]}, "expected one that can be taken"),
    ],
)
def test_what_is_no_distribution_is_said(options, said):
    with pytest.raises(UsageError, match=said):
        DistributionExplorer(SPACE, **options)
