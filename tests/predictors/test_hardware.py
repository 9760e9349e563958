"""Hardware models: known coefficients come back, none is negative, and a device's file is read or refused in one line."""

import json

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from evonas import UsageError
from predictors import NonNegativeLinear, fit_hardware, read_hardware
from predictors.flash.hardware import FEATURES, matrix
from supernet import skip_cells

FAMILY = skip_cells((3, 16, 16), 10, layout="small")
POPULATION = FAMILY.space.sample(60, np.random.default_rng(0))
TRUE = {"macs": 2e-8, "params": 1e-7, "activations": 3e-7, "layers": 0.004, "connections": 0.001, "constant": 0.05}


def truth(population):
    return matrix(FAMILY.totals, population) @ np.array([TRUE[name] for name in FEATURES]) + TRUE["constant"]


@parametrize_with_checks([NonNegativeLinear()])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_exact_measurements_give_the_coefficients_back():
    cost, held_out = fit_hardware(FAMILY.totals, POPULATION, truth(POPULATION))
    assert {name: pytest.approx(value, rel=1e-5) for name, value in cost.coefficients.items()} == TRUE
    assert held_out.r2 == pytest.approx(1)
    others = FAMILY.space.sample(50, np.random.default_rng(1))
    assert cost(others) == pytest.approx(truth(others))
    assert cost.unit == "ms"


def test_held_out_errors_are_those_of_networks_that_were_not_fitted(rng):
    """Noise that no feature explains is seen in full; errors of a fit to the same networks would be smaller."""
    noisy = truth(POPULATION[:15]) * np.exp(0.2 * rng.normal(size=15))
    cost, held_out = fit_hardware(FAMILY.totals, POPULATION[:15], noisy)
    assert held_out.mean > np.abs(cost(POPULATION[:15]) / noisy - 1).mean()
    assert held_out.worst >= held_out.mean > 0.05


def test_a_cost_never_falls_with_a_feature(rng):
    falling = 1 / truth(POPULATION) * np.exp(0.1 * rng.normal(size=len(POPULATION)))
    cost, _ = fit_hardware(FAMILY.totals, POPULATION, falling)
    assert min(cost.coefficients.values()) >= 0


def test_the_spread_is_the_relative_error(rng):
    X = rng.uniform(1, 10, (400, 2))
    y = (X @ [1.0, 2.0] + 3) * np.exp(0.1 * rng.normal(size=400))
    mean, std = NonNegativeLinear().fit(X, y).predict(X, return_std=True)
    assert (std / mean).mean() == pytest.approx(0.1, abs=0.015)


def test_a_device_file_gives_costs(tmp_path):
    path = tmp_path / "chip.json"
    path.write_text(
        json.dumps({"device": "chip", "energy": {"unit": "mJ", "macs": 5e-9, "constant": 0.1}, "area": {"unit": "mm2", "params": 1e-6}})
    )
    costs = read_hardware(path, FAMILY.totals)
    totals = FAMILY.totals(POPULATION)
    assert costs["energy"](POPULATION) == pytest.approx(5e-9 * totals["macs"] + 0.1)
    assert costs["area"](POPULATION) == pytest.approx(1e-6 * totals["params"])
    assert costs["area"].unit == "mm2"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"device": "chip"}, "gives no hardware model"),
        ({"energy": {"unit": "J", "macs": 1}}, "the unit 'mJ'"),
        ({"energy": {"unit": "mJ", "mac": 1}}, "Unknown feature 'mac'.*Did you mean 'macs'"),
        ({"energy": {"unit": "mJ", "macs": -1}}, "macs holds -1"),
        ({"energy": {"unit": "mJ", "macs": 0}}, "no coefficient above 0"),
        ({"energy": {"unit": "mJ", "macs": 1}, "power": {}}, "Unknown cost 'power'"),
    ],
)
def test_a_damaged_device_file_is_refused(tmp_path, content, said):
    path = tmp_path / "chip.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=said):
        read_hardware(path, FAMILY.totals)


def test_too_few_measurements_are_refused():
    with pytest.raises(UsageError, match="9 measured networks; expected 10"):
        fit_hardware(FAMILY.totals, POPULATION[:9], truth(POPULATION[:9]))
