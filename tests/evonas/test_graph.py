"""Path features against walking every cell by hand."""

from collections import Counter

import numpy as np
import pytest

from evonas import Choice, Graph, SearchSpace, UsageError
from evonas.tabular import nasbench201_space


def walked(names: dict[str, str]) -> Counter:
    """The operation sequences between node 0 and node 3 of a NAS-Bench-201 cell, by following its edges."""
    found: Counter = Counter()

    def go(node: int, sequence: tuple[str, ...]) -> None:
        if node == 3:
            found[sequence] += 1
        for target in range(node + 1, 4):
            operation = names[f"{target}<-{node}"]
            if operation != "none":
                go(target, sequence if operation == "skip_connect" else (*sequence, operation))

    go(0, ())
    return found


def test_two_cells_have_equal_counts_exactly_when_their_paths_are_equal(rng):
    space = nasbench201_space()
    population = space.sample(400, rng)
    population[::2, 3:] = population[0, 3:]  # make agreement common
    counts = space.graph.path_counts([c.options for c in space.choices], population)
    expected = [walked(space.to_names(row)) for row in population]
    assert counts.sum(axis=1).tolist() == [sum(paths.values()) for paths in expected]
    equal = (counts[:, None] == counts[None]).all(axis=2)
    for i, paths in enumerate(expected):
        assert equal[i].tolist() == [paths == others for others in expected]


def test_paths_run_from_the_input_to_the_output():
    assert Graph(((0, 1), (1, 2), (0, 2))).paths() == [(2,), (0, 1)]


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="source < target"):
        Graph(((1, 0),))
    with pytest.raises(UsageError, match="2 edges for 1 choices"):
        SearchSpace((Choice("a", ("x", "y")),), graph=Graph(((0, 1), (1, 2))))
    chain = Graph(tuple((i, i + 1) for i in range(20)))
    with pytest.raises(UsageError, match="too many paths"):
        chain.path_counts([("a", "b", "c")] * 20, np.zeros((1, 20), dtype=int))
