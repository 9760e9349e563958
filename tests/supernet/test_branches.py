"""Layers of several branches: sets as choices, the mean of what operators make, gates and the pair that teaches them."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from evonas import UsageError
from predictors import costs
from supernet import branches, train
from supernet import testing as t
from supernet.branch_chain import BranchBlock, Branches
from supernet.branch_operators import FIRST, SECOND
from supernet.training.gates import LEAST, MOST, GatedBranches, costs_of_operators

OPERATORS = ("mb1_k3", "mb3_k5", "mb3_k3_d2", "row2_k5")


def small(**settings):
    return branches((1, 8, 8), 4, **{"layout": "digits", "widths": (8, 12, 16), "depths": (2, 1, 1), "operators": OPERATORS, **settings})


@pytest.mark.parametrize("most", [1, 2, 3])
def test_sets_and_choices_say_the_same(most):
    """All sets of at most so many of four operators, both ways; any order and repetition is one architecture."""
    laid_out = Branches(1, most, 4)
    sets = [set(chosen) for size in range(most + 1) for chosen in itertools.combinations(range(4), size)]
    masks = np.array([[[operator in chosen for operator in range(4)]] for chosen in sets])
    rows = laid_out.population(masks)
    assert np.array_equal(laid_out.sets(rows), masks)
    assert np.array_equal(laid_out.canonical(rows), rows)
    everything = np.array(list(itertools.product(range(5), repeat=most)))
    canonical = laid_out.canonical(everything)
    assert {tuple(row) for row in canonical.tolist()} == {tuple(row) for row in rows.tolist()}
    for row, one in zip(everything.tolist(), canonical.tolist(), strict=True):
        assert sorted(set(row) - {4}) == [option for option in one if option < 4]


def test_a_layer_is_the_mean_of_its_branches():
    """And of what comes in where the shape stays; empty it is gone, which a layer that changes the shape never is."""
    supernet = t._prepared(small())[0].eval()
    same, wider = supernet.chain[2], supernet.chain[3]
    x = torch.randn(3, 8, 8, 8)
    with torch.no_grad():
        made = [operator(x) for operator in same.operators.values()]
        torch.testing.assert_close(same(x, 1, 3), (x + made[1] + made[3]) / 3)
        torch.testing.assert_close(same(x, 3, 1), same(x, 1, 3))
        torch.testing.assert_close(same(x, 2, 4), (x + made[2]) / 2)
        torch.testing.assert_close(same(x, 2, 2), (x + made[2]) / 2)
        assert same(x, 4, 4) is x
        made = [operator(x) for operator in wider.operators.values()]
        torch.testing.assert_close(wider(x, 0, 1), (made[0] + made[1]) / 2)
    sampled = supernet.laid_out.sets(supernet.space.sample(500, np.random.default_rng(0)))
    assert sampled.sum(axis=2).min(axis=0).tolist() == [1, 0, 1, 1]
    assert sampled.sum(axis=2).max() == 2


@pytest.mark.parametrize("name", SECOND)
def test_operators_keep_what_they_are_named_for(name):
    """Filters, dilations, groups and expansions by inspection; shapes with and without a stride."""
    operator = SECOND[name](8, 12, 2)
    assert operator(torch.randn(2, 8, 8, 8)).shape == (2, 12, 4, 4)
    assert SECOND[name](8, 8, 1)(torch.randn(2, 8, 8, 8)).shape == (2, 8, 8, 8)
    convolutions = [layer for layer in operator.modules() if isinstance(layer, torch.nn.Conv2d)]
    kernel, kind, expansion = int(name.split("_k")[1][0]), name[: -len(name.lstrip("mbrow"))], int(name.lstrip("mbrow")[0])
    if kind == "row":
        assert [c.kernel_size for c in convolutions] == [(1, 1), (1, kernel), (kernel, 1), (1, 1)]
        assert convolutions[1].in_channels == 3 * expansion
    else:
        first, filtered, last = convolutions
        assert filtered.kernel_size == (kernel, kernel)
        assert filtered.groups == filtered.in_channels == 8 * expansion
        assert filtered.dilation == ((2, 2) if "_d2" in name else (1, 1))
        groups = name.split("_g")[1] if "_g" in name else ""
        assert (first.groups, last.groups) == (2 if "1" in groups else 1, 2 if "2" in groups else 1)
    assert len(FIRST) == 18
    assert len(SECOND) == 45


def test_gates_are_drawn_as_their_probabilities_say():
    """Every set as often as the product of its gates, among the legal ones: by enumeration."""
    supernet = small(most=2)
    way = GatedBranches(supernet)
    with torch.no_grad():
        way.gates.indicators.copy_(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    p = way.gates.probabilities().detach().double().numpy()
    np.testing.assert_allclose(p, MOST / (1 + np.exp(-way.gates.indicators.detach().double().numpy())) + LEAST, rtol=1e-6)
    drawn = way.gates.draw(supernet.space, 20000, np.random.default_rng(0))
    for layer, may_be_empty in enumerate([False, True, False, False]):
        legal = [c for size in range(0 if may_be_empty else 1, 3) for c in itertools.combinations(range(4), size)]
        weights = np.array([np.prod([p[layer, o] if o in chosen else 1 - p[layer, o] for o in range(4)]) for chosen in legal])
        seen = np.array([(drawn[:, layer] == [o in chosen for o in range(4)]).all(axis=1).mean() for chosen in legal])
        assert seen.sum() == pytest.approx(1)
        np.testing.assert_allclose(seen, weights / weights.sum(), atol=0.015)
    uniform = way.gates.draw(supernet.space, 20000, np.random.default_rng(1), 0.5)[:, 1]
    assert uniform.mean(axis=0) == pytest.approx([4 / 11] * 4, abs=0.02)  # of eleven sets, one empty, an operator is in four


def test_pairs_of_many_operators_are_as_frequent_as_they_are_many():
    """Of 18 operators, two at most: 153 pairs, 18 single ones, and the empty set where it is legal."""
    supernet = small(operators=None)
    drawn = GatedBranches(supernet).gates.draw(supernet.space, 5000, np.random.default_rng(0), 0.5)
    sizes = drawn.sum(axis=2)
    for layer, sets in enumerate([171, 172, 171, 171]):
        assert (sizes[:, layer] == 2).mean() == pytest.approx(153 / sets, abs=0.015)
        assert (sizes[:, layer] == 0).mean() == pytest.approx((sets - 171) / 172, abs=0.005)
        np.testing.assert_allclose(drawn[:, layer].mean(axis=0), (2 * 153 + 18) / 18 / sets, atol=0.02)


def test_no_illegal_set_is_drawn_however_unlikely_legal_ones_are():
    supernet = small(most=1)
    way = GatedBranches(supernet)
    with torch.no_grad():
        way.gates.indicators.fill_(-20)
        way.gates.indicators[0, 2] = -15
    sets = way.gates.draw(supernet.space, 200, np.random.default_rng(0))
    assert sets[:, [0, 2, 3]].sum(axis=2).tolist() == [[1, 1, 1]] * 200
    with torch.no_grad():
        way.gates.indicators.fill_(20)
    assert way.gates.draw(supernet.space, 200, np.random.default_rng(0)).sum(axis=2).max() == 1


def test_costs_add_up_over_operators():
    """Of any table, with a slope and an intercept as latency has them; one branch and several."""
    for most in (1, 2, 3):
        supernet = small(most=most)
        macs = costs.macs(supernet.space, supernet.parts())
        sampled = supernet.space.sample(50, np.random.default_rng(0))
        for cost in (macs, lambda rows, macs=macs: 0.3 + 1e-6 * macs(rows)):
            constant, added = costs_of_operators(cost, supernet)
            np.testing.assert_allclose(constant + (supernet.laid_out.sets(sampled) * added).sum(axis=(1, 2)), cost(sampled))
    with pytest.raises(UsageError, match="does not add up"):
        costs_of_operators(lambda rows: macs(rows) ** 2, small(most=3))


def test_the_pair_computes_the_first_and_teaches_by_both():
    """The forward value is that of the first sets; the gradient is that of the expected loss to first order, by finite differences of q."""
    supernet = t._prepared(small())[0].eval()
    macs = costs.macs(supernet.space, supernet.parts())
    way = GatedBranches(supernet, {"macs": (macs, 1e5)}, weight=2.0)
    with torch.no_grad():
        way.gates.indicators.copy_(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    images, labels = t._images(supernet), torch.arange(8) % 4
    first, second = way._two(supernet.space, np.random.default_rng(3))
    assert (first != second).any(axis=1).all()
    logits, expected = way.pair(supernet, images, np.random.default_rng(3))
    with torch.no_grad():
        torch.testing.assert_close(logits, supernet(images, supernet.laid_out.population(first[None])[0]), rtol=0, atol=0)
    allowed = np.ones((4, 4), dtype=bool)
    likelihood = [way.gates.log_likelihood(sets, allowed) for sets in (first, second)]
    q = torch.stack(likelihood).exp() / torch.stack(likelihood).exp().sum(0)
    sets_cost = [costs_of_operators(macs, supernet)[1] * sets for sets in (first, second)]
    by_hand = costs_of_operators(macs, supernet)[0] + sum((q[i].detach().numpy() * sets_cost[i].sum(axis=1)).sum() for i in range(2))
    assert float(expected["macs"].detach()) == pytest.approx(by_hand, rel=1e-5)
    assert float(way.distances(expected)[0].detach()) == pytest.approx(2 * (by_hand / 1e5 - 1) ** 2, rel=1e-4)
    found = torch.autograd.grad(cross_entropy(logits, labels), way.gates.indicators)[0]

    def through(shares):  # the mixture of both sets, by a share of the first in every layer
        value, layer = images, 0
        for block in supernet.chain:
            if isinstance(block, BranchBlock):
                one, other = (block.of(np.flatnonzero(sets[layer]).tolist())(value) for sets in (first, second))
                value, layer = shares[layer] * one + (1 - shares[layer]) * other, layer + 1
            else:
                value = block(value)
        return cross_entropy(value, labels)

    ones = torch.ones(4, requires_grad=True)  # at the first sets, where the estimate is taken
    slope = torch.autograd.grad(through(ones), ones)[0]
    of_gates = torch.autograd.grad((q[0] * slope).sum(), way.gates.indicators)[0]
    torch.testing.assert_close(found, of_gates, rtol=1e-3, atol=1e-7)


def test_gates_reach_a_target_and_drift_without_one():
    """Median MACs of networks drawn from the gates after a short training; without the term they are elsewhere."""
    images, far = t.training_images(192), []
    for weight in (10.0, 0.0):
        supernet = small(depths=(1, 2, 1))
        macs = costs.macs(supernet.space, supernet.parts())
        target = 0.6 * float(np.median(macs(supernet.space.sample(1000, np.random.default_rng(0)))))
        way = GatedBranches(supernet, {"macs": (macs, target)}, weight=weight, lr=0.2)
        train(supernet, way, images, epochs=10, batch_size=16, lr=0.05)
        drawn = way.gates.population(supernet.space, 500, np.random.default_rng(0))
        far.append(abs(float(np.median(macs(drawn))) / target - 1))
    assert far[0] < 0.1 < far[1]


def test_closed_gates_are_dropped_but_not_what_is_kept():
    supernet = small()
    kept = np.zeros((4, 4), dtype=bool)
    kept[1, 0] = True
    way = GatedBranches(supernet, kept=kept, every=10**6)
    with torch.no_grad():
        way.gates.indicators.copy_(torch.tensor([[-9.0, -8, -7, -6], [-9, -8, -7, 0], [0, 0, 0, 0], [0, -1.9, -2.1, 0]]))
    train(supernet, way, t.training_images(64), epochs=1, batch_size=32)
    left = supernet.laid_out.allowed(supernet.space).tolist()
    assert left == [
        [False, False, True, True],  # a layer that cannot be left out keeps two
        [True, False, False, True],
        [True, True, True, True],
        [True, True, False, True],
    ]


def test_a_training_that_stops_goes_on_to_the_bit(tmp_path):
    """Gates, their optimiser and the narrowed space are in the checkpoint."""
    images, settings = t.training_images(96), {"epochs": 3, "batch_size": 32, "lr": 0.05}

    class Stop(Exception):
        pass

    def started():
        supernet = small()
        return supernet, GatedBranches(supernet, lr=3.0, threshold=-1.0)

    whole, way = started()
    train(whole, way, images, **settings)
    again, second = started()

    def stop(step):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        train(again, second, images, checkpoint=tmp_path / "c.pt", on_step=stop, **settings)
    again, second = started()
    train(again, second, images, checkpoint=tmp_path / "c.pt", **settings)
    assert torch.equal(second.gates.indicators, way.gates.indicators)
    assert again.space.allowed == whole.space.allowed != small().space.allowed
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: small(pool="third"), "Unknown pool"),
        (lambda: small(operators=("mb3_k3", "mb3_k33")), "Unknown operator"),
        (lambda: small(operators=("mb3_k3",)), "at least two different ones"),
        (lambda: small(most=0), "a branch"),
        (lambda: GatedBranches(small(), every=0), "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()
