"""Edges with two factors: what they cost, what their mixtures equal, and that what was planted is found."""

import itertools

import numpy as np
import pytest
import torch
from test_cell_networks import saved_bytes
from torch import nn

from evonas import UsageError
from predictors import count_params
from supernet import LearnedMixtures, darts, nasbench201, train
from supernet.activations import ACTIVATIONS, SIX, ActivationPool
from supernet.blocks import Mixture
from supernet.cell_operators import POOLS
from supernet.data import TensorPart
from supernet.edges import FORMS, FactorizedEdge, takes_activation
from supernet.training.architecture_weights import ArchitectureWeights

CELLS = {"channels": 4, "cells": 3, "nodes": 2}


def weights_of(space, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.dirichlet(np.ones(len(choice.options)))) for choice in space.choices]


@pytest.mark.parametrize("names", [tuple(ACTIVATIONS), SIX, ("relu6", "h_swish", "prelu"), ("tanh",)])
def test_a_mixture_of_activations_is_their_sum(names):
    """Values and gradients against PyTorch's own functions, in float64, and by finite differences."""
    torch.manual_seed(0)
    pool = ActivationPool(names).double()
    x = (3 * torch.randn(2, 3, 4, 4, dtype=torch.float64)).requires_grad_()
    weights = torch.rand(len(names), dtype=torch.float64).requires_grad_()
    plainly = sum(weight * each(x) for weight, each in zip(weights, pool, strict=True))
    found = pool.mixed(x, weights)
    torch.testing.assert_close(found, plainly)
    upstream = torch.randn_like(found)
    asked = (x, weights, *pool.parameters())
    for one, other in zip(torch.autograd.grad(found, asked, upstream), torch.autograd.grad(plainly, asked, upstream), strict=True):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(pool.mixed, (x, weights))


def test_activations_far_from_zero_are_finite():
    x = torch.tensor([-1e4, -90.0, -30.0, 0.0, 30.0, 90.0, 1e4], requires_grad=True)
    pool, weights = ActivationPool(SIX), torch.full((6,), 1 / 6)
    found = pool.mixed(x, weights)
    torch.testing.assert_close(found, sum(each(x) / 6 for each in pool))
    assert torch.autograd.grad(found.sum(), x)[0].isfinite().all()


def test_factors_add_their_parameters_and_not_their_convolutions():
    """M + N weights an edge; M convolutions an edge, and M * N where every pair runs by itself; the pairs' weights add up to one."""
    convolutions = 2  # of an edge: 1x1 and 3x3
    for form, times in (("pre", 1), ("post", 1), ("post-exact", 1), ("full", 6)):
        supernet = nasbench201((1, 8, 8), 4, widths=(4,), cells=1, activations=SIX, form=form)
        assert [len(choice.options) for choice in supernet.space.choices] == [5, 6] * 6
        learned = ArchitectureWeights(supernet.space)
        assert sum(p.numel() for p in learned.parameters()) == 6 * (5 + 6)
        found = learned.probabilities(supernet.space)
        for operators, activations in zip(found[::2], found[1::2], strict=True):
            assert torch.outer(operators, activations).sum().item() == pytest.approx(1)
        calls, cell = [], supernet.chain[1]
        for module in cell.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        supernet(torch.randn(2, 1, 8, 8), learned.mixture(supernet))
        assert len(calls) == 6 * convolutions * times


def test_activations_before_linear_operators_are_the_full_product():
    """Convolutions without batch norm, pooling and skip connections: mixing first is the sum over all pairs."""
    torch.manual_seed(1)
    operators = {
        "none": None,
        "skip": nn.Identity(),
        "pool": nn.AvgPool2d(3, 1, 1),
        "conv": nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, bias=False)),
        "point": nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False)),
    }
    pre, full = (FactorizedEdge(operators, SIX, form).double() for form in ("pre", "full"))
    weights = torch.rand(5, dtype=torch.float64), torch.softmax(torch.randn(6, dtype=torch.float64), 0)
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(pre.mixture(x, *weights), full.mixture(x, *weights), rtol=1e-5, atol=1e-5)
    by_hand = sum(
        weights[0][m] * weights[1][n] * nn.Sequential(ACTIVATIONS[name](), *list(operators[operator])[1:])(x)
        for m, operator in ((3, "conv"), (4, "point"))
        for n, name in enumerate(SIX)
    )
    by_hand = by_hand + weights[0][1] * x + weights[0][2] * operators["pool"](x)
    torch.testing.assert_close(pre.mixture(x, *weights), by_hand, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_mixture_of_one_pair_an_edge_is_the_path(form):
    """For every form, in cells with separable convolutions, strides and operators that take no activation."""
    supernet = darts((1, 8, 8), 10, **CELLS, activations=("relu", "tanh", "swish"), form=form).eval()
    images = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        for row in supernet.space.sample(4, np.random.default_rng(2)):
            weights = [torch.eye(len(choice.options))[option] for choice, option in zip(supernet.space.choices, row, strict=True)]
            torch.testing.assert_close(supernet(images, Mixture(weights)), supernet(images, row), rtol=1e-4, atol=1e-5)


def test_gradients_of_both_factors_are_those_of_finite_differences():
    supernet = nasbench201((1, 6, 6), 3, widths=(4,), cells=1, activations=("relu", "tanh", "swish")).double()
    images = torch.randn(4, 1, 6, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *weights: supernet(images, Mixture(weights)).sum(),
        [weight.requires_grad_() for weight in weights_of(supernet.space)],
        nondet_tol=1e-9,
        atol=1e-4,
    )


def test_operators_without_an_activation_take_none():
    """The same network whatever activation stands beside a skip connection; the derived one has the chosen ones at all places."""
    supernet = darts((1, 8, 8), 10, **CELLS, activations=("relu", "tanh"))
    space, skip = supernet.space, POOLS["darts"].index("skip_connect")
    separable, tanh = POOLS["darts"].index("sep_conv_3x3"), 1
    row = np.array([[skip, tanh] * (len(space) // 2)])
    assert (space.canonical(row)[0, 1::2] == 0).all()
    assert (space.canonical(np.array([[separable, tanh] * (len(space) // 2)]))[0, 1::2] == tanh).all()
    network = supernet.subnet([separable, tanh] * (len(space) // 2))
    functions = [module for module in network.modules() if isinstance(module, nn.ReLU | nn.Tanh)]
    edges = 3 * 5
    assert sum(isinstance(each, nn.Tanh) for each in functions) == 2 * edges
    plain = darts((1, 8, 8), 10, **CELLS).subnet([separable] * (len(space) // 2))
    assert count_params(network, (1, 8, 8)) == count_params(plain, (1, 8, 8))
    assert [takes_activation(None), takes_activation(nn.Identity()), takes_activation(nn.Sequential(nn.ReLU()))] == [False, False, True]


def test_mixing_activations_first_keeps_what_one_activation_keeps():
    """Bytes kept for the gradients: six functions in 1.2 times what ReLU alone takes, every pair by itself in more than three times."""
    images = torch.randn(8, 3, 16, 16)
    kept = {}
    for form, names in (("pre", ("relu",)), ("pre", SIX), ("full", SIX)):
        supernet = darts((3, 16, 16), 10, channels=8, cells=3, nodes=2, activations=names, form=form).train()
        weights = Mixture([weight.float().requires_grad_() for weight in weights_of(supernet.space)])
        kept[form, len(names)] = saved_bytes(lambda supernet=supernet, weights=weights: supernet(images, weights))
    assert kept["pre", 6] < 1.2 * kept["pre", 1]
    assert kept["full", 6] > 3 * kept["pre", 1]


def operators_of_an_edge():
    """None of them can do what another one does."""
    return {
        "skip": nn.Identity(),
        "conv_1x3": nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, (1, 3), padding=(0, 1), bias=False)),
        "conv_3x1": nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, (3, 1), padding=(1, 0), bias=False)),
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_pairs_are_found(seed):
    """Edges learn what another edge, of one operator and one activation, makes of noise: most of them choose that pair."""
    names, found = ("relu", "tanh", "swish"), []
    for operator, activation in itertools.product((1, 2), range(3)):
        torch.manual_seed(10 * seed + 3 * operator + activation)
        teacher, student = (FactorizedEdge(operators_of_an_edge(), names) for _ in range(2))
        planted = teacher.chosen(operator, activation)
        factors = [torch.zeros(3, requires_grad=True) for _ in range(2)]
        optimizer = torch.optim.Adam([{"params": student.parameters(), "lr": 0.01}, {"params": factors, "lr": 0.05}])
        for _ in range(150):
            x = 2 * torch.randn(8, 6, 6, 6)
            with torch.no_grad():
                target = planted(x)
            loss = (student.mixture(x, *(torch.softmax(each, 0) for each in factors)) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found.append((int(factors[0].argmax()) == operator, int(factors[1].argmax()) == activation))
    assert sum(both for _, both in found) >= 4, found
    assert sum(all(pair) for pair in found) >= 4, found


def test_it_is_trained_as_any_mixture_is():
    """Both factors move, after the warm-up; what is derived keeps two edges a node, each with its function."""
    rng = np.random.default_rng(0)
    images = TensorPart(torch.from_numpy(rng.normal(size=(96, 1, 8, 8)).astype(np.float32)), torch.from_numpy(rng.integers(4, size=96)),
                        torch.zeros(1), torch.ones(1))  # fmt: skip
    supernet = darts((1, 8, 8), 4, channels=4, cells=3, nodes=3, activations=("relu", "tanh"))
    way, records = LearnedMixtures(supernet.space, warmup=0.5, keep=2, architecture_lr=0.05), []
    first = way.weights.distribution(supernet.space)
    train(supernet, way, images, epochs=2, batch_size=16, lr=0.05, on_record=lambda epoch, record: records.append(record))
    for choice, before, after in zip(supernet.space.choices, first, way.weights.distribution(supernet.space), strict=True):
        assert not np.allclose(before, after), choice.name
    names = supernet.space.to_names(records[-1].architecture)
    for cell in ("normal", "reduction"):
        for target in ("node1", "node2", "node3"):
            operators = [option for name, option in names.items() if name.startswith(cell) and name.endswith(f"_to_{target}.op")]
            assert sum(option != "none" for option in operators) == 2


def test_what_makes_no_sense_is_refused():
    for settings, message in (({"activations": ("gelu",)}, "Unknown activation"), ({"activations": SIX, "form": "mean"}, "Unknown form")):
        with pytest.raises(UsageError, match=message):
            darts((1, 8, 8), 10, **CELLS, **settings)
    with pytest.raises(UsageError, match="weights of a mixture are zero"):
        ActivationPool(SIX).mixed(torch.ones(1), torch.zeros(6))
