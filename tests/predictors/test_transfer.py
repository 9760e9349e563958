"""Latency of a new device: planted likeness is found, real devices are foretold, and the spread means something."""

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from evonas.tabular import nasbench201, nasbench201_latency
from predictors import DeviceTransfer, worth_measuring


@parametrize_with_checks([DeviceTransfer()])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def planted(rng, n=400, devices=12):
    """Devices that share one factor, each with its own; the new one is the fourth, slower, with 1 % of noise."""
    logs = rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, devices))
    logs = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    return logs, np.exp(2.0 + 0.3 * logs[:, 3] + 0.01 * rng.normal(size=n))


def test_a_device_like_a_known_one_is_recognised(rng):
    logs, milliseconds = planted(rng)
    fitted = DeviceTransfer().fit(logs[:10], milliseconds[:10])
    assert fitted.probabilities_.argmax() == 3
    assert fitted.probabilities_[3] > 0.99
    assert np.abs(fitted.predict(logs[10:]) / milliseconds[10:] - 1).mean() < 0.03


def test_the_reverse_of_a_known_device_is_not_like_it(rng):
    """What is slow elsewhere is not fast here, however well that would explain a few measurements."""
    logs, _ = planted(rng)
    fitted = DeviceTransfer().fit(logs[:10], np.exp(-0.3 * logs[:10, 3]))
    assert fitted.probabilities_[3] < 0.01


def test_the_spread_grows_with_ignorance_and_covers(rng):
    covered, wide, narrow = [], [], []
    for seed in range(40):
        logs, milliseconds = planted(np.random.default_rng(seed))
        for n, widths in ((5, wide), (40, narrow)):
            mean, std = DeviceTransfer().fit(logs[:n], milliseconds[:n]).predict(logs[n:], return_std=True)
            widths.append((std / mean).mean())
            if n == 40:
                noisy = np.hypot(std, 0.01 * mean)
                covered.append((np.abs(mean - milliseconds[n:]) < 2 * noisy).mean())
    assert np.mean(wide) > 2 * np.mean(narrow)
    assert 0.85 < np.mean(covered) <= 1


def test_networks_worth_measuring_tell_more_than_random_ones():
    """Where devices disagree is where a measurement speaks."""
    chosen, drawn = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        logs, milliseconds = planted(rng)
        rows = worth_measuring(logs, 5)
        assert len(set(rows.tolist())) == 5
        for taken, errors in ((rows, chosen), (rng.choice(len(logs), 5, replace=False), drawn)):
            predicted = DeviceTransfer().fit(logs[taken], milliseconds[taken]).predict(logs)
            errors.append(np.abs(predicted / milliseconds - 1).mean())
    assert np.mean(chosen) < np.mean(drawn)
    assert len(set(worth_measuring(logs, 30).tolist())) == 30


def test_real_devices_from_ten_cells_beside_ridge_regression(tables):
    """Ten random cells, 20 draws, all other devices, raw log latencies for both sides: `KnownDevices` would smooth them."""
    table = nasbench201_latency(tables / "nasbench201_latency.npz", nasbench201(tables / "nasbench201_accuracy.npz"))
    ours, ridge = [], []
    for new in ("eyeriss", "samsung_a50", "gold_6226"):
        logs = np.log(np.stack([values for name, values in table.columns.items() if name != new], axis=1))
        logs, truth = (logs - logs.mean(axis=0)) / logs.std(axis=0), table.columns[new]
        for draw in range(20):
            taken = np.random.default_rng(draw).choice(len(truth), 10, replace=False)
            ours.append(spearmanr(DeviceTransfer().fit(logs[taken], truth[taken]).predict(logs), truth).statistic)
            ridge.append(spearmanr(Ridge(1.0).fit(logs[taken], np.log(truth[taken])).predict(logs), truth).statistic)
    assert np.mean(ours) > np.mean(ridge)
    assert np.mean(ours) > 0.96
