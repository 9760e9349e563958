"""Degrees of sharing: who shares weights with whom, seen by training one network."""

import copy

import numpy as np
import pytest
import torch

from evonas import UsageError
from supernet import OrderedPaths, macro, split, train, two_node
from supernet.diagnosis.sharing import own_group, random_groups, similar_groups

NETWORKS = 64


@pytest.fixture(scope="module")
def base():
    return two_node((1, 8, 8), 10, channels=4, cells=2)


def moved(supernet, part, trained):
    """Which networks' outputs change when one is trained for two steps."""
    images = next(part.batches(8, torch.device("cpu")))[0]
    population = supernet.space.enumerate()
    supernet.eval()
    before = [supernet(images, row) for row in population]
    train(supernet, OrderedPaths(population[[trained]]), part.head(16), epochs=2, batch_size=16)
    after = [supernet(images, row) for row in population]
    return np.array([not torch.allclose(b, a, atol=1e-6) for b, a in zip(before, after, strict=True)])


def test_groups_are_of_equal_size_and_similar_ones_are_slices(base):
    population = base.space.enumerate()
    for number in (1, 2, 4, 8, 64):
        for groups in (random_groups(base.space, number, 0), similar_groups(base.space, number)):
            assert np.bincount(groups(population)).tolist() == [NETWORKS // number] * number
    assert similar_groups(base.space, 4)(population).tolist() == sorted(similar_groups(base.space, 4)(population))
    assert (similar_groups(base.space, 4)(population) == population[:, 0]).all()  # the first choice has four options
    assert (random_groups(base.space, 4, 0)(population) != random_groups(base.space, 4, 1)(population)).any()


def test_only_the_group_of_a_trained_network_moves(base, digits):
    """Its stem is in the group as well, so that nothing is shared beyond."""
    groups = random_groups(base.space, 8, 3)
    population = base.space.enumerate()
    changed = moved(split(base, groups, 8), digits.train, 10)
    assert changed[10]
    assert (changed <= (groups(population) == groups(population)[10])).all()
    assert changed.sum() > 1


def test_networks_on_their_own_share_nothing(base, digits):
    changed = moved(split(base, own_group(base.space), NETWORKS), digits.train, 5)
    assert changed.nonzero()[0].tolist() == [5]


def test_a_shared_prefix_moves_all(base, digits):
    changed = moved(split(base, own_group(base.space), NETWORKS, first=1), digits.train, 5)
    assert changed.all()


def test_copies_begin_with_weights_of_their_own(base):
    supernet = split(base, similar_groups(base.space, 2), 2)
    first, second = (dict(block.named_parameters()) for block in supernet.blocks[1].copies)
    assert first.keys() == second.keys()
    assert any(not torch.equal(first[name], second[name]) for name in first)
    copy.deepcopy(supernet)  # as recipes do


def test_large_spaces_are_split_as_well(rng):
    space = macro().space
    groups = similar_groups(space, 3)(space.sample(500, rng))
    assert set(groups.tolist()) == {0, 1, 2}


def test_impossible_numbers_of_groups(base):
    for number in (0, 65):
        with pytest.raises(UsageError, match="expected 1 to 64"):
            similar_groups(base.space, number)
