"""Mixed precision: rounding against brute force, BitOps against a formula and published figures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evonas import UsageError
from predictors import costs
from supernet import quantised
from supernet.quantisation import FIRST_CLIP, Clip, QuantisedConv, quantise_activations, quantise_weights
from supernet.spaces.layout import preset_for
from supernet.spaces.quantised import BITS, PRESETS, SIZES, read_bits

FLOATS = arrays(np.float32, st.integers(2, 200), elements=st.floats(-4, 4, width=32).filter(lambda x: abs(x) > 1e-6 or x == 0))


@settings(max_examples=60, deadline=None)
@given(FLOATS, st.integers(1, 8))
def test_weights_take_at_most_two_to_the_bits_levels(values, bits):
    """And each takes the level nearest to its squashed value (bits > 1), or the mean size with its sign (one bit)."""
    weights = torch.from_numpy(values)
    if not values.any():
        return
    found = quantise_weights(weights, bits).numpy()
    assert len(np.unique(found)) <= 2**bits
    if bits == 1:
        expected = np.where(values >= 0, 1, -1) * np.abs(values).mean()
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    else:
        levels = np.linspace(-1, 1, 2**bits)
        squashed = np.tanh(values) / np.abs(np.tanh(values)).max()
        distance = np.abs(squashed[:, None] - levels).min(axis=1)
        np.testing.assert_allclose(np.abs(squashed - found), distance, atol=1e-5)
        np.testing.assert_allclose(np.abs(found[:, None] - levels).min(axis=1), 0, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(FLOATS, st.integers(1, 8), st.floats(0.5, 6))
def test_activations_take_the_nearest_of_two_to_the_bits_levels(values, bits, clip):
    found = quantise_activations(torch.from_numpy(values), bits, torch.tensor(clip)).numpy()
    levels = np.linspace(0, clip, 2**bits)
    assert len(np.unique(found)) <= 2**bits
    np.testing.assert_allclose(
        np.abs(np.clip(values, 0, clip) - found), np.abs(np.clip(values, 0, clip)[:, None] - levels).min(1), atol=1e-5
    )


def test_a_weight_of_zero_makes_no_third_level():
    assert set(quantise_weights(torch.tensor([-2.0, 0.0, 1.0]), 1).tolist()) == {-1.0, 1.0}


def test_rounding_passes_gradients_on():
    """Weights: that of tanh(w) / max |tanh(w)|. Activations: 1 between 0 and the clip, 0 outside; the clip gets what it cuts off."""
    weights = torch.tensor([-1.5, -0.2, 0.4, 0.9], requires_grad=True)
    quantise_weights(weights, 3).sum().backward()
    expected = (1 - np.tanh(weights.detach().numpy()) ** 2) / np.tanh(1.5)
    np.testing.assert_allclose(weights.grad.numpy(), expected, rtol=1e-5)
    x, clip = torch.tensor([-1.0, 0.5, 1.9, 2.5, 7.0], requires_grad=True), torch.tensor(2.0, requires_grad=True)
    (quantise_activations(x, 2, clip) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()
    assert x.grad.tolist() == [0, 2, 3, 0, 0]
    assert clip.grad.item() == 9


def test_bit_ops_of_resnet_18():
    """Against the layers written out: 3x3 convolutions of four stages and the 1x1 ones of three shortcuts, at 224 pixels.

    16 times that is the 27.1 G that published tables give for four bits.
    """
    supernet = quantised()
    cost = costs.bit_ops(supernet.space, supernet.parts())
    widths, sides = (64, 128, 256, 512), (56, 28, 14, 7)
    layers = sum(4 * 9 * w * w * s * s for w, s in zip(widths, sides, strict=True))
    layers -= sum(9 * w * (w // 2) * s * s for w, s in zip(widths[1:], sides[1:], strict=True))  # reads half as many channels
    layers += sum(w * (w // 2) * s * s for w, s in zip(widths[1:], sides[1:], strict=True))
    for option, product in zip(BITS, (2, 4, 4, 8, 12, 16), strict=True):
        assert cost(np.full((1, 8), BITS.index(option)))[0] == product * layers
    assert 27.0e9 < 16 * layers < 27.2e9


def test_bit_ops_of_mixed_networks(rng):
    """The table against whole networks counted layer by layer."""
    supernet = quantised((3, 16, 16), 10)
    population = supernet.space.sample(5, rng)
    whole = [costs.count_bit_ops(supernet.subnet(row), (3, 16, 16)) for row in population]
    assert costs.bit_ops(supernet.space, supernet.parts())(population).tolist() == whole


@pytest.fixture(scope="module")
def supernet():
    return quantised((3, 16, 16), 7, seed=2)


def test_options_share_one_weight_and_have_their_own_clips(supernet):
    """One floating-point weight a convolution; one clip a convolution and number of activation bits; decay reaches it."""
    layers = [[layer for layer in supernet.blocks[1].active(i).modules() if isinstance(layer, QuantisedConv)] for i in range(len(BITS))]
    for same in zip(*layers, strict=True):
        assert len({id(layer.weight) for layer in same}) == 1
        by_bits = {bits: {id(layer.clip) for layer in same if layer.activation_bits == bits} for bits in (2, 4)}
        assert [len(ids) for ids in by_bits.values()] == [1, 1]
        assert by_bits[2] != by_bits[4]
    assert layers[0][0].clip.value.ndim > 1


def test_a_clip_stays_positive():
    """Below zero, minimum(x, clip) would be one constant for all images."""
    clip = Clip()
    torch.nn.init.constant_(clip.value, -1.0)
    assert float(clip().detach()) > 0
    assert len(quantise_activations(torch.tensor([-1.0, 0.0, 1.0]), 2, clip()).unique()) == 2


def test_what_convolutions_see_has_few_levels(supernet, rng):
    """Inside of whole networks, in training and out of it: what every quantised convolution multiplies."""
    original, images = torch.nn.functional.conv2d, torch.randn(2, 3, 16, 16)
    for row in supernet.space.sample(3, rng):
        seen: list[tuple[int, int]] = []

        def watched(x, weight, *rest, seen=seen):
            seen.append((len(weight.unique()), len(x.unique())))
            return original(x, weight, *rest)

        bits = []
        for block, option in zip(supernet.space.choices, row, strict=True):
            layers = 3 if block.name in ("stage1.block0.bits", "stage2.block0.bits") else 2
            bits += layers * [read_bits(BITS[option])]
        alone = supernet.subnet(row).eval()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("supernet.quantisation.conv2d", watched)
            supernet.train()(images, row)
            with torch.no_grad():
                alone(images)
        assert len(seen) == 2 * len(bits) == 28
        for (weights, activations), (weight_bits, activation_bits) in zip(seen, 2 * bits, strict=True):
            assert weights <= 2**weight_bits
            assert activations <= 2**activation_bits
        assert max(weights for weights, _ in seen) > 2


def test_a_fresh_network_forgets_its_clips():
    supernet = quantised((1, 8, 8), 10)
    with torch.no_grad():
        for parameter in supernet.parameters():
            if parameter.shape == (1, 1, 1, 1):
                parameter.fill_(99.0)
    row = (3,) * len(supernet.space)
    for seed, expected in ((None, 99.0), (0, FIRST_CLIP)):
        layers = [layer for layer in supernet.subnet(row, fresh_seed=seed).modules() if isinstance(layer, QuantisedConv)]
        assert {layer.clip.value.item() for layer in layers} == {expected}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_their_images(name):
    size = {"tiny": 16, "small": 32}.get(name, 64)
    supernet = quantised((3, size, size), 5, layout=name).eval()
    with torch.no_grad():
        assert supernet(torch.zeros(1, 3, size, size), (0,) * len(supernet.space)).shape == (1, 5)


def test_the_preset_follows_the_image_size():
    assert [preset_for(size, SIZES) for size in (8, 16, 32, 224)] == ["tiny", "tiny", "small", "resnet18"]


@pytest.mark.parametrize("bits", ["w2", "2a4", "w0a2", "wxa2", "w2a"])
def test_malformed_bits(bits):
    with pytest.raises(UsageError, match="Malformed bits"):
        read_bits(bits)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layout": "resnet19"}, "Did you mean"),
        ({"layout": "resnet18"}, "too small"),
        ({"bits": ("w4a4", "w2a2")}, "expected the fewest first"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(UsageError, match=words):
        quantised((1, 8, 8), 10, **arguments)
