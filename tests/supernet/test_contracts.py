"""Everything registered against the contracts of ways and of spaces, and each check against an example that breaks it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from evonas import Choice, SearchSpace
from evonas.testing import TableCost
from supernet import BinnedPaths, OrderedPaths, UniformPaths, mbconv, split
from supernet import testing as t
from supernet.blocks import ChoiceBlock, FixedBlock, PathsBlock
from supernet.chain import ChainSupernet
from supernet.diagnosis.sharing import random_groups
from supernet.operators import conv_bn
from supernet.spaces import SPACES, two_node
from supernet.training.registry import WAYS
from supernet.training.way import Way, learn


def bins(supernet):
    table = np.arange(2.0 * 4 * len(supernet.space)).reshape(len(supernet.space), -1)
    return BinnedPaths(TableCost(table), 50.0, 150.0)


WAY_MAKES = {**{name: entry.make for name, entry in WAYS.items()}, "bins": bins}


ALONE = [c for c in t.WAY_CHECKS if c is not t.team_of_two_equals_one]


@pytest.mark.parametrize("name", WAY_MAKES)
@pytest.mark.parametrize("check", ALONE, ids=lambda check: check.__name__)
def test_ways(name, check):
    check(WAY_MAKES[name])


@pytest.mark.serial
@pytest.mark.parametrize("name", [*WAY_MAKES, "learner"])
def test_teams(name):
    t.team_of_two_equals_one({**WAY_MAKES, "learner": lambda supernet: Learner()}[name])


class Learner(UniformPaths):
    """A way that owns something: a temperature learned by the loop, and a board learned on held-out images."""

    held_out = 0.25

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))
        self.board = nn.Parameter(torch.zeros(4))
        self.register_buffer("seen", torch.zeros(()))
        self.optimizer = torch.optim.Adam([self.board], lr=0.1)

    def step(self, network, batch, moment, rng):
        loss = super().step(network, batch, moment, rng)
        return {"cross_entropy": loss, "temperature": (self.temperature - 2) ** 2}

    def after_step(self, network, batch, held_out, moment, rng):
        logits = network(held_out[0], network.space.sample(1, rng)[0])
        learn(nn.functional.cross_entropy(logits + self.board, held_out[1]), self.optimizer)
        self.seen += len(held_out[1])

    def end_of_epoch(self, network, held_out, moment):
        if moment.epoch == 1:
            allowed = network.space.allowed[0]
            return network.space.narrow({network.space.names[0]: [network.space.choices[0].options[i] for i in allowed[:2]]})
        return None

    def get_extra_state(self):
        return {"optimizer": self.optimizer.state_dict()}

    def set_extra_state(self, state):
        self.optimizer.load_state_dict(state["optimizer"])


@pytest.mark.parametrize("check", ALONE, ids=lambda check: check.__name__)
def test_a_way_that_owns_things(check):
    check(lambda supernet: Learner())


class Forgetful(OrderedPaths):
    """What is left of its round is not saved."""

    def __init__(self):
        super().__init__(t.small_supernet().space.sample(64, np.random.default_rng(0)))

    def get_extra_state(self):
        return {"left": []}


class Meddler(UniformPaths):
    def after_step(self, network, batch, held_out, moment, rng):
        with torch.no_grad():
            next(network.parameters()).mul_(0.999)


class Idle(UniformPaths):
    """Owns what never moves."""

    def __init__(self):
        super().__init__()
        self.board = nn.Parameter(torch.zeros(4))


class Trespasser(UniformPaths):
    def paths(self, space, rng):
        return SearchSpace(space.choices).sample(1, rng)


class Careless(UniformPaths):
    def paths(self, space, rng):
        return space.sample(1, np.random.default_rng(np.random.randint(1 << 30)))  # noqa: NPY002


class Lonely(Learner):
    """Learns from its own share of the batch, so that the processes of a team drift apart."""

    def after_step(self, network, batch, held_out, moment, rng):
        with torch.no_grad():
            self.board += batch[0].mean() + batch[1].sum()


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Forgetful, t.resumed_to_the_bit),
        (Meddler, t.after_step_leaves_the_network_alone),
        (Idle, t.own_parameters_move_and_are_saved),
        (Trespasser, t.only_the_allowed_space_is_trained),
        (Careless, t.global_generators_are_untouched),
        pytest.param(Lonely, t.team_of_two_equals_one, marks=pytest.mark.serial),
    ],
)
def test_broken_ways_fail(broken, check):
    with pytest.raises(AssertionError):
        check(lambda supernet: broken())


def registered(name):
    return SPACES[name].make((1, 8, 8), 10)


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
}


@pytest.mark.parametrize("name", SPACE_MAKES)
@pytest.mark.parametrize("check", t.SPACE_CHECKS, ids=lambda check: check.__name__)
def test_spaces(name, check):
    check(SPACE_MAKES[name])


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


def test_a_way_names_its_losses_and_sets_images_aside():
    """Named losses add up; the steps see no held-out image; the space is narrowed where the way says so."""
    supernet, seen = t.small_supernet(), {"held": set(), "trained": set()}

    class Watched(Learner):
        def step(self, network, batch, moment, rng):
            seen["trained"] |= {round(float(image.sum()), 3) for image in batch[0]}
            return super().step(network, batch, moment, rng)

        def after_step(self, network, batch, held_out, moment, rng):
            seen["held"] |= {round(float(image.sum()), 3) for image in held_out[0]}
            return super().after_step(network, batch, held_out, moment, rng)

    losses = t._train(supernet, Watched())
    assert all(found["loss"] == pytest.approx(found["cross_entropy"] + found["temperature"], rel=1e-5) for found in losses)
    assert losses[-1]["temperature"] < losses[0]["temperature"]
    assert len(seen["held"]) == 24
    assert len(seen["trained"]) == 72
    assert not seen["held"] & seen["trained"]
    assert supernet.space.allowed[0] == (0, 1)


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


def test_gradients_that_after_step_leaves_in_the_network_are_refused():
    """They would be counted as those of a step by whoever averages gradients over a team."""

    class Sloppy(Learner):
        def after_step(self, network, batch, held_out, moment, rng):
            network(held_out[0], network.space.sample(1, rng)[0]).sum().backward()

    with pytest.raises(RuntimeError, match=r"use supernet\.training\.way\.learn"):
        t._train(t.small_supernet(), Sloppy())


def test_a_way_without_a_step_says_so():
    with pytest.raises(NotImplementedError, match="has no method `step`"):
        Way().step(None, None, None, None)
