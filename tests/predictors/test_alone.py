"""A device that is measured on a few networks where no other is known: this host's table and counts of options speak for it."""

import numpy as np
import pytest
from scipy.stats import multivariate_t, spearmanr

from evonas import Choice, SearchSpace
from evonas.testing import TableCost
from predictors.devices.alone import LikeThisHost
from predictors.devices.known import MeasuredDevice
from predictors.devices.learned import learned
from predictors.devices.transfer import SCALE_PRIOR, posterior

SPACE = SearchSpace(tuple(Choice(f"layer{i}", ("skip", "narrow", "wide", "depthwise")) for i in range(8)))
HOST = TableCost(np.tile([0.01, 0.3, 0.9, 0.4], (8, 1)))


def test_a_device_that_is_a_power_of_this_host_is_foretold_exactly(rng):
    rows, new = SPACE.sample(10, rng), SPACE.sample(200, rng)
    model = LikeThisHost(SPACE, HOST).fit(rows, 7 * HOST(rows) ** 0.8)
    np.testing.assert_allclose(model.predict(new), 7 * HOST(new) ** 0.8, rtol=0.02)


def test_an_operation_that_is_slow_there_is_learned_from_ten(rng):
    """Where the host calls it cheap; the host's table alone is far off."""

    def board(rows):
        return 2 * HOST(rows) + 3 * (rows == 3).sum(axis=1)

    errors, alone = [], []
    for _ in range(10):
        rows, new = SPACE.sample(10, rng), SPACE.sample(500, rng)
        errors.append(spearmanr(LikeThisHost(SPACE, HOST).fit(rows, board(rows)).predict(new), board(new)).statistic)
        alone.append(spearmanr(HOST(new), board(new)).statistic)
    assert np.mean(errors) > 0.95
    assert np.mean(alone) < 0.8


def test_evidence_is_that_of_a_multivariate_t(rng):
    """With an inverse gamma prior of the scale, the marginal likelihood is Student's: up to what is the same for all hypotheses."""
    targets, factors = rng.normal(size=6), rng.normal(size=(3, 6, 4))
    kernels = factors @ factors.transpose(0, 2, 1)
    evidence = posterior(kernels, targets, (0.1, 1.0))[3]
    shapes = [[SCALE_PRIOR * (kernel + noise * np.eye(6)) for kernel in kernels] for noise in (0.1, 1.0)]
    expected = np.array([[multivariate_t.logpdf(targets, shape=shape, df=2) for shape in row] for row in shapes])
    assert np.ptp(evidence - expected) < 1e-9


def test_this_host_is_asked_only_where_no_device_is_known(rng):
    rows = SPACE.sample(60, rng)
    few = MeasuredDevice("new", rows[:10], 5 * HOST(rows[:10]))
    many = MeasuredDevice("old", rows, 3 * HOST(rows))
    found = learned(SPACE, few, [], lambda: HOST)
    assert found.by == "this host"
    assert found.residual.networks == 10
    assert found.residual.mean < 0.05

    def never():
        raise AssertionError("asked")

    assert learned(SPACE, few, [many], never).by == ""


def test_ten_cells_on_eight_real_devices(tables):
    """As benchmarks/phone.py, multiply-accumulates in place of the host: no machine's clock decides this test."""
    from sklearn.linear_model import Ridge

    from evonas.tabular import nasbench201, nasbench201_latency
    from predictors.accuracy.encoding import one_hot
    from predictors.costs import macs
    from supernet import nasbench201 as cells

    table = nasbench201_latency(tables / "nasbench201_latency.npz", nasbench201(tables / "nasbench201_accuracy.npz"))
    network = cells((3, 32, 32), 10)
    cost, X = macs(network.space, network.parts()), table.architectures
    options = one_hot(table.space.sizes).fit_transform(X)
    ours, ridge = [], []
    for device in ("titan_rtx_256", "gold_6226", "fpga", "pixel2", "raspi4", "eyeriss", "pixel3", "samsung_a50"):
        y = table.columns[device]
        taken = np.random.default_rng(1).choice(len(X), 10, replace=False)
        ours.append(spearmanr(LikeThisHost(table.space, cost).fit(X[taken], y[taken]).predict(X), y).statistic)
        ridge.append(spearmanr(Ridge(0.1).fit(options[taken], np.log(y[taken])).predict(options), y).statistic)
    assert np.mean(ours) > 0.88
    assert np.mean(ours) > np.mean(ridge) + 0.2


def test_milliseconds_have_to_be_positive(rng):
    with pytest.raises(ValueError, match="positive"):
        LikeThisHost(SPACE, HOST).fit(SPACE.sample(3, rng), np.array([1.0, 0.0, 2.0]))
