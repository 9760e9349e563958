"""Every registered space against the contract, and each check against an example that breaks it."""

import copy

import pytest
import torch
from torch import nn

from evonas import Choice, SearchSpace
from supernet import mbconv, split
from supernet import testing as t
from supernet.blocks import ChoiceBlock, FixedBlock, PathsBlock
from supernet.chain import ChainSupernet
from supernet.diagnosis.sharing import random_groups
from supernet.operators import conv_bn
from supernet.spaces import SPACES, darts, two_node

SMALL = {
    "branches": {"operators": ("mb1_k3", "mb3_k5", "mb3_k3_d2", "row2_k5"), "depths": (2, 1, 1)},
    "ensemble": {"depths": (1, 2, 1)},
    "skip": {"layout": "small"},
    "darts": {"channels": 4, "cells": 3, "nodes": 2},
    "pnas": {"filters": 4, "repeats": 1, "blocks": 3},
}


def registered(name):
    return SPACES[name].make((1, 8, 8), 10, **SMALL.get(name, {}))


def shared_by_groups():
    base = two_node((1, 8, 8), 10, channels=4, cells=2)
    return split(base, random_groups(base.space, 4, seed=0), 4, first=1)


class Pair(nn.Module):
    """Hands on what it got beside what it made of it, as cells do that read their two predecessors."""

    def __init__(self, inner, first):
        super().__init__()
        self.inner, self.first = inner, first

    def forward(self, x):
        before, now = (x, x) if self.first else x
        return now, before + self.inner(now)


class Joined(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        return self.head(torch.cat(x, dim=1))


def pairs():
    """A chain whose blocks hand on pairs of tensors."""
    choices = tuple(Choice(f"block{i}.op", ("conv3", "conv5")) for i in range(3))
    blocks = [FixedBlock("stem", conv_bn(1, 4, 3))]
    for i, choice in enumerate(choices):
        blocks.append(ChoiceBlock(f"block{i}", choice.name, {f"conv{k}": Pair(conv_bn(4, 4, k), i == 0) for k in (3, 5)}))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    return ChainSupernet(SearchSpace(choices), [*blocks, FixedBlock("head", Joined(head))], (1, 8, 8))


SPACE_MAKES = {
    **{name: lambda name=name: registered(name) for name in SPACES},
    "squeeze-excite": lambda: mbconv((1, 8, 8), 10, depths=(1, 2, 2), squeeze_excite=True),
    "split": shared_by_groups,
    "pairs": pairs,
    "partial channels": lambda: darts((1, 8, 8), 10, channels=8, cells=3, nodes=2, share=4, own_cells=True),
}


ALONE = [name for name, entry in SPACES.items() if not entry.supernet]  # families whose networks are trained on their own


@pytest.mark.parametrize("name", [name for name in SPACE_MAKES if name not in ALONE])
@pytest.mark.parametrize("check", t.SPACE_CHECKS, ids=lambda check: check.__name__)
def test_spaces(name, check):
    check(SPACE_MAKES[name])


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("check", t.FAMILY_CHECKS, ids=lambda check: check.__name__)
def test_families(name, check):
    check(SPACE_MAKES[name])


def test_what_is_no_supernet_is_said():
    with pytest.raises(AssertionError, match="run FAMILY_CHECKS"):
        t.walk_equals_loop(lambda: registered("skip"))


def chain(block):
    """A supernet around one block."""
    choice = Choice("op", ("a", "b"))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    return ChainSupernet(SearchSpace((choice,)), [FixedBlock("stem", conv_bn(1, 4, 3)), block, FixedBlock("head", head)], (1, 8, 8))


def options():
    return {"a": conv_bn(4, 4, 3), "b": conv_bn(4, 4, 5)}


class WrongCopy(ChoiceBlock):
    def extract(self, *options, input_shape):
        return super().extract(1 - options[0], input_shape=input_shape)


class Everything(ChoiceBlock):
    """Runs all options and keeps one."""

    def forward(self, x, *options):
        outputs = [self.active(i)(x) for i in range(2)]
        return outputs[options[0]] + 0 * outputs[1 - options[0]]


class Halved(ChoiceBlock):
    def parts(self, input_shape):
        return [copy.copy(part) for part in super().parts(input_shape) if part.name != "block"]


class Moody(nn.Module):
    """What it computes depends on how often it was called."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class Fresh(ChainSupernet):
    """Draws its weights anew when its space is narrowed."""

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "space" and "chain" in vars(self):
            nn.init.normal_(next(self.parameters()))


def fresh():
    made = chain(ChoiceBlock("block", "op", options()))
    return Fresh(made.space, list(made.chain), (1, 8, 8))


class Unseeded(ChainSupernet):
    def network(self, architecture, *, seed=0):
        network = super().network(architecture, seed=seed)
        nn.init.normal_(next(network.parameters()))
        return network


def unseeded():
    made = chain(ChoiceBlock("block", "op", options()))
    return Unseeded(made.space, list(made.chain), (1, 8, 8))


@pytest.mark.parametrize(
    ("make", "check"),
    [
        (lambda: chain(WrongCopy("block", "op", options())), t.path_equals_subnet),
        (lambda: chain(Everything("block", "op", options())), t.gradients_stay_on_the_path),
        (lambda: chain(Halved("block", "op", options())), t.costs_equal_counted_ones),
        (lambda: chain(ChoiceBlock("block", "op", {"a": Moody(), "b": Moody()})), t.walk_equals_loop),
        (lambda: chain(ChoiceBlock("block", "op", {"a": Noisy(), "b": Noisy()})), t.onnx_equals_pytorch),
        (fresh, t.narrowed_space_keeps_the_weights),
        (unseeded, t.seed_decides_the_weights),
    ],
)
def test_broken_spaces_fail(make, check):
    with pytest.raises(AssertionError):
        check(make)


def test_statistics_of_composed_blocks_are_their_own():
    """Modules that are composed for a call and gone after it: their numbers come back, and must not bring another's layers."""

    class Composed(PathsBlock):
        def active(self, *options):
            return nn.Sequential(*super().active(*options))

    layers = {(i,): nn.Sequential(*(conv_bn(4, 4, 3)[j] for j in range(3))) for i in range(6)}
    block = Composed("block", ["op"], layers, nn.ModuleList(layers.values()))
    choice = Choice("op", tuple("abcdef"))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    make = lambda: ChainSupernet(SearchSpace((choice,)), [FixedBlock("stem", conv_bn(1, 4, 3)), block, FixedBlock("head", head)], (1, 8, 8))  # noqa: E731
    t.walk_equals_loop(make)
