"""Predictors in front of a search, by name."""

import time

import numpy as np
import pytest

from evonas import UsageError
from predictors import inverted_residual_degree, inverted_residual_mass
from predictors.screens import SCREENS, degree_features, screen
from supernet import mbconv
from supernet.operators import InvertedResidual


@pytest.fixture(scope="module")
def supernet():
    return mbconv((3, 16, 16), 10, depths=(1, 2, 1, 2), squeeze_excite=True)


def test_degree_features_are_those_of_the_blocks_of_the_network(supernet, rng):
    population = supernet.space.sample(20, rng)
    features = degree_features(supernet).fit_transform(population)
    for row, (degree, mass, _) in zip(population, features, strict=True):
        blocks = [module for module in supernet.subnet(row) if isinstance(module, InvertedResidual)]
        assert degree == pytest.approx(sum(inverted_residual_degree(block, ()) for block in blocks))
        assert mass == pytest.approx(1 + sum(inverted_residual_mass(block, ()) for block in blocks))


@pytest.mark.serial
def test_ten_thousand_networks_are_ranked_in_a_second(supernet, rng):
    features, population = degree_features(supernet), supernet.space.sample(10_000, rng)
    start = time.perf_counter()
    assert features.fit_transform(population).shape == (10_000, 3)
    assert time.perf_counter() - start < 1, "milliseconds, measured"


@pytest.mark.parametrize("name", [name for name in SCREENS if name != "none"])
def test_a_screen_learns_what_it_is_shown(name, supernet, rng):
    population = supernet.space.sample(300, rng)
    macs = degree_features(supernet).fit_transform(population)[:, 2]
    scores = 1 - np.exp(-macs / macs.mean())
    predicted = screen(name, supernet).fit(population[:200], scores[:200]).predict(population[200:])
    assert np.corrcoef(predicted, scores[200:])[0, 1] > 0.8


def test_names(supernet):
    assert screen("none", supernet) is None
    with pytest.raises(UsageError, match="Unknown predictor 'nn_degree'"):
        screen("nn_degree", supernet)
