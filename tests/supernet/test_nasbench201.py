"""The NAS-Bench-201 supernet: exactly the networks of its table. test_space_contracts.py runs the contract of spaces over it."""

import numpy as np
import pytest
import torch
from torch import nn

from evonas import UsageError
from evonas.tabular import nasbench201 as read_table
from evonas.tabular import read_arrays
from predictors import count_macs, count_params, macs, params
from supernet import nasbench201
from supernet.blocks import Mixture
from supernet.cell import CellBlock, GraphCell


def test_all_cells_of_the_table_have_its_costs(tables):
    """Parameters as measured by the authors, multiply-accumulates of 32-pixel images: all 15,625."""
    path = tables / "nasbench201_accuracy.npz"
    arrays, cells = read_arrays(path, "ops"), read_table(path).architectures
    supernet = nasbench201()
    assert len(cells) == 15_625
    np.testing.assert_array_equal(params(supernet.space, supernet.parts())(cells), arrays["params_derived"])
    np.testing.assert_array_equal(macs(supernet.space, supernet.parts())(cells), arrays["flops_derived"])


def test_tables_equal_counting_whole_networks(rng):
    supernet = nasbench201((3, 16, 16), 7, widths=(4, 8), cells=2)
    population = supernet.space.sample(20, rng)
    networks = [supernet.subnet(row) for row in population]
    shape = (3, 16, 16)
    np.testing.assert_array_equal(macs(supernet.space, supernet.parts())(population), [count_macs(n, shape) for n in networks])
    np.testing.assert_array_equal(params(supernet.space, supernet.parts())(population), [count_params(n, shape) for n in networks])


def test_a_cell_adds_up_what_its_edges_bring(rng):
    """By hand for one cell: node 1 from node 0, node 2 from both, the output from all three."""
    modules = [nn.Conv2d(2, 2, 1) for _ in range(6)]
    edges = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    x = torch.randn(3, 2, 4, 4)
    a, b, c, d, e, f = modules
    one = a(x)
    two = b(x) + c(one)
    torch.testing.assert_close(GraphCell(edges, modules, 4)(x), d(x) + e(one) + f(two))
    block = CellBlock("cell", [f"e{i}" for i in range(6)], edges, [{"none": None, "conv": module} for module in modules])
    torch.testing.assert_close(block(x, 1, 0, 1, 0, 0, 1), f(c(one)))
    assert not block(x, 0, 0, 0, 0, 0, 0).any()
    assert not block(x, 1, 1, 1, 0, 0, 0).any()  # nothing reaches the output
    torch.testing.assert_close(block(x, 0, 0, 0, 0, 1, 0), e(torch.zeros_like(x)))  # a node that nothing reaches is zero, not absent


def test_a_mixture_of_one_operator_each_is_its_path_and_runs_nothing_else(rng):
    supernet = nasbench201((1, 8, 8), 10, widths=(4, 8), cells=1).eval()
    images, calls = torch.randn(2, 1, 8, 8), []
    for layer in supernet.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda *_: calls.append(1))
    for row in supernet.space.sample(5, rng):
        calls.clear()
        mixed = supernet(images, Mixture([torch.eye(5)[int(option)] for option in row]))
        in_mixture = len(calls)
        torch.testing.assert_close(mixed, supernet(images, row))
        assert in_mixture == len(calls) - in_mixture


def test_a_mixture_weighs_operators(rng):
    """Against the sum by hand on one edge: skip, two convolutions and a pooling."""
    supernet = nasbench201((1, 8, 8), 10, widths=(4,), cells=1).eval()
    block, x = supernet.chain[1], torch.randn(2, 4, 8, 8)
    weights = [torch.zeros(5) for _ in range(6)]
    weights[3] = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15])
    expected = sum(w * operator(x) for w, operator in zip(weights[3][1:], block.options[3][1:], strict=True))
    torch.testing.assert_close(block.mixture(x, *weights), expected)


def test_images_must_outlast_the_stages():
    with pytest.raises(UsageError, match="too small for 3 stages"):
        nasbench201((3, 2, 2))
