"""Counted costs against PyTorch's own counter on stand-alone networks, exactly."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evonas import Choice, SearchSpace
from predictors import AdditiveCost, macs, params
from supernet import mbconv


@pytest.mark.parametrize("arguments", [{"squeeze_excite": True}, {"layout": "digits", "kernels": (3, 5), "expansions": (2, 4)}])
def test_macs_and_params_equal_torch_on_stand_alone_networks(arguments, rng):
    supernet = mbconv((3, 20, 20), 7, **arguments)
    space, parts = supernet.space, supernet.parts()
    population = space.sample(50, rng)
    counted, weights = macs(space, parts)(population), params(space, parts)(population)
    for row, count, weight in zip(population, counted, weights, strict=True):
        network = supernet.subnet(row).eval()
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            network(torch.zeros(1, 3, 20, 20))
        assert count == flops.get_total_flops() / 2
        assert weight == sum(p.numel() for p in network.parameters())


def test_tables_over_several_choices_and_exact_extremes(rng):
    space = SearchSpace(tuple(Choice(f"c{i}", ("x", "y", "z")) for i in range(4))).narrow({"c1": ["y", "z"]})
    pair, single = rng.normal(size=(3, 3)), rng.normal(size=3)
    cost = AdditiveCost("", 1.0, (((0, 2), pair), ((1,), single)))
    everything = space.enumerate()
    expected = np.array([1.0 + pair[a, c] + single[b] for a, b, c, _ in everything])
    np.testing.assert_allclose(cost(everything), expected)
    low, high = cost(space.population(cost.extremes(space)))
    assert (low, high) == (pytest.approx(expected.min()), pytest.approx(expected.max()))
