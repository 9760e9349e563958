"""The ShuffleNetV2 space: published costs, widths that share weights against networks of their own."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from evonas import UsageError
from predictors import costs
from supernet import StandAlone, UniformPaths, shuffle, split, train
from supernet.blocks import Mixture
from supernet.diagnosis.sharing import random_groups
from supernet.slicing import SlicedConv, WideConv
from supernet.spaces import WIDTHS
from supernet.spaces.layout import Layout, Stage, preset_for
from supernet.spaces.shuffle import PRESETS, SIZES
from supernet.training import loop
from supernet.training.path_sgd import PathSGD

RELEASED = (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3)
PAPER = (0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2)
PAPER_WIDTHS = (6, 5, 3, 5, 2, 6, 3, 4, 2, 5, 7, 5, 4, 6, 7, 4, 4, 5, 4, 3)


@pytest.fixture(scope="module")
def supernet():
    """Three channels, so that neither the stem nor anything else is square by chance."""
    return shuffle((3, 16, 16), 7, widths=WIDTHS, dropout=0.0, seed=3)


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def macs():
    """MACs of the paper's space, from (operators, widths)."""
    large = shuffle(widths=WIDTHS)
    cost = costs.macs(large.space, large.parts())
    return lambda operators, widths: int(cost(np.stack([operators, widths], axis=1).reshape(1, -1))[0])


@pytest.mark.parametrize(
    ("operators", "widths", "published"),
    [
        ((0,) * 20, (4,) * 20, 295_842_496),
        ((1,) * 20, (4,) * 20, 313_654_976),
        ((2,) * 20, (4,) * 20, 340_373_696),
        ((3,) * 20, (4,) * 20, 358_825_920),
        (RELEASED, (4,) * 20, 322_918_720),
        (PAPER, PAPER_WIDTHS, 327_857_920),
    ],
)
def test_macs_to_the_unit(macs, operators, widths, published):
    assert macs(operators, widths) == published


def test_blocks_alone_are_the_space_of_width_one(macs):
    """Without other widths there is nothing to choose, and the networks are those of width 1.0."""
    alone = shuffle()
    assert len(alone.space) == 20
    assert alone.space.count() == 4**20
    cost = costs.macs(alone.space, alone.parts())
    assert cost(np.array([RELEASED]))[0] == macs(RELEASED, (4,) * 20)


def test_a_copy_is_plain(supernet, rng):
    """It has ordinary convolutions, and batch norm with a scale."""
    for row in supernet.space.sample(60, rng):
        subnet = supernet.subnet(row)
        assert not any(isinstance(layer, SlicedConv | WideConv) for layer in subnet.modules())
        assert all(layer.affine for layer in subnet.modules() if isinstance(layer, nn.BatchNorm2d))


def test_a_copy_holds_the_leading_channels(supernet):
    """Against the slices written out by hand, for a 1x1, a depthwise and an inner 1x1 convolution of the Xception unit."""
    block, width = supernet.blocks[2], 3  # 32 channels in, stride 1, inner width int(16 * 0.8) = 12
    weights = block.shared["xception"]["weights"]
    first = block.extract(3, width, input_shape=(1, 8, 8)).main
    assert torch.equal(first[2].weight, weights[1].weight[:12, :16])
    assert torch.equal(first[5].weight, weights[2].weight[:12])
    assert torch.equal(first[7].weight, weights[3].weight[:12, :12])
    with torch.no_grad():
        first[7].weight.add_(1)
    assert not torch.equal(first[7].weight, weights[3].weight[:12, :12])


def test_gradients_outside_the_slice_are_exactly_zero(supernet, images, rng):
    for row in supernet.space.sample(10, rng):
        supernet.zero_grad(set_to_none=True)
        supernet.train()
        cross_entropy(supernet(images, row), torch.tensor([0, 1, 2, 3])).backward()
        partly = 0
        for module in supernet.active(row):
            for part in module.modules():
                if not isinstance(part, SlicedConv):
                    continue
                gradient = part.whole.weight.grad
                rows, columns = part.out_channels, 1 if part.whole.depthwise else part.in_channels
                outside = torch.ones_like(gradient, dtype=torch.bool)
                outside[:rows, :columns] = False
                assert not gradient[outside].any()
                assert gradient[:rows, :columns].any()
                partly += bool(outside.any())
        off_path = set(supernet.parameters()) - {p for module in supernet.active(row) for p in module.parameters()}
        assert all(parameter.grad is None for parameter in off_path)
    assert partly > 5


class OnePathAtATime(UniformPaths):
    """The widest path first, so that momentum builds up everywhere, then the narrowest."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def paths(self, space, rng):
        self.steps += 1
        return np.array([[0, len(WIDTHS) - 1 if self.steps <= 4 else 0] * (len(space) // 2)])


@pytest.mark.parametrize("plain", [False, True])
def test_training_a_narrow_path_leaves_the_rest_of_the_weights_alone(digits, monkeypatch, plain):
    """Neither weight decay nor momentum reaches it; with torch's SGD both do, which shows that the test can fail."""
    supernet = shuffle(digits.image_shape, 10, widths=WIDTHS)
    weight = supernet.blocks[2].shared["shuffle_k3"]["weights"][0].weight
    narrow, seen = 3, []  # int(16 * 0.2)
    if plain:
        monkeypatch.setattr(loop, "PathSGD", lambda groups, lr, momentum, wide: torch.optim.SGD(groups, lr=lr, momentum=momentum))
    train(
        supernet,
        OnePathAtATime(),
        digits.train.head(700),
        epochs=1,
        batch_size=100,
        weight_decay=0.1,
        on_step=lambda step: seen.append(weight.detach().clone()),
    )
    assert not torch.equal(seen[2][narrow:], seen[3][narrow:])
    assert not torch.equal(seen[3][:narrow], seen[6][:narrow])
    assert torch.equal(seen[3][narrow:], seen[6][narrow:]) != plain


def test_path_sgd_trains_a_narrow_path_as_sgd_trains_its_copy(digits):
    """Five steps with momentum and weight decay: the leading part of every weight is what torch's own makes of the plain copy."""
    supernet, row = shuffle(digits.image_shape, 10, widths=("0.4", "1.0"), dropout=0.0), (3, 0, 1, 0, 2, 0, 0, 0, 3, 0)
    copied = supernet.subnet(row)
    for layer in copied.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)  # the supernet's has neither scale nor shift
    wide = [layer for layer in supernet.modules() if isinstance(layer, WideConv)]
    groups = [{"params": list(supernet.parameters()), "weight_decay": 0.01}]
    own = PathSGD(groups, 0.1, 0.9, wide)
    reference = torch.optim.SGD([p for p in copied.parameters() if p.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.01)
    supernet.train(), copied.train()
    for images, labels in digits.train.head(250).batches(50, torch.device("cpu")):
        for network, optimizer in ((lambda x: supernet(x, row), own), (copied, reference)):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(network(images), labels).backward()
            optimizer.step()
    for one, other in zip(supernet.subnet(row).parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_copy_of_a_supernet_is_whole(images):
    """Its paths hold its own weights, not those of the first one; `split` copies blocks so."""
    first = shuffle((3, 16, 16), 7, widths=("0.5", "1.0"))
    for other in (copy.deepcopy(first), split(first, random_groups(first.space, 2, 0), 2)):
        own, row = set(other.parameters()), (1, 1) * 7
        for module in other.active(row):
            assert set(module.parameters()) <= own
        network, alone = other.subnet(row), first.subnet(row)
        assert [p.shape for p in network.parameters()] == [p.shape for p in alone.parameters()]
        other.zero_grad()
        other(images, row).sum().backward()
        assert sum(p.grad is not None for p in own) > 20
    assert all(p.grad is None for p in first.parameters())


def test_statistics_belong_to_a_width(supernet, images):
    """A step of one width moves the running statistics of no other."""
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    supernet.train()
    row = [1, 2] * (len(supernet.space) // 2)
    with torch.no_grad():
        supernet(images, row)
    own = {id(buffer) for module in supernet.active(row) for buffer in module.buffers()}
    for name, buffer in supernet.named_buffers():
        assert torch.equal(before[name], buffer) == (id(buffer) not in own), name


def test_mixtures_of_operators_and_widths(images):
    """A mixture that takes all of one option each is that path; equal weights give the mean over all pairs, block by block."""
    supernet = shuffle((3, 16, 16), 7, widths=("0.5", "1.0"), seed=1).eval()
    row = (2, 1, 3, 0, 0, 1, 1, 1, 2, 0, 3, 1, 0, 0)
    gates = [torch.eye(len(choice.options))[option] for choice, option in zip(supernet.space.choices, row, strict=True)]
    with torch.no_grad():
        assert (supernet(images, Mixture(gates)) - supernet(images, row)).abs().max() <= 1e-5
        block, x = supernet.blocks[1], torch.randn(2, 16, 8, 8)
        mean = torch.stack([block(x, operator, width) for operator in range(4) for width in range(2)]).mean(0)
        assert (block.mixture(x, torch.full((4,), 0.25), torch.full((2,), 0.5)) - mean).abs().max() <= 1e-5


def test_a_network_alone_trains(digits):
    """The plain copy learns the digits, so batch norm with a scale and the head without a bias are wired well."""
    network = shuffle(digits.image_shape, 10, widths=WIDTHS).subnet([0, 4, 3, 7, 1, 0, 2, 3, 0, 4], fresh_seed=0)
    losses = train(network, StandAlone(), digits.train, epochs=4, batch_size=32, lr=0.1)
    assert losses[-1]["loss"] < 0.75 * losses[0]["loss"]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_their_images(name):
    size = {"digits": 8, "tiny": 16, "cifar": 32, "imagenet": 64}[name]
    supernet = shuffle((3, size, size), 5, layout=name).eval()
    assert len(supernet.space) == sum(stage.depth for stage in PRESETS[name].stages)
    with torch.no_grad():
        assert supernet(torch.zeros(2, 3, size, size), (0,) * len(supernet.space)).shape == (2, 5)


def test_the_preset_follows_the_image_size():
    assert [preset_for(size, SIZES) for size in (8, 16, 32, 64, 224)] == ["digits", "tiny", "cifar", "cifar", "imagenet"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layout": "tine"}, "Did you mean 'tiny'"),
        ({"widths": ("1.0", "0.5")}, "ascending positive numbers"),
        ({"widths": ("wide",)}, "ascending positive numbers"),
        ({"widths": ()}, "ascending positive numbers"),
        ({"widths": (0.5, 1.0)}, "ascending positive numbers as texts"),
        ({"widths": ("0.05", "1.0")}, "leaves no channel inside of a block of 32"),
        ({"layout": Layout(15, 1, (Stage(32, 1, 1),), 64)}, "takes 15 channels to 32 with stride 1"),
        ({"layout": Layout(16, 1, (Stage(32, 1, 1), Stage(32, 1, 2)), 64)}, "takes 32 channels to 32 with stride 2"),
        ({"layout": Layout(16, 1, (Stage(32, 1, 3),), 64)}, "with stride 3"),
        ({"layout": "imagenet"}, "too small for a layout that divides them by 32"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(UsageError, match=words):
        shuffle((1, 8, 8), 10, **arguments)
