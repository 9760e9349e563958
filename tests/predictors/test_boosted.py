"""Predictors against scikit-learn's own conventions, and against a real table."""

import numpy as np
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from predictors import BoostedTrees, one_hot


@parametrize_with_checks([BoostedTrees(members=2, n_estimators=20)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_one_hot_has_a_column_for_every_option_of_the_wide_space():
    encoded = one_hot([3, 2]).fit_transform(np.array([[2, 0], [0, 0]]))
    assert encoded.tolist() == [[0, 0, 1, 1, 0], [1, 0, 0, 1, 0]]


def test_pipelines_clone_and_give_a_spread(rng):
    X, sizes = rng.integers(0, 4, (80, 6)), [4] * 6
    y = (X * [5, 3, 1, 0, 0, 0]).sum(axis=1)
    pipeline = clone(make_pipeline(one_hot(sizes), BoostedTrees()))
    mean, spread = pipeline.fit(X, y).predict(X, return_std=True)
    np.testing.assert_array_equal(mean, pipeline.predict(X))
    assert np.corrcoef(mean, y)[0, 1] > 0.95
    assert (spread >= 0).all()
    assert spread.max() > 0
    np.testing.assert_array_equal(mean, clone(pipeline).fit(X, y).predict(X))


def test_ranking_of_real_networks(tables, rng):
    """NAS-Bench-Macro: fitted on 100 networks, ranks the other 6,461 far better than their MACs do (tau .556)."""
    table = np.load(tables / "nasbench_macro.npz")
    X, y = table["arch"].astype(int), table["mean_acc"]
    rows = rng.permutation(len(X))
    model = make_pipeline(one_hot([3] * 8), BoostedTrees()).fit(X[rows[:100]], y[rows[:100]])
    assert kendalltau(model.predict(X[rows[100:]]), y[rows[100:]]).statistic > 0.7
