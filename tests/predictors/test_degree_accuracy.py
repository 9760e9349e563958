"""The analytical accuracy model: recovers a curve, ranks as well as the specification simulated, knows how sure it is."""

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.utils.estimator_checks import parametrize_with_checks

from predictors import DegreeAccuracy

DEGREES = np.linspace(20, 400, 300)[:, None]


def curve(g, a=1.04, b=60.0, c=-4.0):
    return 1 / (a + np.exp(b / g + c))


@parametrize_with_checks([DegreeAccuracy()])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_a_curve_is_recovered_from_25_exact_points(rng):
    g = rng.choice(DEGREES, 25)
    fitted = DegreeAccuracy(ridge=1e-9).fit(g, curve(g[:, 0]))
    assert np.abs(fitted.predict(DEGREES) - curve(DEGREES[:, 0])).max() < 1e-4


@pytest.mark.parametrize(("noise", "least"), [(0.001, 0.72), (0.002, 0.6)])
def test_25_noisy_networks_rank_about_as_well_as_simulated(noise, least):
    """Specification: accuracies from 92.6 to 95.8 %, Kendall tau with the noisy truth .79 and .66 at noise of 0.1 and 0.2 points."""
    taus = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        g = rng.uniform(65, 233, 325)[:, None]
        y = curve(g[:, 0], a=1.03, b=115.6, c=-4.78) + noise * rng.normal(size=325)
        taus.append(kendalltau(DegreeAccuracy().fit(g[:25], y[:25]).predict(g[25:]), y[25:]).statistic)
    assert np.mean(taus) > least


def test_a_curve_may_fall():
    g = DEGREES[::12]
    assert (np.diff(DegreeAccuracy().fit(g, 0.9 - 0.0005 * g[:, 0]).predict(DEGREES)) <= 1e-12).all()


def test_a_second_column_enters(rng):
    g, macs = rng.uniform(20, 400, 60), 10 ** rng.uniform(5, 8, 60)
    y = 1 / (1.05 + np.exp(40 / g - 0.5 * np.log(macs / 1e6) - 3))
    both, alone = np.column_stack([g, macs]), g[:, None]
    error = [np.abs(DegreeAccuracy().fit(X[:40], y[:40]).predict(X[40:]) - y[40:]).mean() for X in (both, alone)]
    assert error[0] < 0.2 * error[1]


def test_the_spread_covers_the_truth():
    """Two standard deviations of the fit hold the true curve nineteen times of twenty, give or take what 300 fits can tell."""
    held = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        g = rng.uniform(30, 400, 25)[:, None]
        fitted = DegreeAccuracy().fit(g, curve(g[:, 0]) + 0.004 * rng.normal(size=25))
        mean, std = fitted.predict([[60.0], [150.0], [350.0]], return_std=True)
        held.append(np.abs(mean - curve(np.array([60.0, 150.0, 350.0]))) < 2 * std)
    assert 0.88 < np.mean(held) < 0.99


def test_a_network_that_learned_nothing_does_no_harm():
    g = DEGREES[::12]
    y = curve(g[:, 0])
    y[0] = 0.0
    predicted = DegreeAccuracy().fit(g, y).predict(DEGREES)
    assert np.isfinite(predicted).all()
    assert np.abs(predicted - curve(DEGREES[:, 0]))[100:].max() < 0.05
