"""Learning ranks: no order is lost on the way back, and a long tail does no harm."""

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from evonas.tabular import nasbench201
from predictors import GaussianProcess, NormalScores, one_hot


@parametrize_with_checks([NormalScores(Ridge())])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


class Echo(Ridge):
    """Predicts its first column."""

    def predict(self, X, return_std=False):
        mean = np.asarray(X, dtype=np.float64)[:, 0]
        return (mean, np.full(len(mean), 0.5)) if return_std else mean


def test_predictions_keep_the_order_of_the_regressor_also_beyond_the_ends(rng):
    y = np.round(rng.normal(size=60) ** 3, 1)  # equal targets, and long tails
    fitted = NormalScores(Echo()).fit(rng.normal(size=(60, 1)), y)
    z = np.sort(rng.uniform(-6, 6, 500))
    back = fitted.predict(z[:, None])
    assert (np.diff(back) > 0).all()
    assert back[0] < y.min()
    assert back[-1] > y.max()


def test_a_regressor_that_knows_the_ranks_gives_the_targets_back(rng):
    from scipy.stats import norm

    y = np.exp(rng.normal(size=41))
    fitted = NormalScores(Echo()).fit(np.zeros((41, 1)), y)
    known = norm.ppf((np.argsort(np.argsort(y)) + 0.5) / 41)
    assert fitted.predict(known[:, None]) == pytest.approx(y)
    _, std = fitted.predict(known[:, None], return_std=True)
    assert (std > 0).all()


def test_constant_targets_give_the_constant(rng):
    assert (NormalScores(Ridge()).fit(rng.normal(size=(10, 2)), np.full(10, 3.5)).predict(rng.normal(size=(5, 2))) == 3.5).all()


@pytest.mark.parametrize("make", [lambda space: make_pipeline(one_hot(space.sizes), Ridge(1.0)), GaussianProcess])
def test_real_cells_are_ranked_better_than_by_raw_accuracies(tables, make):
    table = nasbench201(tables / "nasbench201_accuracy.npz")
    truth = table.lookup("test200_cifar10")(table.architectures)
    taus = {"raw": [], "ranks": []}
    for draw in range(3):
        taken = np.random.default_rng(draw).choice(len(truth), 100, replace=False)
        for name, predictor in (("raw", make(table.space)), ("ranks", NormalScores(make(table.space)))):
            predicted = predictor.fit(table.architectures[taken], truth[taken]).predict(table.architectures)
            taus[name].append(kendalltau(predicted, truth).statistic)
    assert np.mean(taus["ranks"]) > np.mean(taus["raw"]) + 0.1


def test_a_batch_is_spread_as_by_the_regressor_itself(rng):
    """Where the regressor has a belief: mean and spread as predicted, less spread where it is read; no belief where it has none."""
    X, new = rng.normal(size=(30, 3)), rng.normal(size=(12, 3))
    fitted = NormalScores(GaussianProcess()).fit(X, np.exp(X.sum(axis=1)))
    belief, (mean, std) = fitted.belief(new), fitted.predict(new, return_std=True)
    np.testing.assert_allclose(belief.mean, mean)
    np.testing.assert_allclose(belief.std, std)
    belief.condition(4)
    assert belief.std[4] < 0.9 * std[4]
    assert (belief.std <= std + 1e-12).all()
    assert not hasattr(NormalScores(Ridge()).fit(X, X[:, 0]), "belief")
