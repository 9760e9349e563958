"""Counted costs against PyTorch's own counter on stand-alone networks, exactly."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from evonas import Choice, SearchSpace, UsageError
from evonas.units import format_quantity, parse_quantity
from predictors import AdditiveCost, count_macs, macs, params
from predictors.costs import size_of
from supernet import mbconv


@pytest.mark.parametrize("arguments", [{"squeeze_excite": True}, {"layout": "digits", "kernels": (3, 5), "expansions": (2, 4)}])
def test_macs_and_params_equal_torch_on_stand_alone_networks(arguments, rng):
    supernet = mbconv((3, 20, 20), 7, **arguments)
    space, parts = supernet.space, supernet.parts()
    population = space.sample(50, rng)
    counted, weights = macs(space, parts)(population), params(space, parts)(population)
    for row, count, weight in zip(population, counted, weights, strict=True):
        network = supernet.subnet(row).eval()
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            network(torch.zeros(1, 3, 20, 20))
        assert count == flops.get_total_flops() / 2
        assert weight == sum(p.numel() for p in network.parameters())


def test_tables_over_several_choices_and_exact_extremes(rng):
    space = SearchSpace(tuple(Choice(f"c{i}", ("x", "y", "z")) for i in range(4))).narrow({"c1": ["y", "z"]})
    pair, single = rng.normal(size=(3, 3)), rng.normal(size=3)
    cost = AdditiveCost("", 1.0, (((0, 2), pair), ((1,), single)))
    everything = space.enumerate()
    expected = np.array([1.0 + pair[a, c] + single[b] for a, b, c, _ in everything])
    np.testing.assert_allclose(cost(everything), expected)
    low, high = cost(space.population(cost.extremes(space)))
    assert (low, high) == (pytest.approx(expected.min()), pytest.approx(expected.max()))


class Function(nn.Module):
    """A network that is a function of its input and of weights, of these shapes, that no layer holds; or of a layer."""

    def __init__(self, run, *weights, layer=None):
        super().__init__()
        self.run, self.layer = run, layer
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(shape)) for shape in weights)

    def forward(self, x):
        return self.run(x, *self.weights) if self.layer is None else self.run(x, self.layer)


F = nn.functional
COUNTED = {  # what it is, and what it takes by hand, on 4 channels of 6 x 5 pixels
    "functional convolution": (Function(lambda x, w: F.conv2d(x, w, padding=1, groups=2), (8, 2, 3, 3)), 8 * 30 * 2 * 9),
    "transposed convolution": (nn.ConvTranspose2d(4, 6, 2, stride=2), 30 * 4 * 6 * 4),
    "functional transposed": (Function(lambda x, w: F.conv_transpose2d(x, w), (4, 6, 3, 3)), 30 * 4 * 6 * 9),
    "one-dimensional convolution": (Function(lambda x, w: F.conv1d(x.flatten(2), w), (7, 4, 3)), 7 * 28 * 4 * 3),
    "product of matrices": (Function(lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2)), 4 * 30 * 4),
    "product with a vector": (Function(lambda x, v: x[0, 0] @ v, (5,)), 6 * 5),
    "sum of Einstein": (Function(lambda x, w: torch.einsum("nchw,dc->ndhw", x, w), (9, 4)), 9 * 4 * 30),
    "functional linear": (Function(lambda x, w: F.linear(x, w), (11, 5)), 4 * 6 * 11 * 5),
    "attention": (Function(lambda x: F.scaled_dot_product_attention(*[x.flatten(2)[:, None]] * 3)), 2 * 4 * 4 * 30),
    "attention layer": (
        Function(lambda x, layer: layer(*[x.flatten(2)] * 3)[0], layer=nn.MultiheadAttention(30, 3, batch_first=True)),
        4 * 30 * 120 + 2 * 4 * 4 * 30,
    ),
    "attention as it comes from images": (  # keys that are not contiguous take another kernel
        Function(lambda x: F.scaled_dot_product_attention(*[x.reshape(1, 2, 2, 30).transpose(-1, -2)] * 3)),
        2 * 2 * 30 * 30 * 2,
    ),
    "elementwise": (nn.Sequential(nn.PReLU(4), nn.GroupNorm(2, 4), nn.Softmax(1), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)), 0),
    "moves": (nn.Sequential(nn.PixelShuffle(2), nn.ZeroPad2d(1), nn.Unfold(2), nn.Dropout(0.5)), 0),
}


@pytest.mark.parametrize("what", COUNTED)
def test_whatever_multiplies_and_adds_counts(what):
    module, expected = COUNTED[what]
    assert count_macs(module, (4, 6, 5)) == expected


def test_a_transformer_layer_counts_in_spite_of_its_fast_path():
    layer = Function(lambda x, layer: layer(x.flatten(2)), layer=nn.TransformerEncoderLayer(30, 3, 50, batch_first=True))
    assert count_macs(layer, (4, 6, 5)) == 4 * 30 * 120 + 2 * 4 * 4 * 30 + 2 * 4 * 30 * 50


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (Function(lambda x: torch.fft.rfft2(x).real), "_fft_r2c"),
        (Function(lambda x, layer: layer(x.flatten(2))[0], layer=nn.LSTM(30, 3)), "rnn"),
        (Function(lambda x: torch.cdist(x, x)), "cdist"),
    ],
)
def test_what_cannot_be_counted_is_refused(module, name):
    with pytest.raises(UsageError, match=f"how many multiply-accumulates .*{name}.*register_flop_formula"):
        count_macs(module, (4, 6, 5))


def test_size_is_that_of_the_weights_as_they_are_delivered(tmp_path):
    """Four bytes a parameter: what safetensors, or any file of 32-bit floats, would hold beside its header."""
    import io

    supernet = mbconv((1, 8, 8), 10, depths=(1, 1, 1))
    cost = size_of(params(supernet.space, supernet.parts()))
    for row in supernet.space.sample(3, np.random.default_rng(0)):
        network, file = supernet.subnet(row), io.BytesIO()
        np.savez(file, *(parameter.detach().numpy() for parameter in network.parameters()))
        held = sum(array.nbytes for array in np.load(io.BytesIO(file.getvalue())).values())
        assert cost(row[None])[0] == held
    ends = cost(supernet.space.population(cost.extremes(supernet.space)))
    every = cost(supernet.space.enumerate())
    assert (ends == [every.min(), every.max()]).all()
    assert parse_quantity("1.5MB", cost.unit) == 1_500_000
    assert format_quantity(1_500_000, cost.unit) == "1.5 MB"
