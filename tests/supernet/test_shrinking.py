"""Angles against the joined vectors of the paper, options by their means, and spaces that shrink while a supernet is trained."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from evonas import Budget, Choice, SearchSpace, UsageError
from evonas.fusion import FusedFitness
from evonas.space import Architecture
from evonas.testing import TableCost
from supernet import FairPaths, LearnedMixtures, Rotation, Shrinking, UniformPaths, darts, mbconv, nasbench201, train, two_node
from supernet import testing as t
from supernet.cell import CellBlock
from supernet.shrinking.operators import mean_of_ranks, pool_of, scores_of_options, without_the_worst
from supernet.shrinking.rotation import weights_now
from supernet.training.way import Way

SPACE = SearchSpace(tuple(Choice(f"c{i}", tuple("abcd")) for i in range(5)))


def filters(module):
    """The weights of convolutions and classifiers, one vector."""
    found = [each.weight.detach().double().flatten() for each in module.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def joined(supernet, row: Architecture, fixed: bool) -> torch.Tensor:
    """The paper's vector: fixed parts and blocks once, and in cells the operators of every way, one way after another."""
    if not any(isinstance(block, CellBlock) for block in supernet.chain):
        named = {block.name for block in supernet.chain if block.reads or fixed}
        kept = [filters(module) for name, module in supernet.subnet(row).named_children() if name in named]
        return torch.cat(kept)
    pieces: list[torch.Tensor] = []
    for block, columns in zip(supernet.chain, supernet.columns, strict=True):
        options = [row[column] for column in columns]
        if not isinstance(block, CellBlock):
            pieces += [filters(block.active(*options))] if fixed else []
            continue
        pieces += [filters(adapter) for adapter in block.adapters] if fixed else []
        chosen = {edge: own[option] for edge, own, option in zip(block.edges, block.options, options, strict=True)}
        for way in ways(block, chosen):
            for edge in way:
                pieces.append(filters(chosen[edge]))
                for pool in (each for each in chosen[edge].modules() if isinstance(each, nn.AvgPool2d | nn.MaxPool2d)):
                    pieces.append(torch.full((channels_of(block) * pool.kernel_size**2,), pool.kernel_size**-2.0, dtype=torch.float64))
    return torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.float64)


def ways(block, chosen):
    """Every way from a node that a cell reads to one that it hands on, over edges that are not cut."""
    outputs, found = set(block.outputs or (block.nodes - 1,)), []

    def follow(node, taken):
        if node in outputs:
            found.append(taken)
        for edge in block.edges:
            if edge[0] == node and chosen[edge] is not None:
                follow(edge[1], [*taken, edge])

    for first in range(block.read):
        follow(first, [])
    return found


def channels_of(block):
    """Of its operators, from any convolution that keeps them."""
    return next(each.in_channels for options in block.options for own in options if own is not None for each in own.modules()
                if isinstance(each, nn.Conv2d) and each.groups == 1)  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        lambda: mbconv((1, 8, 8), 4, layout="digits"),
        t.small_supernet,
        lambda: nasbench201((1, 8, 8), 4, widths=(4, 8), cells=2),
        lambda: darts((1, 8, 8), 4, channels=4, cells=3, nodes=3),
    ],
    ids=["mbconv", "shuffle", "nasbench201", "darts"],
)
@pytest.mark.parametrize("fixed", [False, True])
def test_angles_are_those_of_the_joined_vectors(make, fixed):
    """A hundred architectures, after weights have moved; their lengths and their numbers of entries as well."""
    supernet = make()
    anchor = weights_now(supernet)
    rows = supernet.space.sample(100, np.random.default_rng(0))
    before = [joined(supernet, row, fixed) for row in rows]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in supernet.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += torch.rand((), generator=generator) * parameter.std(correction=0) * noise
    after = [joined(supernet, row, fixed) for row in rows]
    found = Rotation(supernet, anchor, fixed=fixed)
    norms = [(float(then @ now), float(then.norm() * now.norm())) for then, now in zip(before, after, strict=True)]
    cosines = [dot / norm if norm else 1.0 for dot, norm in norms]
    np.testing.assert_allclose(found(rows), np.arccos(np.minimum(cosines, 1)), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(found.magnitude(rows), [float(now.norm()) for now in after], rtol=1e-9)
    np.testing.assert_array_equal(found.entries(rows), [len(now) for now in after])
    assert np.ptp(found(rows)) > 0.01


def test_weights_that_did_not_move_have_no_angle():
    supernet = two_node((1, 8, 8), 4)
    rows = supernet.space.sample(20, np.random.default_rng(0))
    np.testing.assert_allclose(Rotation(supernet, weights_now(supernet))(rows), 0, atol=1e-6)


def test_options_are_worth_what_those_that_hold_them_are():
    """By enumeration, where the pool is the whole space; and the worst go first, whatever their choice, but never the last of one."""
    rows = SPACE.enumerate()
    values = np.random.default_rng(0).normal(size=(5, 4))
    scores = values[np.arange(5), rows].sum(axis=1)
    found = scores_of_options(SPACE, rows, scores)
    for column in range(5):
        np.testing.assert_allclose(found[column], values[column] + (values.mean(axis=1).sum() - values[column].mean()))
    order = sorted(itertools.product(range(5), range(4)), key=lambda each: found[each[0]][each[1]])
    for count in (1, 4, 9):
        kept = without_the_worst(SPACE, found, count=count)
        assert sum(map(len, kept.allowed)) == 20 - count
        gone = [(c, o) for c, o in order if o not in kept.allowed[c]]
        last = order.index(gone[-1])
        assert all(len(kept.allowed[c]) == 1 for c, o in order[:last] if o in kept.allowed[c])
    assert without_the_worst(SPACE, found, count=99).count() == 1
    assert without_the_worst(SPACE, found, size=100).count() <= 100 < without_the_worst(SPACE, found, size=200).count()
    even = without_the_worst(SPACE, found, per_choice=True)
    assert [len(indices) for indices in even.allowed] == [3] * 5
    assert all(set(range(4)) - set(kept) == {int(means.argmin())} for kept, means in zip(even.allowed, found, strict=True))


def test_every_option_is_held_by_enough_that_keep_the_budget():
    """Options that few architectures of the budget hold are drawn for; those that none holds are dropped first."""
    table = np.ones((5, 4))
    table[0] = [1, 1, 1, 30]
    table[1, 3] = 12
    budget = Budget({"size": TableCost(table)}, ["size=16"])
    pool = pool_of(SPACE, budget, 50, np.random.default_rng(0))
    assert budget.feasible(pool).all()
    assert len(set(SPACE.keys(pool))) == len(pool)
    assert all((pool[:, column] == option).sum() >= 50 for column in range(5) for option in range(4) if (column, option) != (0, 3))
    found = scores_of_options(SPACE, pool, np.ones(len(pool)))
    assert found[0][3] == -np.inf
    assert 3 not in without_the_worst(SPACE, found, count=1).allowed[0]


def test_ranks_add_up():
    def one(population):
        return population[:, 0].astype(float)

    rows = np.array([[0, 3], [1, 2], [3, 0], [2, 1]])
    np.testing.assert_allclose(mean_of_ranks(one)(rows), [0, 1 / 3, 1, 2 / 3])
    np.testing.assert_allclose(mean_of_ranks(one, lambda population: -one(population))(rows), 0.5)


@pytest.mark.parametrize("score", ["angle", "angle+accuracy", "random"])
def test_a_space_shrinks_evenly_and_the_last_epoch_trains_what_is_left(score):
    supernet, sizes, records = t.small_supernet(), [], []
    whole = supernet.space.count()

    def keep(epoch, record):
        sizes.append(supernet.space.count())
        records.append((epoch, record))

    train(
        supernet,
        Shrinking(score=score, stop_size=4, every=1, pool=20),
        t.training_images(96),
        epochs=6,
        batch_size=32,
        lr=0.05,
        on_record=keep,
    )
    assert supernet.space.count() <= 4 < whole
    assert [epoch for epoch, _ in records] == [2, 3, 4]  # half of six epochs, then every one but the last
    assert whole > sizes[0] > sizes[1] > sizes[2] == supernet.space.count()
    gone = sum(len(options) for _, record in records for options in record.attributes["shrunk"]["dropped"].values())
    assert gone == sum(len(choice.options) for choice in supernet.space.choices) - sum(map(len, supernet.space.allowed))


@pytest.mark.parametrize(
    ("make", "inner"),
    [
        (t.small_supernet, lambda space: FairPaths()),
        (lambda: nasbench201((1, 8, 8), 4, widths=(4,), cells=1), lambda space: LearnedMixtures(space)),
    ],
)
def test_any_way_is_shrunk_around(make, inner):
    """One option a choice and round, so that all choices keep equally many; what the inner way learns goes on."""
    supernet = make()
    before = [len(indices) for indices in supernet.space.allowed]
    way = Shrinking(inner(supernet.space), per_choice=True, every=1, stop_size=1, first=0.5, pool=10)
    train(supernet, way, t.training_images(96), epochs=4, batch_size=16, lr=0.02)
    assert [max(1, count - 2) for count in before] == [len(indices) for indices in supernet.space.allowed]


def test_angles_are_measured_again_from_where_many_options_were_dropped():
    supernet, anchors = t.small_supernet(), []

    class Watched(UniformPaths):
        def end_of_epoch(self, network, held_out, moment):
            anchors.append(way._anchor)

    way = Shrinking(Watched(), stop_size=2, every=1, pool=10, anchor_again_after=3)
    train(supernet, way, t.training_images(96), epochs=8, batch_size=32, lr=0.05)
    kinds = [id(anchor) for anchor in anchors]
    assert len(set(kinds)) == 2


def test_what_makes_no_sense_is_refused():
    for settings, message in (({"score": "luck"}, "Unknown score"), ({"first": 1.0}, "share of the epochs"), ({"drop": 0}, "at least 1")):
        with pytest.raises(UsageError, match=message):
            Shrinking(**settings)
    assert isinstance(Shrinking().inner, Way)


def test_the_angle_is_a_cheap_score_that_a_likelihood_is_fused_with():
    """Two networks of one likelihood are ranked by their angles; at equal angles by likelihood."""
    supernet = mbconv((1, 8, 8), 4, depths=(1, 2, 1))
    anchor = weights_now(supernet)
    train(supernet, UniformPaths(), t.training_images(96), epochs=2, batch_size=32, lr=0.05)
    angle, rows = Rotation(supernet, anchor), supernet.space.sample(40, np.random.default_rng(0))
    likelihood = np.repeat(np.linspace(-2, -1, 20), 2)
    fused = FusedFitness(lambda population: (likelihood, likelihood), [angle], rows, likelihood)(rows).scores
    angles = angle(rows)
    assert len(set(angles.tolist())) > 20
    for i in range(0, 40, 2):
        assert (fused[i] < fused[i + 1]) == (angles[i] < angles[i + 1])
    alone = FusedFitness(lambda population: (likelihood, likelihood), [], rows, likelihood)(rows).scores
    assert np.corrcoef(fused - alone, angles)[0, 1] > 0.9


@pytest.mark.parametrize("per_choice", [False, True])
def test_one_round_drops_all_unless_told_otherwise(per_choice):
    """After half of the epochs; the rest trains what is left."""
    supernet, sizes = mbconv((1, 8, 8), 4, depths=(1, 2, 1)), []
    way = Shrinking(stop_size=20, per_choice=per_choice, pool=20)
    ended, before = way.end_of_epoch, supernet.space.count()

    def watched(network, held_out, moment):
        space = ended(network, held_out, moment)
        sizes.append((space or network.space).count())
        return space

    vars(way)["end_of_epoch"] = watched
    train(supernet, way, t.training_images(96), epochs=6, batch_size=32, lr=0.05)
    assert sizes[:2] == [before] * 2
    assert len(set(sizes[2:])) == 1
    assert sizes[-1] <= 20
    if per_choice:
        assert len({len(indices) for indices in supernet.space.allowed}) <= 2  # choices that had more options have as many more
