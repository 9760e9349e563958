"""Spaces against brute force over every architecture, on spaces that hypothesis makes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas import Choice, SearchSpace, UsageError


@st.composite
def spaces(draw):
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    choices = tuple(Choice(f"c{i}", tuple("wxyz"[:size])) for i, size in enumerate(sizes))
    space = SearchSpace(choices)
    if draw(st.booleans()):
        kept = {c.name: draw(st.sets(st.sampled_from(c.options), min_size=1)) for c in choices}
        space = space.narrow(kept)
    return space


def brute_force(space):
    everything = itertools.product(*(range(len(choice.options)) for choice in space.choices))
    return [a for a in everything if all(i in allowed for i, allowed in zip(a, space.allowed, strict=True))]


@given(spaces())
@settings(max_examples=60, deadline=None)
def test_enumeration_count_and_membership_equal_brute_force(space):
    expected = brute_force(space)
    assert list(map(tuple, space.enumerate().tolist())) == expected
    assert space.count() == len(expected)
    wide = np.array(list(itertools.product(*(range(-1, 5) for _ in space.choices))))
    assert [tuple(row) for row in wide[space.contains(wide)].tolist()] == expected


@given(spaces(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_names_and_indices_are_inverse(space, seed):
    for row in space.sample(3, np.random.default_rng(seed)):
        assert space.from_names(space.to_names(row)) == tuple(row)


@given(spaces(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_neighbours_are_all_that_differ_in_one_choice(space, seed):
    row = tuple(space.sample(1, np.random.default_rng(seed))[0].tolist())
    expected = {a for a in brute_force(space) if sum(x != y for x, y in zip(a, row, strict=True)) == 1}
    found = list(map(tuple, space.neighbours(row).tolist()))
    assert set(found) == expected
    assert len(found) == len(expected)


def test_samples_are_uniform_over_allowed_options():
    space = SearchSpace((Choice("a", tuple("pqrst")), Choice("b", ("x", "y")))).narrow({"a": ["p", "r", "t"]})
    rows = space.sample(30_000, np.random.default_rng(0))
    counts = np.bincount(rows[:, 0] * 2 + rows[:, 1], minlength=10)
    expected = 30_000 / 6
    assert set(np.flatnonzero(counts)) == {0, 1, 4, 5, 8, 9}
    chi_square = ((counts[counts > 0] - expected) ** 2 / expected).sum()
    assert chi_square < 20.5  # the 0.999 quantile of five degrees of freedom


def test_narrowing_keeps_coordinates_and_composes():
    space = SearchSpace((Choice("a", ("p", "q", "r")), Choice("b", ("x", "y"))))
    narrow = space.narrow({"a": ["q", "r"]}).narrow({"a": ["p", "r"], "b": ["y"]})
    assert narrow.allowed == ((2,), (1,))
    assert narrow.from_names({"a": "r", "b": "y"}) == (2, 1)
    assert (narrow.sizes == space.sizes).all()
    with pytest.raises(UsageError, match="at least one"):
        narrow.narrow({"a": ["p"]})


def test_a_space_of_1e19_is_counted_exactly():
    space = SearchSpace(tuple(Choice(f"c{i}", tuple("abcdefghi")) for i in range(20)))
    assert space.count() == 9**20
    with pytest.raises(UsageError, match="too large to list"):
        space.enumerate()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.from_names({"a": "p"}), "lacks the choice 'b'"),
        (lambda s: s.from_names({"a": "p", "b": "z"}), "Unknown option of 'b' 'z'; expected one of: x, y"),
        (lambda s: s.from_names({"a": "p", "b": "x", "c": "x"}), "Unknown choice 'c'"),
        (lambda s: s.population([(0, 5)]), "takes option 5 of 'b'"),
        (lambda s: s.population([(0,)]), "has 1 entries; this space has 2 choices"),
        (lambda s: s.narrow({"bb": ["x"]}), "Did you mean 'b'"),
    ],
)
def test_errors_show_the_architecture_and_what_is_allowed(call, words):
    space = SearchSpace((Choice("a", ("p", "q")), Choice("b", ("x", "y"))))
    with pytest.raises(UsageError, match=words):
        call(space)


def test_a_space_of_many_choices_few_of_which_are_open_is_listed():
    """numpy's own grids end at 32 dimensions."""
    space = SearchSpace(tuple(Choice(f"c{i}", ("a", "b", "c")) for i in range(40))).narrow({f"c{i}": ["b"] for i in range(1, 39)})
    rows = space.enumerate()
    assert rows[:, [0, 39]].tolist() == [list(pair) for pair in itertools.product(range(3), range(3))]
    assert (rows[:, 1:39] == 1).all()
