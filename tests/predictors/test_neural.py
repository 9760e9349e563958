"""The predictors of PNAS: conventions, exact sharing of states, and growth to sizes that were not seen."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from evonas import CellGrowth, Choice, SearchSpace
from evonas.cells import cell_blocks, cell_sizes, cell_space
from predictors import Ensemble
from predictors.accuracy.neural import CellLSTM, CellMLP, OptionLSTM, OptionMLP


@parametrize_with_checks([Ensemble(Ridge())])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_members_see_four_fifths_each_and_the_mean_is_predicted(rng):
    X, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    seen = []

    class Spy(LinearRegression):
        def fit(self, X, y):
            seen.append(X)
            return super().fit(X, y)

    model = Ensemble(Spy()).fit(X, y)
    assert [len(part) for part in seen] == [40] * 5
    assert all(len(np.unique(part, axis=0)) == 40 for part in seen)
    assert len({part[:, 0].sum() for part in seen}) == 5
    mean, std = model.predict(X, return_std=True)
    single = np.stack([LinearRegression().fit(part, y[[np.flatnonzero((row == X).all(1))[0] for row in part]]).predict(X) for part in seen])
    np.testing.assert_allclose(mean, single.mean(axis=0))
    np.testing.assert_allclose(std, single.std(axis=0))


def quality(cells):
    """Operation 0 is good, operation 5 bad, whatever the number of blocks."""
    blocks, sizes = cell_blocks(cells), cell_sizes(cells)
    there = (np.arange(blocks.shape[1]) < sizes[:, None])[..., None]
    operations = blocks[..., 2:]
    return (((operations == 0) * 1.0 - (operations == 5)) * there).sum(axis=(1, 2)) / sizes


@pytest.mark.parametrize("kind", [CellLSTM, CellMLP])
def test_accepts_and_ranks_cells_one_block_larger(kind, rng):
    space = cell_space()
    growth = CellGrowth(space)
    first = growth.first()
    second = growth.children(first[rng.permutation(136)[:20]], 2)
    second = second[rng.permutation(len(second))[:100]]
    third = growth.children(second[:5], 3)
    known = np.concatenate([first, second])
    model = Ensemble(kind(space, steps=60), members=2).fit(known, quality(known))
    assert spearmanr(model.predict(third), quality(third)).statistic > 0.5


def test_shared_states_equal_reading_every_cell_alone(rng):
    space = cell_space()
    cells = np.concatenate([space.sample(200, rng), CellGrowth(space).children(space.sample(1, rng), 5)[:300]])
    model = CellLSTM(space, steps=3).fit(cells[:50], quality(cells[:50]))
    with torch.inference_mode():
        alone = [
            float(model.network_(torch.from_numpy(cell_blocks(cell[None])), torch.from_numpy(cell_sizes(cell[None])))[0]) for cell in cells
        ]
    np.testing.assert_allclose(model.predict(cells), model.mean_ + model.scale_ * np.array(alone), atol=1e-5)


def test_a_seed_gives_one_model_and_leaves_the_global_generator():
    space = cell_space()
    cells = CellGrowth(space).first()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again = (CellMLP(space, steps=5).fit(cells, quality(cells)).predict(cells) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("predictor", [OptionLSTM, OptionMLP])
def test_options_of_any_space_are_read_with_their_places(predictor, rng):
    """A score that no count of options gives: each place has its own weights, and neighbours matter."""
    sizes = (2, 3, 4, 3, 2, 4)
    space = SearchSpace(tuple(Choice(f"c{i}", tuple("abcd"[:size])) for i, size in enumerate(sizes)))
    weights = [rng.normal(size=size) for size in sizes]
    population = np.unique(space.sample(500, rng), axis=0)
    rng.shuffle(population)
    scores = sum(w[population[:, i]] for i, w in enumerate(weights)) + 1.0 * (population[:, 0] == population[:, 4])
    model = predictor(space, random_state=1).fit(population[:250], scores[:250])
    assert spearmanr(model.predict(population[250:]), scores[250:]).statistic > 0.9
    again = predictor(space, random_state=1).fit(population[:250], scores[:250])
    assert (again.predict(population) == model.predict(population)).all()


def test_equal_architectures_are_read_as_one():
    space = SearchSpace((Choice("a", ("x", "y")), Choice("b", ("x", "y"))), canonicalise=lambda rows: rows * rows[:, :1])
    model = OptionMLP(space, steps=5).fit(np.array([[0, 0], [1, 0], [1, 1]]), np.array([0.0, 1.0, 2.0]))
    assert np.ptp(model.predict(np.array([[0, 0], [0, 1]]))) < 1e-6
