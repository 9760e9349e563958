"""Ensembles: what is shared costs once, members in any order are one network, the trunk learns at the pace of a single one."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from evonas import UsageError
from predictors import costs
from supernet import ensemble, train
from supernet import testing as t
from supernet.ensemble_block import Together
from supernet.training.ensemble import EnsembleAlone, EnsemblePaths, members_of, sum_of_losses

LAYERS = 5


def small(**settings):
    return ensemble((1, 8, 8), 4, **{"layout": "digits", "widths": (8, 12, 16), "depths": (1, 2, 2), "kernels": (3, 5), **settings})


def row_of(supernet, shared, *paths):
    """An architecture from the number of shared layers and the operators of every member."""
    return supernet.space.canonical(np.array([[shared, *(option for path in paths for option in path)]]))[0]


def test_what_is_shared_costs_once():
    """A split later by a layer saves what that layer costs a member; with all apart an ensemble costs two networks but for the stem."""
    supernet = small()
    macs = costs.macs(supernet.space, supernet.parts())
    path = [0, 1, 2, 3, 0]
    found = [float(macs(row_of(supernet, shared, path, path)[None])[0]) for shared in range(LAYERS + 1)]
    counted = [costs.count_macs(supernet.subnet(row_of(supernet, shared, path, path)), (1, 8, 8)) for shared in range(LAYERS + 1)]
    assert found == counted
    network = supernet.subnet(row_of(supernet, 0, path, path))
    stem = costs.count_macs(network[0].module, (1, 8, 8))
    layers = [costs.count_macs(block.members[0], shape) for block, shape in zip(list(network)[1:-1], shapes(supernet)[:-1], strict=True)]
    assert np.diff(found[::-1]).tolist() == layers[::-1]
    head = costs.count_macs(network[-1].heads[0], shapes(supernet)[-1])
    assert found[0] == stem + 2 * (sum(layers) + head)


def shapes(supernet):
    """What arrives at every layer, and at the heads."""
    arriving, found = (1, 8, 8), []
    for block, columns in zip(supernet.chain, supernet.columns, strict=True):
        found.append(arriving)
        if block is not supernet.chain[-1]:
            arriving = block.hands_on(*([0] * len(columns)), input_shape=arriving)
    return [shape[0] for shape in found[1:]]


def test_members_in_any_order_are_one_architecture():
    supernet = small(members=3)
    rng = np.random.default_rng(0)
    rows = supernet.space.sample(200, rng)
    paths = rows[:, 1:].reshape(200, 3, LAYERS)
    permuted = np.concatenate([rows[:, :1], paths[:, [2, 0, 1]].reshape(200, -1)], axis=1)
    shared = np.arange(LAYERS) < rows[:, :1]
    permuted[:, 1:].reshape(200, 3, LAYERS)[:, 0][shared] = paths[:, 0][shared]
    assert np.array_equal(supernet.space.canonical(permuted), rows)
    assert np.array_equal(supernet.space.canonical(rows), rows)
    assert supernet.space.canonical(rows[:0]).shape == (0, rows.shape[1])
    for row, private in zip(rows, paths, strict=True):
        assert (private[:, : row[0]] == private[:1, : row[0]]).all()
        assert sorted(private.tolist()) == private.tolist()


def test_equal_heads_say_what_one_of_them_says():
    """With everything shared; and the mean is that of the members' logits in any case."""
    supernet = t._prepared(small())[0]
    images = t._images(supernet)
    path = [0, 1, 2, 3, 0]
    row = row_of(supernet, LAYERS, path, path)
    apart = supernet.subnet(row_of(supernet, 1, path, [3, 3, 3, 2, 2])).eval()
    with torch.no_grad():
        logits = members_of(list(apart), images)
        torch.testing.assert_close(apart(images), logits.mean(0))
        assert (logits[0] - logits[1]).abs().max() > 1e-3
        heads = supernet.chain[-1].heads
        heads[1].load_state_dict(heads[0].state_dict())
        network = supernet.subnet(row).eval()
        alone = network[-1].heads[0]
        x = images
        for module in list(network)[:-1]:
            x = module(x)
        torch.testing.assert_close(network(images), alone(x[0]))


@pytest.mark.parametrize("shared", [0, 2, LAYERS])
def test_the_trunk_gets_the_mean_of_what_members_send_back(shared):
    """Against members one by one, without any division; their own parts get all of it."""
    supernet = t._prepared(small())[0]
    images, labels = t._images(supernet), torch.arange(8) % 4
    network = supernet.subnet(row_of(supernet, shared, [0, 1, 2, 3, 0], [1, 2, 2, 1, 1])).eval()
    sum_of_losses(members_of(list(network), images), labels, 0.0).backward()
    found = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    members = []
    for member in range(2):
        network.zero_grad()
        x = network[0].module(images)
        for layer in list(network)[1:-1]:
            x = layer.module(x) if isinstance(layer, Together) else layer.members[member](x)
        cross_entropy(network[-1].heads[member](x), labels).backward()
        members.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in found.items():
        parts = [each[name] for each in members if each[name] is not None]
        own = ".members." in name or ".heads." in name
        assert len(parts) == (1 if own else 2)
        torch.testing.assert_close(gradient, sum(parts) if own else sum(parts) / 2, rtol=1e-4, atol=1e-6)


def test_members_are_trained_and_fall_in_loss():
    supernet = small()
    losses = train(supernet, EnsemblePaths(), t.training_images(192), epochs=4, batch_size=32, lr=0.05)
    assert losses[-1]["loss"] < losses[0]["loss"]
    network = supernet.network(row_of(supernet, 2, [0, 1, 2, 3, 0], [1, 2, 2, 1, 1]), seed=3)
    alone = train(network, EnsembleAlone(), t.training_images(192), epochs=6, batch_size=32, lr=0.05)
    assert alone[-1]["loss"] < 0.8 * alone[0]["loss"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: small(members=1), "at least 2"),
        (lambda: small(splits=(3, 2)), "ascending numbers of layers, 0 to 5"),
        (lambda: small(splits=(2, 9)), "0 to 5"),
        (lambda: train(t.small_supernet(), EnsemblePaths(), t.training_images(64), epochs=1, batch_size=32), "heads of an ensemble"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()


def test_only_some_splits():
    """Every block knows what an option of the split means."""
    supernet = t._prepared(small(splits=(2, 5)))[0]
    assert supernet.space.choices[0].options == ("after 2", "after 5")
    networks = [supernet.subnet(np.array([option, *[0] * 10])) for option in (0, 1)]
    kinds = [[type(module).__name__ for module in network] for network in networks]
    assert kinds[0] == ["ToMembers", "Together", "Together", "Apart", "Apart", "Apart", "Heads"]
    assert kinds[1] == ["ToMembers", *["Together"] * 5, "Heads"]
