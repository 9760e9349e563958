"""Subspaces that evolve: never more than there is room for, nothing twice, what a front uses stays; fronts against brute force."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from evonas.explorers.pareto import pareto_front
from evonas.subspaces import first_subspaces


@given(some.integers(1, 4), some.integers(2, 9), some.integers(2, 5), some.integers(0, 99))
def test_every_operator_is_tried_once_or_counted(layers, operators, size, seed):
    rng = np.random.default_rng(seed)
    size = min(size, operators)
    now = first_subspaces(layers, operators, size, rng)
    tried = [set(each) for each in now.current]
    for _ in range(6):
        for layer in range(layers):
            assert len(now.current[layer]) <= max(size, len(now.kept[layer]))
            assert len(set(now.current[layer])) == len(now.current[layer])
            assert not set(now.current[layer]) & set(now.pending[layer])
            assert set(now.kept[layer]) <= set(now.current[layer])
            assert tried[layer] | set(now.pending[layer]) == set(range(operators))
        assert now.never_tried == sum(operators - len(each) for each in tried)
        assert now.allowed(operators).sum(axis=1).tolist() == [len(each) for each in now.current]
        members = np.zeros((rng.integers(1, 4), layers, operators), dtype=bool)
        for layer in range(layers):
            members[np.arange(len(members)), layer, rng.choice(now.current[layer], len(members))] = True
        following = now.evolved(members)
        assert [set(kept) for kept in following.kept] == [set(np.flatnonzero(used)) for used in members.any(axis=0)]
        for layer in range(layers):  # what comes next comes in the order that was drawn
            new = following.current[layer][len(following.kept[layer]) :]
            assert new == now.pending[layer][: len(new)]
            tried[layer] |= set(new)
        now = following


def test_a_larger_pool_keeps_what_was_kept_and_tries_what_is_new():
    rng = np.random.default_rng(0)
    members = np.zeros((1, 2, 6), dtype=bool)
    first = first_subspaces(2, 6, 3, rng)
    members[0, 0, first.current[0][0]] = members[0, 1, first.current[1][2]] = True
    larger = first.evolved(members).continued(6, 10, rng)
    for layer in range(2):
        (kept,) = larger.kept[layer]
        assert larger.current[layer][0] == kept
        assert len(larger.current[layer]) == 3
        assert set(larger.current[layer][1:]) | set(larger.pending[layer]) == {6, 7, 8, 9}
    assert larger.never_tried == 4


@given(some.lists(some.tuples(some.integers(0, 6), some.integers(0, 6)), min_size=1, max_size=30))
def test_a_front_is_what_no_other_is_better_than(points):
    costs, scores = (np.array(values, dtype=float) for values in zip(*points, strict=True))
    found = pareto_front(costs, scores).tolist()
    beaten = lambda i, j: costs[j] <= costs[i] and scores[j] >= scores[i] and (costs[j] < costs[i] or scores[j] > scores[i])  # noqa: E731
    expected = {point for i, point in enumerate(points) if not any(beaten(i, j) for j in range(len(points)))}
    assert {points[i] for i in found} == expected
    assert len(found) == len(expected)  # of equal ones, one
    assert costs[found].tolist() == sorted(costs[found])
