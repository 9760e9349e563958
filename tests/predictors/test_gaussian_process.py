"""The Gaussian process against scikit-learn's conventions, textbook formulas written out, and a real table."""

from functools import partial

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import kendalltau, rankdata
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from evonas import Choice, SearchSpace
from evonas.tabular import nasbench201, nasbench201_space
from predictors import BoostedTrees, GaussianProcess, one_hot
from predictors.accuracy.encoding import option_counts, option_numbers, ordered_columns
from predictors.accuracy.gaussian_process import JITTER, _negative_log_posterior


@parametrize_with_checks([GaussianProcess()])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def dense(model: GaussianProcess, X: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The covariance that the class documents, pair by pair, from the fitted hyper-parameters."""
    parts, other_parts = model.features_(X), model.features_(others)
    groups = len(parts[0])
    result = np.zeros((len(X), len(others)))
    for i in range(len(X)):
        for j in range(len(others)):
            linear = sum(np.exp(model.parameters_[g]) * parts[0][g][i] @ other_parts[0][g][j] for g in range(groups))
            weights = np.exp(model.parameters_[groups + 1 : -1])
            distance = sum(w * ((parts[1][g][i] - other_parts[1][g][j]) ** 2).sum() for g, w in enumerate(weights))
            result[i, j] = linear + np.exp(model.parameters_[groups] - distance)
    return result


@pytest.fixture
def fitted(rng):
    space = nasbench201_space()
    X = space.sample(25, rng)
    y = (X == 3).sum(axis=1) + 2.0 * (X[:, 3] == 1) + 0.1 * rng.normal(size=25)
    return GaussianProcess(space).fit(X, y), X, y, space.sample(8, rng)


def textbook(model, X, y, new):
    """Posterior mean and standard deviation by matrix inversion; Rasmussen and Williams, equations 2.25 and 2.26."""
    prior = dense(model, X, X)
    inverse = np.linalg.inv(prior + np.eye(len(X)) * (np.exp(model.parameters_[-1]) + JITTER * np.trace(prior) / len(X)))
    targets, across = (y - y.mean()) / y.std(), dense(model, new, X)
    scale = y.std() * np.sqrt(targets @ inverse @ targets / len(X))
    variance = np.diag(dense(model, new, new)) - np.einsum("ij,jk,ik->i", across, inverse, across)
    return y.mean() + y.std() * across @ inverse @ targets, scale * np.sqrt(variance), scale


def test_posterior_is_the_textbook_formula(fitted):
    model, X, y, new = fitted
    mean, std = model.predict(new, return_std=True)
    expected_mean, expected_std, _ = textbook(model, X, y, new)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-6)
    np.testing.assert_allclose(std, expected_std, rtol=1e-6)


def test_conditioning_lowers_the_spread_as_reading_would_and_leaves_the_means(fitted):
    model, X, y, new = fitted
    belief = model.belief(new)
    before = belief.mean.copy(), belief.std.copy()
    belief.condition(2)
    belief.condition(5)
    both = np.concatenate([X, new[[2, 5]]])
    noise = np.eye(len(both)) * np.exp(model.parameters_[-1])
    noise[range(len(X)), range(len(X))] += JITTER * np.trace(dense(model, X, X)) / len(X)
    across, prior = dense(model, new, both), dense(model, both, both)
    variance = np.diag(dense(model, new, new)) - np.einsum("ij,jk,ik->i", across, np.linalg.inv(prior + noise), across)
    np.testing.assert_allclose(belief.std, textbook(model, X, y, new)[2] * np.sqrt(variance), rtol=1e-5)
    np.testing.assert_array_equal(belief.mean, before[0])
    assert (belief.std <= before[1] + 1e-12).all()
    assert belief.std[2] < 0.8 * before[1][2]


def test_gradient_of_the_marginal_likelihood(fitted):
    model, _, y, _ = fitted
    similar = np.stack([f @ f.T for f in model.linear_])
    distant = np.stack([((f[:, None] - f[None]) ** 2).sum(axis=2) for f in model.stationary_])
    count = len(model.parameters_)
    rng = np.random.default_rng(1)
    targets = (y - y.mean()) / y.std()
    loss = partial(_negative_log_posterior, targets=targets, similar=similar, distant=distant, centre=np.zeros(count), width=np.ones(count))
    for _ in range(3):
        at = rng.normal(size=count) - 1
        np.testing.assert_allclose(loss(at)[1], approx_fprime(at, lambda p: loss(p)[0], 1e-6), atol=2e-3)


def test_hyper_parameters_are_no_worse_than_the_prior_medians(fitted):
    model, *_ = fitted
    similar = np.stack([f @ f.T for f in model.linear_])
    distant = np.stack([((f[:, None] - f[None]) ** 2).sum(axis=2) for f in model.stationary_])
    centre = np.concatenate([np.zeros(len(similar) + 1), np.log(model.features_.shares), [np.log(model.noise)]])
    width = np.array([1.5] * (len(similar) + 1) + [model.spread] * len(distant) + [1.5])
    targets = (fitted[2] - fitted[2].mean()) / fitted[2].std()
    loss = partial(_negative_log_posterior, targets=targets, similar=similar, distant=distant, centre=centre, width=width)
    assert loss(model.parameters_)[0] < loss(centre)[0] - 1


def test_of_many_rows_the_best_and_an_even_sample_are_used(rng):
    X = rng.normal(size=(60, 2))
    y = X[:, 0].copy()
    model = GaussianProcess(most=20).fit(X, y)
    assert len(model.used_) == 20
    assert set(np.argsort(-y)[:10]) <= set(model.used_)
    assert y[model.used_].min() == y.min()


def test_counts_only_where_choices_share_options(rng):
    space = SearchSpace((Choice("a", ("x", "y")), Choice("b", ("x", "z")), Choice("c", ("x", "y"))))
    population = space.enumerate()
    counts = option_counts(space, population)
    assert counts.tolist() == [[float((row[[0, 2]] == o).sum()) for o in (0, 1)] for row in population]


def test_numbers_keep_their_order_and_names_have_none():
    space = SearchSpace((Choice("width", ("64", "8", "16")), Choice("op", ("x", "y", "z")), Choice("depth", ("2", "3"))))
    assert option_numbers(space, np.array([[0, 1, 1], [1, 0, 0], [2, 2, 1]])).tolist() == [[1.0], [0.0], [0.5]]


def test_learns_a_linear_trend_beyond_what_it_saw(rng):
    """Fitted where one operation is rare, it knows that more of it is better: a stationary process alone falls back to the mean."""
    space = SearchSpace(tuple(Choice(f"c{i}", ("a", "b", "c")) for i in range(12)))
    X = np.where(rng.random((30, 12)) < 0.2, 2, rng.integers(0, 2, (30, 12)))
    model = GaussianProcess(space).fit(X, (X == 2).sum(axis=1))
    assert model.predict(np.full((1, 12), 2))[0] > 8


def test_ranks_real_cells_better_with_what_the_space_declares(tables, rng):
    """Sixty cells of NAS-Bench-201, CIFAR-100: the declared space ranks better than its one-hot columns, or than boosted trees."""
    table = nasbench201(tables / "nasbench201_accuracy.npz")
    score, space = table.lookup("ep12_cifar100_val"), table.space
    bare = SearchSpace(tuple(Choice(c.name, tuple(f"{c.name}.{option}" for option in c.options)) for c in space.choices))
    trees = make_pipeline(one_hot(space.sizes), BoostedTrees())
    models = {"declared": GaussianProcess(space), "bare": GaussianProcess(bare), "trees": trees}
    others, taus = space.sample(3000, rng), {name: [] for name in models}
    for _ in range(3):
        X = space.sample(60, rng)
        ranks = rankdata(score(X))
        for name, model in models.items():
            predicted = clone(model, safe=False).fit(X, ranks).predict(others)
            taus[name].append(kendalltau(predicted, score(others)).statistic)
    assert np.mean(taus["declared"]) > max(np.mean(taus["bare"]), np.mean(taus["trees"])) + 0.03


def test_a_quick_look_is_never_too_low(rng):
    """Ceilings of mean and spread, of rows seen and unseen, with few and with many rows fitted on."""
    space = SearchSpace(tuple(Choice(f"c{i}", ("1", "2", "3", "4")) for i in range(6)))
    for n in (5, 60, 300):
        rows = space.sample(n, rng)
        fitted = GaussianProcess(space).fit(rows, rng.normal(size=4)[rows].sum(axis=1) + 0.1 * rng.normal(size=n))
        asked = np.concatenate([rows, space.sample(2000, rng)])
        (mean, std), (highest, widest) = fitted.predict(asked, return_std=True), fitted.screen(asked)
        assert (highest >= mean).all()
        assert (widest >= std - 1e-9).all()
        assert (highest - mean).max() < 0.05 * fitted.scale_, "or everything would have to be looked at"


def test_near_numbers_are_alike_and_every_choice_weighs_the_same():
    """A choice of eight widths beside the same by names: as far apart on average, and 8 nearer to 16 than to 64 by numbers alone."""
    space = SearchSpace((Choice("w", tuple(str(8 * i) for i in range(1, 9))), Choice("n", tuple("abcdefgh"))))
    rows = space.enumerate()
    numbers, names = ordered_columns(space, rows)
    assert numbers.shape[1] == names.shape[1] + 1
    assert numbers.var(axis=0).sum() == pytest.approx(2 * names.var(axis=0).sum())
    one, two, eight = (numbers[rows[:, 0] == i][0] for i in (0, 1, 7))
    assert ((one - two) ** 2).sum() < ((one - eight) ** 2).sum()
