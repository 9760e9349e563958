"""Fused scores on a fixed scale: those of the whole population, whatever company a network is in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas import EvolutionExplorer, open_study, search
from evonas.fusion import FusedFitness, fused_costs
from evonas.ranks import NormalScale, fused, normal_scores
from evonas.testing import TableCost, example

numbers = st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=60, unique=True)


@given(numbers)
def test_the_reference_gets_its_own_normal_scores(values):
    values = np.array(values)
    assert np.allclose(NormalScale(values)(values), normal_scores(values))


@given(numbers, st.lists(st.floats(-1e7, 1e7), min_size=2, max_size=20))
def test_the_scale_never_decreases_and_tells_what_lies_beyond_it_apart(reference, values):
    scale, ordered = NormalScale(np.array(reference)), np.sort(values)
    assert (np.diff(scale(ordered)) >= 0).all()
    span = max(reference) - min(reference)
    beyond = max(reference) + span * np.array([0.0, 1.0, 2.0, 3.0])
    steps = np.diff(scale(beyond))
    assert np.allclose(steps, steps[0], rtol=1e-3)
    assert steps[0] > 0


def test_a_reference_that_says_nothing():
    for reference in ([], [3.0], [2.0, 2.0, 2.0], [np.nan, 1.0]):
        assert NormalScale(np.array(reference))(np.array([1.0, 5.0])).tolist() == [0, 0]
    assert np.isnan(NormalScale(np.array([0.0, 1.0]))(np.array([np.nan]))).all()


@pytest.fixture
def setting():
    """A space, its budget, a fitness of two sides, and the cheap scores."""
    space, budget, fitness = example()
    operators = TableCost(np.tile([0.0, 1.0, 1.0, 1.0, 1.0], (len(space), 1)))
    return space, budget, lambda population: (fitness(population) ** 2, fitness(population)), fused_costs(budget.costs, operators)


def test_fused_scores_of_the_reference_are_those_of_the_published_fusion(setting, rng):
    space, _, both, cheap = setting
    population = space.sample(150, rng)
    likelihood = both(population)[1]
    scores, beside = FusedFitness(both, cheap, population, likelihood)(population)
    assert np.allclose(scores, fused(likelihood, *(cost(population) for cost in cheap)))
    assert np.array_equal(beside["accuracy"], both(population)[0])


def test_a_score_does_not_depend_on_company(setting, rng):
    space, _, both, cheap = setting
    reference, population = space.sample(100, rng), space.sample(40, rng)
    fitness = FusedFitness(both, cheap, reference, both(reference)[1])
    alone = [fitness(row[None]).scores[0] for row in population]
    assert np.allclose(fitness(population).scores, alone)
    uncosted = FusedFitness(both, [], reference, both(reference)[1])
    assert np.allclose(uncosted(population).scores, NormalScale(both(reference)[1])(both(population)[1]))


def test_bit_operations_stand_for_macs_where_they_are_counted():
    macs, bits, operators = (TableCost(np.ones((2, 2)) * k) for k in (1, 2, 3))
    assert fused_costs({"macs": macs, "params": macs}, operators) == [macs, operators]
    assert fused_costs({"bitops": bits}, operators) == [bits, operators]
    assert fused_costs({}, operators) == [operators]


def test_what_is_measured_beside_a_score_is_kept_with_the_trial(setting, rng):
    space, budget, both, cheap = setting
    reference = space.sample(100, rng)
    fitness = FusedFitness(both, cheap, reference, both(reference)[1])
    study = open_study(None, "fused")
    found = search(space, fitness, EvolutionExplorer(space, budget), evaluations=60, study=study, budget=budget)
    for trial, row in zip(study.get_trials(deepcopy=False), found.history.population, strict=True):
        assert trial.user_attrs["accuracy"] == both(row[None])[0][0]
        assert trial.value == fitness(row[None]).scores[0]
