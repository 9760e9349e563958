"""Ways of training: what they train, in which order, how evenly."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from evonas import Choice, SearchSpace
from supernet import FairPaths, OrderedPaths, UniformPaths, mbconv, two_node
from supernet.training.mixture import Mixtures, draw_gates

UNEVEN = SearchSpace((Choice("a", ("x", "y", "z", "u")), Choice("b", ("x", "y")), Choice("c", ("x", "y", "z"))))


@pytest.fixture
def batch(digits):
    return next(digits.train.epoch(16, (0, 0), torch.device("cpu")))


def test_fair_paths_deal_every_option_once_a_step(rng):
    """With equal numbers of options: the permutation of the paper."""
    space = mbconv((1, 8, 8), 10, depths=(1, 1, 1), kernels=(3, 5), expansions=(3,)).space.narrow(
        {"stage0.block0.op": ["mb3_k3", "mb3_k5"]}
    )
    way = FairPaths()
    for _ in range(20):
        paths = way.paths(space, rng)
        assert all(sorted(column) == list(options) for column, options in zip(paths.T.tolist(), space.allowed, strict=True))


def test_fair_paths_never_differ_by_more_than_one(rng):
    """With any numbers of options, after every single path."""
    way, counts = FairPaths(), [np.zeros(len(options)) for options in UNEVEN.allowed]
    for _ in range(50):
        for path in way.paths(UNEVEN, rng):
            for count, option in zip(counts, path, strict=True):
                count[option] += 1
            assert max(np.ptp(count) for count in counts) <= 1


def test_a_fair_step_trains_all_options_and_adds_the_losses(batch, rng):
    supernet = two_node((1, 8, 8), 10, channels=4, cells=1)
    way = FairPaths()
    state = np.random.default_rng(7)
    loss = way.step(supernet, batch, state)
    loss.backward()
    assert all(parameter.grad is not None for parameter in supernet.parameters())
    paths = FairPaths().paths(supernet.space, np.random.default_rng(7))
    alone = [cross_entropy(supernet(batch[0], path), batch[1], label_smoothing=0.1) for path in paths]
    assert float(loss.detach()) == pytest.approx(float(sum(alone).detach()), rel=1e-5)


@pytest.mark.parametrize("make", [FairPaths, lambda: OrderedPaths(UNEVEN.enumerate(), reshuffle=True)])
def test_a_way_goes_on_from_its_state(make):
    """What is left of a deck or of a round is remembered between epochs."""

    def draw(way, rng):
        return way.paths(UNEVEN, rng).tolist()

    whole, halves = make(), make()
    rng = np.random.default_rng(1)
    expected = [draw(whole, rng) for _ in range(7)]
    rng = np.random.default_rng(1)
    found = [draw(halves, rng) for _ in range(3)]
    again = make()
    again.load_state_dict(halves.state_dict())
    assert found + [draw(again, rng) for _ in range(4)] == expected


def test_ordered_paths_take_turns(rng):
    population = UNEVEN.enumerate()
    way = OrderedPaths(population)
    rounds = [[tuple(way.paths(UNEVEN, rng)[0]) for _ in population] for _ in range(2)]
    assert rounds[0] == rounds[1] == [tuple(row) for row in population]
    way = OrderedPaths(population, reshuffle=True)
    rounds = [[tuple(way.paths(UNEVEN, rng)[0]) for _ in population] for _ in range(2)]
    assert rounds[0] != rounds[1]
    assert sorted(rounds[0]) == sorted(rounds[1]) == sorted(map(tuple, population))


def test_uniform_paths_train_one_path(batch, rng):
    supernet = two_node((1, 8, 8), 10, channels=4, cells=1)
    UniformPaths().step(supernet, batch, rng).backward()
    with_gradient = sum(parameter.grad is not None for parameter in supernet.parameters())
    path = UniformPaths().paths(supernet.space, rng)[0]
    assert with_gradient < len(list(supernet.parameters()))
    assert path.shape == (3,)


def test_gates_are_weights_of_the_allowed_options(rng):
    space = UNEVEN.narrow({"a": ["y", "u"]})
    gates = draw_gates(space, rng, torch.device("cpu"))
    assert [len(gate) for gate in gates] == [4, 2, 3]
    assert all(float(gate.sum()) == pytest.approx(1, abs=1e-6) for gate in gates)
    assert gates[0][[0, 2]].tolist() == [0, 0]


def test_mixtures_train_every_option(batch, rng):
    supernet = two_node((1, 8, 8), 10, channels=4, cells=1)
    Mixtures().step(supernet, batch, rng).backward()
    assert all(parameter.grad is not None for parameter in supernet.parameters())
