"""The two-node space, and mixtures of options."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from evonas import UsageError
from predictors import count_macs, count_params, macs, params
from supernet import macro, mbconv, split, two_node
from supernet.blocks import Mixture
from supernet.diagnosis.sharing import similar_groups


@pytest.fixture(scope="module")
def supernet():
    return two_node((1, 8, 8), 10, channels=4, cells=2).eval()


@pytest.fixture
def images(rng):
    return torch.from_numpy(rng.normal(size=(3, 1, 8, 8)).astype(np.float32))


def test_there_are_64_networks(supernet, images):
    outputs = [supernet(images, row) for row in supernet.space.enumerate()]
    assert len({tuple(output.flatten().tolist()) for output in outputs}) == 64


def test_a_cell_is_the_sum_of_its_nodes(supernet, rng):
    block, x = supernet.blocks[1], torch.from_numpy(rng.normal(size=(2, 4, 8, 8)).astype(np.float32))
    operators = [edge[option] for edge, option in zip(block.shared, (1, 0, 3), strict=True)]
    first = operators[0](x)
    second = operators[1](x) + operators[2](first)
    torch.testing.assert_close(block(x, 1, 0, 3), first + second)


def test_costs_add_up_over_cells_that_read_the_same_choices(supernet, rng):
    parts = supernet.parts()
    for cost, count in ((macs, count_macs), (params, count_params)):
        table = cost(supernet.space, parts)
        for row in supernet.space.sample(5, rng):
            assert table(row[None])[0] == count(supernet.subnet(row), (1, 8, 8))


@pytest.mark.parametrize(
    "make",
    [lambda: two_node((1, 8, 8), 10, channels=4, cells=2), lambda: macro((1, 8, 8)), lambda: mbconv((1, 8, 8), 10, depths=(1, 2, 1))],
)
def test_a_mixture_of_one_option_is_its_path(make, images, rng):
    network = make().eval()
    path = network.space.sample(1, rng)[0]
    gates = [one_hot(torch.tensor(int(o)), len(c.options)).float() for o, c in zip(path, network.space.choices, strict=True)]
    torch.testing.assert_close(network(images, Mixture(gates)), network(images, path))


def test_a_mixture_is_the_weighted_sum(images):
    network = mbconv((1, 8, 8), 10, depths=(1, 1, 1)).eval()
    gates = [torch.softmax(torch.arange(len(c.options), dtype=torch.float32), 0) for c in network.space.choices]
    x = network.blocks[0].module(images)
    for block, weights in zip(network.blocks[1:-1], gates, strict=True):
        x = sum(weight * option(x) for weight, option in zip(weights, block.options.values(), strict=True))
    torch.testing.assert_close(network(images, Mixture(gates)), network.blocks[-1].module(x))


def test_what_cannot_be_mixed_is_refused(supernet, images):
    shared = split(supernet, similar_groups(supernet.space, 2), 2)
    with pytest.raises(UsageError, match="cannot be mixed"):
        shared(images, Mixture([torch.ones(4)] * 3))
    with pytest.raises(UsageError, match="3 option indices"):
        supernet(images, Mixture([torch.ones(4)] * 2))
