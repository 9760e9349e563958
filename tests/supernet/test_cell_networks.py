"""Cells that read two predecessors: published sizes, what a path runs and remembers, mixtures and what they stand for."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evonas import UsageError
from evonas.graph import Graph
from predictors.costs import count_macs, count_params
from supernet import darts, nasbench201, pnas_cells
from supernet.blocks import Mixture
from supernet.cell import CellBlock, PartOfChannels
from supernet.cell_operators import OPERATORS, POOLS, FactorizedReduction, cell_operator
from supernet.mixing import edge_normalised, nodes_of, strongest

# The second-order cells of DARTS as its repository has them: (operator, source) for each of two edges of four nodes.
DARTS_V2 = {
    "normal": (
        (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        (("sep_conv_3x3", 1), ("skip_connect", 0)),
        (("skip_connect", 0), ("dil_conv_3x3", 2)),
    ),
    "reduction": (
        (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
        (("skip_connect", 2), ("max_pool_3x3", 1)),
        (("max_pool_3x3", 0), ("skip_connect", 2)),
        (("skip_connect", 2), ("max_pool_3x3", 1)),
    ),
}
PNASNET_5 = (
    ("-2", "-2", "sep_conv_5x5", "max_pool_3x3"),
    ("-1", "-1", "sep_conv_7x7", "max_pool_3x3"),
    ("-1", "-1", "sep_conv_5x5", "sep_conv_3x3"),
    ("block3", "-1", "sep_conv_3x3", "max_pool_3x3"),
    ("-2", "-1", "sep_conv_3x3", "identity"),
)
SMALL = {"channels": 8, "cells": 3, "nodes": 3}


def node(number):
    return f"input{number + 1}" if number < 2 else f"node{number - 1}"


def published(space):
    names = dict.fromkeys(space.names, "none")
    for kind, nodes in DARTS_V2.items():
        for target, edges in enumerate(nodes, start=1):
            names |= {f"{kind}.{node(source)}_to_node{target}.op": operator for operator, source in edges}
    return space.from_names(names)


def test_the_published_darts_network_has_its_published_parameters():
    """3,349,342 of DARTS_V2 with 20 cells and 36 channels, as its repository prints; our pooling has batch norm beside them."""
    kinds = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    supernet = darts((3, 32, 32), 10, channels=36, cells=20, operators=kinds)
    network = supernet.subnet(published(supernet.space))
    pooling = [m for m in network.modules() if isinstance(m, nn.Sequential) and len(m) == 2 and isinstance(m[0], nn.MaxPool2d)]
    beside = sum(parameter.numel() for module in pooling for parameter in module.parameters())
    assert sum(parameter.numel() for parameter in network.parameters()) - beside == 3_349_342


def test_pnasnet_5_has_its_published_size():
    """3.2 M parameters on CIFAR-10, with 9 cells of 48 filters; the released cell gives all of its blocks."""
    family = pnas_cells((3, 32, 32), 10, repeats=3, filters=48, concat="all")
    names = {"blocks": "5"}
    for number, values in enumerate(PNASNET_5, start=1):
        names |= {f"block{number}.{part}": value for part, value in zip(("input1", "input2", "op1", "op2"), values, strict=True)}
    assert round(count_params(family.network(family.space.from_names(names)), (3, 32, 32)) / 1e6, 1) == 3.2


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 30), blocks=st.integers(1, 4), concat=st.sampled_from(["unused", "all"]), pixels=st.integers(5, 17))
def test_costs_of_pnas_cells_are_those_of_their_networks(seed, blocks, concat, pixels):
    family = pnas_cells((3, pixels, pixels), 7, blocks=blocks, repeats=2, filters=4, concat=concat)
    population = family.space.sample(3, np.random.default_rng(seed))
    for count in (count_macs, count_params):
        expected = [count(family.network(row), family.image_shape) for row in population]
        assert family.totals(population, family.tables(count)).tolist() == expected


def test_equal_cells_of_pnas_are_one_network():
    """Halves swapped, and blocks in another order with their references: the same weights give the same logits."""
    family = pnas_cells((1, 8, 8), 10, blocks=2, repeats=1, filters=4)
    one = {"blocks": "2", "block1.input1": "-2", "block1.input2": "-1", "block1.op1": "identity", "block1.op2": "sep_conv_3x3"}
    one |= {"block2.input1": "-1", "block2.input2": "-1", "block2.op1": "max_pool_3x3", "block2.op2": "avg_pool_3x3"}
    other = {"blocks": "2", "block1.input1": "-1", "block1.input2": "-1", "block1.op1": "avg_pool_3x3", "block1.op2": "max_pool_3x3"}
    other |= {"block2.input1": "-1", "block2.input2": "-2", "block2.op1": "sep_conv_3x3", "block2.op2": "identity"}
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    networks = [family.network(family.space.from_names(names), seed=3).eval() for names in (one, other)]
    with torch.no_grad():
        assert torch.equal(networks[0](images), networks[1](images))


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "none"])
@pytest.mark.parametrize("pixels", [7, 8])
def test_operators_keep_and_halve_maps(name, pixels):
    x = torch.randn(2, 6, pixels, pixels)
    assert cell_operator(name, 6, 1)(x).shape == (2, 6, pixels, pixels)
    assert cell_operator(name, 6, 2)(x).shape == (2, 6, -(-pixels // 2), -(-pixels // 2))


def test_a_factorised_reduction_reads_every_pixel():
    reduction = FactorizedReduction(1, 2).eval()
    x = torch.ones(1, 1, 5, 5, requires_grad=True)
    reduction(x).sum().backward()
    read = x.grad[0, 0] != 0
    even, odd = torch.arange(5) % 2 == 0, torch.arange(5) % 2 == 1
    assert (read == (even[:, None] & even[None]) | (odd[:, None] & odd[None])).all()


def called(module, names):
    """How often each of the operators runs."""
    counts = dict.fromkeys(names, 0)

    def count(name):
        return lambda *_: counts.__setitem__(name, counts[name] + 1)

    hooks = [found.register_forward_hook(count(name)) for name, found in names.items()]
    return counts, hooks


def saved_bytes(run):
    """Bytes of activations that a forward keeps for its gradients, each tensor once; parameters are not counted."""
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()] = tensor.untyped_storage().nbytes()
        alive.append(tensor.detach())  # so that no address is used twice
        return alive[-1]  # kept itself, a result would hold the graph that holds it

    alive = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run().sum()
    return sum(kept.values())


@pytest.mark.parametrize(
    "make",
    [
        lambda: darts((3, 16, 16), 10, **SMALL),
        lambda: nasbench201((3, 16, 16), 10, widths=(8, 16), cells=2),
        lambda: darts((3, 16, 16), 10, channels=4, cells=20, own_cells=True),
    ],
)
def test_a_path_runs_one_operator_an_edge_and_remembers_what_a_plain_network_does(make):
    supernet = make().train()
    row = supernet.space.sample(1, np.random.default_rng(1))[0]
    blocks = [(block, columns) for block, columns in zip(supernet.chain, supernet.columns, strict=True) if isinstance(block, CellBlock)]
    operators = {(b, e, o): module for b, (block, _) in enumerate(blocks) for e, own in enumerate(block.options)
                 for o, module in enumerate(own) if module is not None}  # fmt: skip
    counts, hooks = called(supernet, operators)
    images = torch.randn(8, 3, 16, 16)
    supernet(images, row)
    taken = {(b, e, int(row[column])) for b, (_, columns) in enumerate(blocks) for e, column in enumerate(columns)}
    assert counts == {key: int(key in taken) for key in operators}
    for hook in hooks:
        hook.remove()
    path = saved_bytes(lambda: supernet(images, row))
    network = supernet.subnet(row).train()
    plain = saved_bytes(lambda: network(images))
    even = Mixture([torch.full((len(choice.options),), 1 / len(choice.options)) for choice in supernet.space.choices])
    mixture = saved_bytes(lambda: supernet(images, even))
    assert path <= 1.1 * plain
    assert mixture > 3 * path


@pytest.mark.parametrize("share", [1, 4])
def test_a_mixture_of_one_option_an_edge_is_the_path(share):
    supernet = darts((1, 8, 8), 10, channels=8, cells=3, nodes=2, share=share).eval()
    images = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        for row in supernet.space.sample(4, np.random.default_rng(2)):
            weights = [torch.eye(len(choice.options))[option] for choice, option in zip(supernet.space.choices, row, strict=True)]
            torch.testing.assert_close(supernet(images, Mixture(weights)), supernet(images, row), rtol=1e-4, atol=1e-5)


def test_only_a_part_of_the_channels_goes_through_an_operator():
    """The others are what they were, max-pooled where maps shrink; every channel is there once, interleaved."""
    x = torch.randn(2, 8, 6, 6)
    for stride in (1, 2):
        found = PartOfChannels(nn.MaxPool2d(stride), 4, stride)(x)
        pooled = nn.functional.max_pool2d(x, stride)
        order = [channel for place in range(2) for channel in range(place, 8, 2)]  # 0 2 4 6 1 3 5 7: groups of two, read across
        assert torch.equal(found, pooled[:, order])
    with pytest.raises(UsageError, match="no whole number"):
        darts(channels=6, share=4)


def test_edges_that_enter_a_node_share_it():
    supernet = darts((1, 8, 8), 10, channels=4, cells=3, nodes=2)
    strengths = torch.randn(len(supernet.space))
    weights = [torch.rand(len(choice.options)) for choice in supernet.space.choices]
    found = edge_normalised(supernet, weights, strengths)
    for name in ("normal", "reduction"):
        for target in ("node1", "node2"):
            columns = [
                i for i, choice in enumerate(supernet.space.names) if choice.startswith(name) and choice.endswith(f"_to_{target}.op")
            ]
            total = sum(np.exp(strengths[i].item()) for i in columns)
            for i in columns:
                torch.testing.assert_close(found[i], weights[i] * (np.exp(strengths[i].item()) / total), rtol=1e-4, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 30), keep=st.integers(1, 3))
def test_what_a_mixture_stands_for_is_the_best_of_all_ways_to_keep_edges(seed, keep):
    """Against every set of edges and operators: the heaviest in order, and nothing else."""
    supernet = SUPERNET
    rng = np.random.default_rng(seed)
    weights = [rng.permutation(len(choice.options)) / 8 + rng.random() / 16 for choice in supernet.space.choices]
    row = strongest(supernet, weights, keep)
    cut = POOLS["darts"].index("none")
    for columns in nodes_of(supernet):
        best = max(
            itertools.combinations(columns, min(keep, len(columns))),
            key=lambda kept: sorted((max(w for o, w in enumerate(weights[c]) if o != cut) for c in kept), reverse=True),
        )
        assert {column for column in columns if row[column] != cut} == set(best)
        assert all(weights[c][row[c]] == max(w for o, w in enumerate(weights[c]) if o != cut) for c in best)
    assert strongest(supernet, weights, None) == tuple(int(np.argmax(found)) for found in weights)


SUPERNET = darts((1, 8, 8), 10, channels=4, cells=3, nodes=3)


def test_an_edge_that_cannot_be_cut_is_said():
    supernet = darts((1, 8, 8), 10, channels=4, cells=3, nodes=2, operators=("skip_connect", "sep_conv_3x3"))
    with pytest.raises(UsageError, match="no option 'none'"):
        strongest(supernet, [np.ones(2)] * len(supernet.space))


def test_a_graph_knows_which_cells_have_a_path():
    """Against every way through NAS-Bench-201's cell, written out."""
    space = nasbench201((1, 8, 8), 10, widths=(4,), cells=1).space
    population = space.sample(3000, np.random.default_rng(0))
    there = population != 0
    expected = there[:, 3] | there[:, 0] & there[:, 4] | there[:, 1] & there[:, 5] | there[:, 0] & there[:, 2] & there[:, 5]
    assert (space.graph.connects([choice.options for choice in space.choices], population) == expected).all()
    assert 0 < expected.mean() < 1
    assert Graph(((0, 1),)).connects([("none", "a")], np.array([[0], [1]])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: darts(cells=2), "at least 3"),
        (lambda: darts((3, 2, 2)), "too small"),
        (lambda: darts(operators=("none", "conv")), "conv"),
        (lambda: pnas_cells(concat="some"), "expected one of: unused, all"),
        (lambda: pnas_cells(operators=("none", "identity")), "leave it out"),
        (lambda: pnas_cells((3, 3, 3)), "too small"),
    ],
)
def test_what_cannot_be_built_is_said(make, said):
    with pytest.raises(UsageError, match=said):
        make()
