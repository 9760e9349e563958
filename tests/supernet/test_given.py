"""Given networks as supernets: what can be chosen, against channels put to zero by hand, counted costs, and networks of torchvision."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from given_networks import Everything, Inverted, Shuffled, conv_bn, everything, prepared
from torch import nn

from evonas import Budget, UsageError
from evonas.tables import AdditiveCost, CostTable
from predictors.costs import count_macs, count_params
from predictors.devices.table import LatencyTable, read_table
from supernet import testing as t
from supernet.given import GivenSupernet, examine, importance, sizes
from supernet.given.anatomy import residual_blocks
from supernet.given.greedy import by_importance
from supernet.given.supernet import cut_of

SHAPE = (1, 8, 8)


def of_torchvision(name, **options):
    from torchvision.models import get_model

    torch.manual_seed(0)
    return prepared(get_model(name, weights=None, num_classes=5, **options))


NETWORKS = {
    "everything": (everything, SHAPE),
    "resnet18": (lambda: of_torchvision("resnet18"), (3, 32, 32)),
    "mobilenet_v3_small": (lambda: of_torchvision("mobilenet_v3_small"), (3, 32, 32)),
    "regnet_y_400mf": (lambda: of_torchvision("regnet_y_400mf"), (3, 32, 32)),
    "squeezenet1_1": (lambda: of_torchvision("squeezenet1_1"), (3, 32, 32)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def known(request):
    """A network, its supernet, and some rows."""
    make, shape = NETWORKS[request.param]
    network = make()
    supernet = GivenSupernet(network, shape)
    return network, supernet, supernet.space.canonical(supernet.space.sample(3, np.random.default_rng(0)))


def images(supernet, count=2):
    return torch.randn(count, *supernet.image_shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("check", [c for c in t.SPACE_CHECKS if c is not t.costs_equal_counted_ones], ids=lambda check: check.__name__)
def test_the_contract_of_spaces(check):
    check(lambda: GivenSupernet(everything(), SHAPE))


def test_the_largest_path_is_the_given_network(known):
    network, supernet, _ = known
    with torch.no_grad():
        assert torch.equal(supernet.eval()(images(supernet), supernet.largest), network(images(supernet)))


def test_costs_are_those_of_the_networks(known):
    network, supernet, rows = known
    macs, params = sizes.macs(supernet, count_macs(network, supernet.image_shape)), sizes.params(supernet)
    rows = np.concatenate([rows, [supernet.largest, supernet.smallest]])
    networks = [supernet.subnet(row) for row in rows]
    np.testing.assert_array_equal(macs(rows), [count_macs(each, supernet.image_shape) for each in networks])
    np.testing.assert_array_equal(params(rows), [count_params(each, supernet.image_shape) for each in networks])
    assert macs(rows[-1:])[0] < 0.4 * macs(rows[-2:-1])[0]
    for cost in (macs, params):
        cheapest, dearest = (cost(np.array([end]))[0] for end in cost.extremes(supernet.space))
        assert (cheapest, dearest) == (cost(rows[-1:])[0], cost(rows[-2:-1])[0])


def put_to_zero(network, anatomy, cut):
    """A copy of the whole network in which everything that a cut leaves out is zero, wherever it is made or read."""
    counts, masked = np.array(cut.counts), copy.deepcopy(network)
    state = {**dict(masked.named_parameters()), **dict(masked.named_buffers())}
    with torch.no_grad():
        for (name, dimension), owner in anatomy.owners.items():
            gone = np.setdiff1d(np.arange(len(owner.group)), owner.kept(counts))
            if not name.endswith(("running_mean", "running_var")):
                state[name].index_fill_(dimension, torch.from_numpy(gone), 0.0)
        for name, size in cut.kernels.items():
            weight = state[f"{name}.weight"]
            edge = (weight.shape[-1] - size) // 2
            inside = torch.zeros_like(weight)
            inside[..., edge : edge + size, edge : edge + size] = 1.0
            weight.mul_(inside)
        for block in cut.without:
            for parameter in masked.get_submodule(block).parameters():
                parameter.zero_()
    return masked


def test_a_path_is_the_whole_network_with_zeros(known):
    """What is left out has no effect; what is kept is wired as it was: independent of how paths are run."""
    network, supernet, rows = known
    x = images(supernet)
    with torch.no_grad():
        for row in [*rows, supernet.smallest]:
            expected = put_to_zero(network, supernet.anatomy, cut_of(supernet.anatomy, row))(x)
            found = supernet.eval()(x, tuple(int(i) for i in row))
            assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("by", importance.WAYS)
def test_sorting_changes_no_output_and_puts_the_most_important_first(by, known):
    network, supernet, _ = known
    sorted_, anatomy = copy.deepcopy(network), supernet.anatomy
    batches = [(images(supernet, 4), torch.arange(4))]
    more = [batches] if by == "loss" else []
    importance.sort(sorted_, anatomy, importance.WAYS[by](sorted_, anatomy, *more))
    with torch.no_grad():
        expected, found = network(images(supernet)), sorted_(images(supernet))
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    for values in importance.WAYS[by](sorted_, anatomy, *more):
        assert (np.diff(values) <= 1e-3 * values.max()).all()


def test_importance_by_loss_is_the_gradient_of_a_gate():
    """The derivative of the loss with regard to a factor on a channel, by autograd on the factor itself."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)).eval()
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    anatomy = examine(network, (1, 8, 8))
    (found,) = importance.by_loss(network, anatomy, [(x, y)])
    gate = torch.ones(16, requires_grad=True)
    made = network[0](x) * gate[None, :, None, None]
    nn.functional.cross_entropy(network[1:](made), y).backward()
    np.testing.assert_allclose(found, gate.grad.numpy() ** 2, rtol=1e-4)


def test_what_can_be_chosen_of_everything():
    anatomy = examine(everything(), SHAPE)
    assert {group.name: (group.classes, group.channels) for group in anatomy.groups} == {
        "stem.0": (24, 1),
        "block.expand.0": (48, 1),
        "block.gate.down": (16, 1),
        "left.0": (16, 1),
        "right.0": (32, 1),
        "grouped.0.0": (4, 16),
        "grouped.2.0": (32, 1),
        "head.1": (48, 1),
    }
    assert anatomy.kernels == {"block.depthwise.0": (3, 5)}
    assert anatomy.optional == ("block",)
    assert anatomy.whole == ()


def test_what_cannot_be_followed_stays_whole_and_is_told():
    network = prepared(Shuffled())
    supernet = GivenSupernet(network, SHAPE)
    assert [group.name for group in supernet.anatomy.groups] == ["inner.0", "last.0"]
    assert "a part of the channels" in supernet.anatomy.left
    assert "fixed.0.width" in supernet.anatomy.left
    with torch.no_grad():
        supernet.subnet(supernet.smallest).eval()(images(supernet))


class NoResidual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return 0.5 * x + self.inner(x)


def test_only_what_hands_its_input_on_may_be_left_out():
    body = nn.Sequential(conv_bn(1, 24), Inverted(24, 3), NoResidual(conv_bn(24, 24)), Inverted(24, 5, gate=False), nn.AdaptiveAvgPool2d(1))
    assert residual_blocks(nn.Sequential(body, nn.Flatten(), nn.Linear(24, 3)), SHAPE) == ("0.1", "0.3")


def test_equal_networks_have_one_row():
    supernet = GivenSupernet(everything(), SHAPE)
    space, rng = supernet.space, np.random.default_rng(1)
    rows = space.sample(200, rng)
    canonical = space.canonical(rows)
    np.testing.assert_array_equal(space.canonical(canonical), canonical)
    params = sizes.params(supernet)
    np.testing.assert_array_equal(params(rows), params(canonical))
    for row, other in zip(rows[:5], canonical[:5], strict=True):
        one, two = (supernet.subnet(each).state_dict() for each in (row, other))
        assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}


def test_a_greedy_walk_keeps_the_budget_and_drops_what_matters_least():
    """Two layers of equal cost, one of which does not matter: it alone is narrowed, as long as that suffices."""
    torch.manual_seed(0)
    network = nn.Sequential(conv_bn(1, 32), conv_bn(32, 32), conv_bn(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
    supernet = GivenSupernet(prepared(network), SHAPE)
    params = sizes.params(supernet)
    largest = float(params(np.array([supernet.largest]))[0])
    values = [np.ones(32), np.full(32, 1e-6), np.ones(32)]
    rows = by_importance(supernet, values, Budget({"params": params}, [f"params={round(0.8 * largest)}"]))
    assert len(rows) >= 1
    assert (params(rows) <= 0.8 * largest).all()
    assert (rows[:, [0, 2]] == 6).all()
    assert (rows[:, 1] < 6).all()


def test_costs_that_grow_with_every_choice_have_their_ends_at_the_corners():
    """Where tables share so many choices that dynamic programming gives up; compared with all networks of a small one."""
    supernet = GivenSupernet(everything(), SHAPE)
    space = supernet.space.narrow({c.name: [c.options[0], c.options[-1]] for c in supernet.space.choices})
    params = sizes.params(supernet)
    everyone = np.stack(np.meshgrid(*space.allowed, indexing="ij"), axis=-1).reshape(-1, len(space))
    costs = params(everyone)
    ends = params(np.array(params.extremes(space)))
    assert (ends[0], ends[1]) == (costs.min(), costs.max())
    small = AdditiveCost("", 0.0, (CostTable((0, 1), np.array([[1.0, 5.0], [2.0, 0.5]])),))
    pair = replace(space, choices=space.choices[:2], allowed=((0, 1), (0, 1)), canonicalise=None)
    assert small.extremes(pair) == ((1, 1), (0, 1))


def test_layers_that_are_measured_add_up():
    """With a measure that is known exactly: a + b in + c out + d in out of every layer."""
    supernet = GivenSupernet(everything(), SHAPE)

    def beyond(layer):
        leaving, arriving = layer.weight.shape[:2]  # of a group, where there are some
        return 1.0 + 0.5 * arriving + 0.25 * leaving + 0.01 * layer.weight.numel()

    def milliseconds(layer, shape):  # 3 ms go to any run, of however little
        return 3.0 + (0.0 if layer.weight.numel() == 1 else beyond(layer))

    cost = sizes.measured(supernet, milliseconds)
    for row in [supernet.largest, *supernet.space.canonical(supernet.space.sample(4, np.random.default_rng(2)))]:
        expected = 3.0
        for name, (arriving, leaving) in sizes.widths(supernet, np.array(row)).items():
            layer = supernet.subnet(row)[0].get_submodule(name) if arriving else None
            if layer is not None:
                expected += beyond(layer)
                assert layer.weight.shape[0] == leaving
        assert cost(np.array([row]))[0] == pytest.approx(expected, rel=1e-6)


def test_a_latency_of_layers_and_weights_is_read_back(tmp_path):
    supernet = GivenSupernet(everything(), SHAPE)
    one, other = sizes.measured(supernet, lambda layer, shape: layer.weight.numel() / 1e3), sizes.params(supernet)
    table = LatencyTable("board", sizes.plus(one, other, 1e-4), 1.5, 0.1)
    table.save(tmp_path / "t.json", supernet.space)
    rows = supernet.space.sample(50, np.random.default_rng(4))
    np.testing.assert_allclose(table(rows), 0.1 + 1.5 * (one(rows) + 1e-4 * other(rows)))
    np.testing.assert_allclose(read_table(tmp_path / "t.json", supernet.space)(rows), table(rows))


def test_a_network_that_cannot_be_given():
    with pytest.raises(UsageError, match="does not take an image of the shape") as error:
        GivenSupernet(Everything(), (3, 8, 8))
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="Nothing of the network can be chosen"):
        GivenSupernet(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), SHAPE)
    with pytest.raises(UsageError, match="expected logits"):
        GivenSupernet(nn.Sequential(nn.Conv2d(1, 32, 3)), SHAPE)
