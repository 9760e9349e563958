"""Progressive growth against the paper's counts and against a search that lists every child."""

import numpy as np
import optuna
import pytest
from sklearn.linear_model import LinearRegression

from evonas import Budget, CellGrowth, Choice, ChoiceGrowth, History, ProgressiveExplorer, SearchSpace, UsageError, open_study, search
from evonas.cells import cell_blocks, cell_sizes, cell_space
from evonas.testing import Oracle, TableCost, example
from predictors import GaussianProcess

optuna.logging.set_verbosity(optuna.logging.ERROR)


def cell_fitness(cells):
    """Identities are good, and more so in large cells: a fitness that a mean over columns can learn."""
    operations = cell_blocks(cells)[..., 2:]
    there = np.arange(operations.shape[1]) < cell_sizes(cells)[:, None]
    return ((operations == 4).sum(axis=2) * there).sum(axis=1) + 0.01 * cells.sum(axis=1)


@pytest.mark.parametrize(("blocks", "beam"), [(3, 20), (4, 7)])
def test_exactly_136_and_a_beam_for_every_further_block(blocks, beam):
    space = cell_space(blocks)
    explorer = ProgressiveExplorer(space, predictor=LinearRegression(), growth=CellGrowth(space), beam=beam)
    study = open_study(None, "cells")
    evaluations = 136 + beam * (blocks - 1)
    result = search(space, cell_fitness, explorer, evaluations=evaluations, study=study)
    sizes = cell_sizes(result.history.population)
    assert sizes.tolist() == [1] * 136 + [b for b in range(2, blocks + 1) for _ in range(beam)]
    assert [trial.user_attrs["level"] for trial in study.trials] == sizes.tolist()
    assert explorer.schedule() == [0, *range(136, evaluations + 1, beam)]


def test_with_a_perfect_predictor_every_level_is_the_best_of_all_children():
    space, _, fitness = example(choices=5, options=4)
    beam = 10
    explorer = ProgressiveExplorer(space, predictor=Oracle(fitness), beam=beam)
    study = open_study(None, "oracle")
    history = search(space, fitness, explorer, evaluations=4 + 3 * beam, study=study).history
    assert explorer.schedule()[:4] == [0, 4, 14, 24]
    trained = {(option, 0, 0, 0, 0) for option in range(4)}
    assert set(map(tuple, history.population[:4].tolist())) == trained
    for level, start in ((2, 4), (3, 14), (4, 24)):
        members = sorted((a for a in trained if not any(a[level - 1 :])), key=lambda a: -fitness(np.array([a]))[0])[:beam]
        children = {(*a[: level - 1], option, *a[level:]) for a in members for option in range(4)} - trained
        expected = sorted(children, key=lambda a: -fitness(np.array([a]))[0])[:beam]
        assert list(map(tuple, history.population[start : start + beam].tolist())) == expected
        trained |= set(expected)


def test_levels_that_a_budget_empties_are_filled_and_the_study_says_the_level():
    """With the base out of budget in most places, few children are feasible: the rest of a level is random, feasible and new."""
    space = SearchSpace(tuple(Choice(f"c{i}", ("a", "b", "c")) for i in range(5)))
    budget = Budget({"macs": TableCost(np.tile([3.0, 1.0, 2.0], (5, 1)))}, ["macs=9"])
    study = open_study(None, "tight")
    explorer = ProgressiveExplorer(space, budget, predictor=LinearRegression(), beam=5)
    result = search(space, lambda p: p.sum(axis=1), explorer, evaluations=40, study=study, budget=budget)
    assert budget.feasible(result.history.population).all()
    assert len(result.history.keys) == 40
    levels = [trial.user_attrs["level"] for trial in study.trials]
    assert levels == sorted(levels)
    assert levels[-1] == 5


def test_choices_grow_in_order_from_the_base():
    space = SearchSpace(tuple(Choice(f"c{i}", ("a", "b", "c")) for i in range(3)))
    growth = ChoiceGrowth(space, base=(2, 1, 0))
    assert growth.first().tolist() == [[0, 1, 0], [1, 1, 0], [2, 1, 0]]
    assert growth.children(np.array([[0, 1, 0]]), 2).tolist() == [[0, 0, 0], [0, 1, 0], [0, 2, 0]]
    assert growth.members(np.array([[0, 2, 0], [0, 2, 1]]), 2).tolist() == [True, False]


def test_cells_grow_only_in_their_space():
    with pytest.raises(UsageError, match="this one begins with"):
        CellGrowth(SearchSpace((Choice("a", ("x", "y")),)))


def test_proposals_do_not_depend_on_how_many_are_asked_in_cells():
    space = cell_space(3)
    walks = []
    for batch in (1, 7, 50):
        explorer = ProgressiveExplorer(space, predictor=GaussianProcess(space, tuned_on=40), growth=CellGrowth(space), beam=10)
        study = open_study(None, f"batch{batch}")
        walks.append(search(space, cell_fitness, explorer, evaluations=156, study=study, batch=batch).history.population)
    np.testing.assert_array_equal(walks[0], walks[1])
    np.testing.assert_array_equal(walks[0], walks[2])
    assert History.of(study, space).population.shape == (156, len(space))
