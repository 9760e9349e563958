"""The supernet against stand-alone networks."""

import numpy as np
import pytest
import torch

from evonas import UsageError
from supernet import UniformPaths, mbconv, train
from supernet.spaces import PRESETS, Layout, Stage
from supernet.spaces.layout import preset_for
from supernet.spaces.mbconv import SIZES
from supernet.training.path_sgd import PathSGD


@pytest.fixture(scope="module")
def supernet():
    return mbconv((3, 16, 16), 7, squeeze_excite=True, seed=3)


def test_a_subnet_is_a_copy(supernet, rng):
    row = supernet.space.sample(1, rng)[0]
    before = [p.clone() for p in supernet.parameters()]
    with torch.no_grad():
        for parameter in supernet.subnet(row).parameters():
            parameter.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, supernet.parameters(), strict=True))


def test_fresh_weights_differ_and_follow_the_seed(supernet, rng):
    row = supernet.space.sample(1, rng)[0]
    inherited, one, same, other = (supernet.subnet(row, fresh_seed=seed) for seed in (None, 1, 1, 2))
    first = [next(p for p in n.parameters() if p.ndim == 4) for n in (inherited, one, same, other)]
    assert torch.equal(first[1], first[2])
    assert not torch.equal(first[1], first[0])
    assert not torch.equal(first[1], first[3])


def test_skips_leave_no_module(supernet):
    space = supernet.space
    skip = [choice.options.index("skip") if "skip" in choice.options else 0 for choice in space.choices]
    assert len(supernet.subnet(tuple(skip))) == 2 + sum("skip" not in choice.options for choice in space.choices)


def test_only_the_path_changes_in_a_training_step(digits):
    """Weights, momentum and batch-norm statistics off the path stay as they are, also after momentum has built up."""
    supernet = mbconv(digits.image_shape, 10)

    paths = []

    class Recorded(UniformPaths):
        def step(self, network, batch, moment, rng):
            paths.append(network.space.sample(1, rng)[0])
            return torch.nn.functional.cross_entropy(network(batch[0], paths[-1]), batch[1])

    def snapshot():
        return {name: value.clone() for name, value in supernet.state_dict().items()}

    optimiser_steps = []
    original = PathSGD.step

    def watched(self, closure=None):
        before = snapshot()
        result = original(self, closure)
        optimiser_steps.append((before, snapshot()))
        return result

    PathSGD.step = watched
    try:
        train(supernet, Recorded(), digits.train, epochs=1, batch_size=200, weight_decay=0.1)
    finally:
        PathSGD.step = original
    assert len(optimiser_steps) >= 5
    for (before, after), path in zip(optimiser_steps, paths, strict=True):
        used = {id(p) for module in supernet.active(path) for p in module.parameters()}
        for name, parameter in supernet.named_parameters():
            if id(parameter) not in used:
                assert torch.equal(before[name], after[name]), name
            elif parameter.ndim > 1:  # decay alone moves every matrix of the path
                assert not torch.equal(before[name], after[name]), name
    never = {name for name, _ in supernet.named_buffers()}
    for path in paths:
        used = {id(b) for module in supernet.active(path) for b in module.buffers()}
        never -= {name for name, buffer in supernet.named_buffers() if id(buffer) in used}
    assert never, "every option was used: the test shows nothing of statistics"
    for name in never:
        assert torch.equal(optimiser_steps[0][0][name], supernet.state_dict()[name]), name


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_their_images(name):
    size = {"digits": 8, "tiny": 16, "small": 32, "mobile": 64}[name]
    supernet = mbconv((3, size, size), 5, layout=name)
    assert len(supernet.space) == sum(stage.depth for stage in PRESETS[name].stages)
    with torch.no_grad():
        supernet.eval()
        assert supernet(torch.zeros(2, 3, size, size), supernet.space.sample(1, np.random.default_rng(0))[0]).shape == (2, 5)


def test_the_preset_follows_the_image_size():
    assert [preset_for(size, SIZES) for size in (8, 16, 32, 64, 224)] == ["digits", "tiny", "small", "small", "mobile"]


def test_widths_depths_and_operators_are_arguments():
    supernet = mbconv((1, 8, 8), 10, widths=(8, 12, 16), depths=(1, 2, 3), kernels=(3,), expansions=(2,), squeeze_excite=True)
    assert supernet.space.choices[0].options == ("mb2_k3", "mb2_k3_se")  # the stem's width differs: no skip
    assert supernet.space.choices[2].options == ("mb2_k3", "mb2_k3_se", "skip")
    assert len(supernet.space) == 6
    own = mbconv((1, 8, 8), 10, layout=Layout(8, 1, (Stage(8, 2, 1),), 16))
    assert own.space.names == ("stage0.block0.op", "stage0.block1.op")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layout": "tini"}, "Did you mean 'tiny'"),
        ({"widths": (8, 16)}, "expected 3 positive numbers"),
        ({"layout": "mobile"}, "too small for a layout that divides them by 32"),
    ],
)
def test_wrong_layouts(arguments, words):
    with pytest.raises(UsageError, match=words):
        mbconv((1, 8, 8), 10, **arguments)


def test_a_selection_of_the_wrong_length_is_refused(supernet):
    with pytest.raises(UsageError, match="option indices"):
        supernet(torch.zeros(1, 3, 16, 16), (0, 0))
