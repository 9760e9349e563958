"""Numbers with units, bounds, and what a space can reach, against the whole space listed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas import (
    Bound,
    Budget,
    Choice,
    RequestedBound,
    SearchSpace,
    UsageError,
    check_reachable,
    format_quantity,
    parse_bounds,
    parse_quantity,
    profile,
)
from evonas.testing import TableCost
from evonas.units import split_units
from predictors import AdditiveCost


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("30M", "", 30e6),
        ("600k", "", 6e5),
        ("1.5G", "", 1.5e9),
        ("2e6", "", 2e6),
        ("8ms", "ms", 8),
        ("0.05ms", "ms", 0.05),
        ("50us", "ms", 0.05),
        ("1 s", "ms", 1000),
        ("8", "ms", 8),
        ("3J", "mJ", 3000),
        (".5", "mm2", 0.5),
    ],
)
def test_quantities(text, unit, value):
    assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit"), [("30m", ""), ("", ""), ("M", ""), ("3ms", ""), ("3M", "ms"), ("1e999", ""), ("nan", ""), ("3 4", "")]
)
def test_malformed_quantities(text, unit):
    with pytest.raises(UsageError):
        parse_quantity(text, unit)


@given(st.floats(1e-3, 1e12), st.sampled_from(["", "ms"]))
@settings(deadline=None)
def test_formatted_quantities_read_back(value, unit):
    assert parse_quantity(format_quantity(value, unit), unit) == pytest.approx(value, rel=6e-3)


def test_bounds_are_read():
    units = {"macs": "", "latency": "ms"}
    assert Bound.parse("macs=30M", units) == Bound("macs", upper=30e6)
    assert Bound.parse("latency = 2..8ms", units) == Bound("latency", 2, 8, "ms")
    assert Bound.parse("latency=2ms..", units) == Bound("latency", lower=2, unit="ms")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("macs", "Malformed budget"),
        ("macs=", "Malformed budget"),
        ("mac=3", "Did you mean 'macs'"),
        ("macs=x", "Malformed number 'x'"),
        ("macs=5..3", "Empty budget"),
        ("macs=..", "Empty budget"),
        ("macs=-3", "Empty budget"),
        ("macs=3ms", "Unknown suffix 'ms'"),
    ],
)
def test_malformed_bounds(text, words):
    with pytest.raises(UsageError, match=words):
        Bound.parse(text, {"macs": "", "latency": "ms"})


@st.composite
def bounded_spaces(draw):
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    space = SearchSpace(tuple(Choice(f"c{i}", tuple("xyz"[:size])) for i, size in enumerate(sizes)))
    values = st.integers(0, 20).map(float)
    tables = tuple(((i,), np.array(draw(st.lists(values, min_size=size, max_size=size)))) for i, size in enumerate(sizes))
    return space, AdditiveCost("", float(draw(st.integers(0, 5))), tables), draw(st.integers(0, 60)), draw(st.integers(0, 60))


@given(bounded_spaces())
@settings(max_examples=80, deadline=None)
def test_masks_and_reachability_equal_brute_force(case):
    space, cost, a, b = case
    lower, upper = min(a, b), max(a, b)
    everything = space.enumerate()
    truth = np.array([cost.constant + sum(t[row[c[0]]] for c, t, _ in cost.tables) for row in everything])
    budget = Budget({"macs": cost}, [Bound("macs", lower, upper)])
    np.testing.assert_array_equal(budget.feasible(everything), (truth >= lower) & (truth <= upper))
    found = profile(space, budget, samples=50)
    assert (found.ranges[0].smallest, found.ranges[0].largest, found.ranges[0].exact) == (truth.min(), truth.max(), True)
    if ((truth >= lower) & (truth <= upper)).any():
        check_reachable(space, budget, found)
    else:
        with pytest.raises(UsageError, match="No network"):
            check_reachable(space, budget, found)


def test_violations_are_relative_to_the_bound():
    budget = Budget({"macs": lambda_cost(lambda p: p[:, 0] * 100.0)}, ["macs=100..200"])
    violations = budget.violations(np.array([[0], [1], [2], [3]]))
    np.testing.assert_allclose(violations, [[-1, 1], [-0.5, 0], [0, -1], [0.5, -2]])
    assert budget.verdicts(violations) == ["breaks macs >= 100 by 100 %", "kept", "kept", "breaks macs <= 200 by 50 %"]


def lambda_cost(function):
    class _Cost:
        unit = ""

        def __call__(self, population):
            return function(population)

    return _Cost()


def test_a_cost_that_is_nan_keeps_no_bound():
    budget = Budget({"macs": lambda_cost(lambda p: np.where(p[:, 0] == 0, np.nan, 1.0))}, ["macs=2"])
    assert budget.feasible(np.array([[0], [1]])).tolist() == [False, True]


def test_an_unreachable_bound_names_the_smallest_reachable_value():
    space = SearchSpace((Choice("c", ("x", "y")),))
    budget = Budget({"latency": AdditiveCost("ms", 1.0, (((0,), np.array([2.0, 4.0])),))}, ["latency=2ms"])
    with pytest.raises(UsageError, match="latency <= 2 ms: the smallest reachable value is 3 ms"):
        check_reachable(space, budget, profile(space, budget))


def test_bounds_that_only_fail_together_report_the_acceptance():
    space = SearchSpace(tuple(Choice(f"c{i}", ("x", "y")) for i in range(12)))
    small, large = np.tile([0.0, 1.0], (12, 1)), np.tile([1.0, 0.0], (12, 1))
    budget = Budget({"macs": TableCost(small), "params": TableCost(large)}, ["macs=3", "params=3"])
    with pytest.raises(UsageError, match="0 of 262,144 random networks met all"):
        check_reachable(space, budget, profile(space, budget))


def test_the_ends_of_an_opaque_cost_are_called_found_not_proven():
    space = SearchSpace(tuple(Choice(f"c{i}", ("x", "y", "z")) for i in range(8)))
    table = np.random.default_rng(0).random((8, 3))
    budget = Budget({"macs": TableCost(table)})
    found = profile(space, budget).ranges[0]
    assert not found.exact
    assert found.smallest == pytest.approx(table.min(axis=1).sum())
    assert "local search" in str(found)


def test_a_share_is_the_quantile_of_random_networks():
    space = SearchSpace(tuple(Choice(f"c{i}", ("x", "y", "z")) for i in range(8)))
    cost = TableCost(np.random.default_rng(1).random((8, 3)), "ms")
    (bound,) = parse_bounds(["latency=30%"], space, {"latency": cost})
    assert (cost(space.enumerate()) <= bound.upper).mean() == pytest.approx(0.3, abs=0.02)
    (above,) = parse_bounds(["latency=80%.."], space, {"latency": cost})
    assert (cost(space.enumerate()) >= above.lower).mean() == pytest.approx(0.2, abs=0.02)
    assert above.upper == np.inf
    (between,) = parse_bounds(["latency=20% .. 5ms"], space, {"latency": cost})
    assert (cost(space.enumerate()) <= between.lower).mean() == pytest.approx(0.2, abs=0.02)
    assert between.upper == 5
    for text in ("latency=130%", "latency=0%..", "latency=80%..20%"):
        with pytest.raises(UsageError, match=r"between 0 % and 100 %|Empty budget"):
            parse_bounds([text], space, {"latency": cost})


def test_two_bounds_on_one_cost_are_refused():
    with pytest.raises(UsageError, match="write one"):
        Budget({"macs": TableCost(np.ones((1, 1)))}, ["macs=3", "macs=4"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("macs", "NAME=UPPER"),
        ("mac=3", "Did you mean 'macs'"),
        ("macs=3x", "Unknown suffix 'x'"),
        ("macs=5..3", "Empty budget"),
        ("macs=120%", "between 0 % and 100 %"),
        ("latency=fast", "Malformed number 'fast'"),
        ("latency=x..50%", "Malformed number 'x'"),
    ],
)
def test_a_requested_bound_is_refused_before_costs_are_known(text, words):
    with pytest.raises(UsageError, match=words):
        RequestedBound.parse(text).check({"macs": "", "latency": "ms"})


def test_a_requested_bound_becomes_numbers_when_costs_are_known():
    space = SearchSpace((Choice("a", tuple("abcdefghij")),))
    costs = {"macs": AdditiveCost("", 0.0, (((0,), np.arange(10.0)),))}
    asked = RequestedBound.parse("macs = 25% .. 7")
    checked = asked.check({"macs": ""})
    assert np.isnan(checked.lower)
    assert checked.upper == 7
    found = asked.resolve(space, costs)
    assert (found.lower, found.upper) == (pytest.approx(2, abs=0.5), 7)
    assert RequestedBound.parse("macs=2..").resolve(space, costs) == Bound("macs", 2.0, np.inf, "")
    with pytest.raises(UsageError, match="here it asks for at least"):
        RequestedBound.parse("macs=90%..2").resolve(space, costs)


def test_costs_of_files_from_before_get_their_units_back():
    assert split_units({"macs": 5.0, "latency_ms": 2.0, "area_mm2": 3.0, "energy_mJ": 1.0, "own_score": 4.0}) == (
        {"macs": 5.0, "latency": 2.0, "area": 3.0, "energy": 1.0, "own_score": 4.0},
        {"macs": "", "latency": "ms", "area": "mm2", "energy": "mJ", "own_score": ""},
    )
