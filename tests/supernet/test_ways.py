"""Ways of training: what they train, in which order, how evenly."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from evonas import Choice, SearchSpace, UsageError
from evonas.testing import TableCost
from predictors.costs import macs
from supernet import BinnedPaths, FairPaths, OrderedPaths, UniformPaths, WarmUp, mbconv, quantised, shuffle, train, two_node
from supernet.spaces import WIDTHS, Layout, Stage
from supernet.training.binned import usual_range
from supernet.training.mixture import Mixtures, draw_gates
from supernet.training.schedule import linear, schedule
from supernet.training.way import Moment

START = Moment(0, 1, 0, 1, 0.1)
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
    loss = way.step(supernet, batch, START, state)
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
    UniformPaths().step(supernet, batch, START, rng).backward()
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
    Mixtures().step(supernet, batch, START, rng).backward()
    assert all(parameter.grad is not None for parameter in supernet.parameters())


def at(share):
    """The moment at which a share of many epochs is done."""
    return Moment(round(share * 1000), 1000, 0, 1, 0.1)


@pytest.fixture
def widths():
    return shuffle((1, 8, 8), 10, widths=WIDTHS).space


def test_warm_up_opens_widths_from_the_largest_down(widths):
    """At first the widest alone; from three quarters on all; between, one more after another; operators are always free."""
    way, seen = WarmUp(), []
    for epoch in range(40):
        opened = way.opened(widths, at(epoch / 40))
        for choice, options, all_of_them in zip(opened.choices, opened.allowed, widths.allowed, strict=True):
            assert options == (all_of_them[-len(options) :] if choice.name.endswith(".width") else all_of_them)
        assert len(set(map(len, opened.allowed[1::2]))) == 1
        seen.append(len(opened.allowed[1]))
    assert seen[:20] == [1] * 20
    assert seen[20:] == sorted(seen[20:])
    assert set(seen[20:31]) == {2, 3, 4, 5, 6, 7, 8}
    assert seen[30:] == [8] * 10


def test_warm_up_takes_bits_as_sizes():
    """From four bits down, in the order of the options."""
    space, way = quantised((1, 8, 8), 10).space, WarmUp()
    assert [way.opened(space, at(share)).allowed[0] for share in (0.0, 0.5, 0.75)] == [(5,), (4, 5), (0, 1, 2, 3, 4, 5)]


def test_warm_up_needs_widths_and_epochs(widths):
    with pytest.raises(UsageError, match="of 3 epochs; expected 4 or more"):
        WarmUp().check(widths, 3)
    WarmUp().check(widths, 4)
    with pytest.raises(UsageError, match="needs widths or bits"):
        WarmUp().opened(UNEVEN, START)


def test_warm_up_spares_widths_that_are_fixed_or_two(widths):
    """A choice with a single allowed width keeps it; with two, the second comes in at the half."""
    narrowed = widths.narrow({"stage0.block0.width": ["0.4"], "stage0.block1.width": ["0.2", "1.0"]})
    way = WarmUp()
    assert [way.opened(narrowed, at(share)).allowed[1] for share in (0.0, 0.6, 1.0)] == [(1,)] * 3
    assert [way.opened(narrowed, at(share)).allowed[3] for share in (0.49, 0.5, 1.0)] == [(4,), (0, 4), (0, 4)]


def test_ways_are_told_the_moment_also_after_a_stop(digits, tmp_path):
    """Training that was killed in its third epoch goes on with the widths of the third epoch."""
    few = {"widths": WIDTHS, "layout": Layout(8, 1, (Stage(16, 1, 1), Stage(32, 2, 2)), 32)}
    supernet = shuffle(digits.image_shape, 10, **few)

    class Watched(WarmUp):
        def __init__(self, stop_at=None):
            super().__init__()
            self.stop_at, self.told, self.narrowest = stop_at, [], {}

        def opened(self, space, moment):
            if moment.epoch == self.stop_at:
                raise KeyboardInterrupt
            self.told.append((moment.epoch, moment.step))
            return super().opened(space, moment)

        def paths(self, space, rng):
            paths = super().paths(space, rng)
            epoch = self.told[-1][0]
            self.narrowest[epoch] = min(self.narrowest.get(epoch, 7), int(paths[:, 1::2].min()))
            return paths

    images, settings = digits.train.head(200), {"epochs": 4, "batch_size": 50, "checkpoint": tmp_path / "s.pt", "identity": "x"}
    first, second = Watched(stop_at=2), Watched()
    with pytest.raises(KeyboardInterrupt):
        train(supernet, first, images, **settings)
    train(supernet, second, images, **settings)
    undisturbed = shuffle(digits.image_shape, 10, **few)
    train(undisturbed, WarmUp(), images, **{**settings, "checkpoint": None})
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(value, supernet.state_dict()[name]), name
    assert first.told == [(step // 4, step) for step in range(8)]
    assert second.told == [(step // 4, step) for step in range(8, 16)]
    assert first.narrowest == {0: 7, 1: 7}
    assert second.narrowest[2] == 6
    assert second.narrowest[3] < 6


def test_bins_are_drawn_equally_often(rng):
    """Plain paths crowd in the middle of what they cost; paths from bins do not."""
    supernet = shuffle()
    cost = macs(supernet.space, supernet.parts())
    lower, upper = usual_range(supernet.space, cost)
    assert lower == pytest.approx(290e6, abs=2e6)  # the range of the released code
    assert upper == pytest.approx(360e6, abs=4e6)
    way = BinnedPaths(cost, lower, upper)
    drawn = np.concatenate([way.paths(supernet.space, rng) for _ in range(700)])
    shares = np.histogram(cost(drawn), way.edges)[0] / 700
    plain = np.histogram(cost(supernet.space.sample(700, rng)), way.edges)[0] / 700
    assert np.abs(shares - 1 / 7).max() < 0.06  # four standard deviations
    assert plain.min() < 0.02


def test_where_no_path_is_in_the_bin_the_nearest_is_taken(rng):
    space = SearchSpace((Choice("a", ("x", "y", "z")),))
    way = BinnedPaths(TableCost(np.array([[1.0, 2.0, 9.0]])), 3.0, 4.0, bins=1)
    assert all(way.paths(space, rng).tolist() == [[1]] for _ in range(5))


def test_bins_need_a_range():
    with pytest.raises(UsageError, match="expected the first to be the smaller"):
        BinnedPaths(TableCost(np.ones((1, 2))), 2.0, 2.0)


def test_the_learning_rate_of_the_paper():
    """From 0.5 in a straight line to 0, without warm-up."""
    rates = [0.5 * schedule(step / 10, 4, 0.0, linear) for step in range(41)]
    np.testing.assert_allclose(rates, 0.5 * (1 - np.arange(41) / 40))
