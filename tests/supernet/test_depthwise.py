"""The gradient of wide depthwise filters, computed a few columns at a time, against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from supernet import depthwise
from supernet.depthwise import depthwise_conv2d, fast_depthwise
from supernet.operators import InvertedResidual

CASES = [(5, 1, 8, 2), (5, 2, 8, 2), (7, 1, 5, 3), (7, 2, 9, 3), (4, 1, 6, 0), (9, 1, 4, 4), (5, 2, 7, 1)]


@pytest.mark.parametrize("at_once", [1, 500, 2**19])
@pytest.mark.parametrize(("size", "stride", "side", "padding"), CASES)
def test_gradients_are_those_of_torch(monkeypatch, size, stride, side, padding, at_once):
    monkeypatch.setattr(depthwise, "ELEMENTS_AT_ONCE", at_once)
    torch.manual_seed(size + stride)
    x = torch.randn(6, 10, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(10, 1, size, size, requires_grad=True)
    out, expected = depthwise_conv2d(x, weight, stride, padding), conv2d(x, weight, None, stride, padding, 1, 10)
    assert torch.equal(out, expected)
    arriving = torch.randn_like(out)
    found = torch.autograd.grad(out, (x, weight), arriving)
    for ours, theirs in zip(found, torch.autograd.grad(expected, (x, weight), arriving), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_a_gradient_of_the_gradient():
    """In single precision, where ours is used: against torch's own second derivative."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 6, 6), torch.randn(3, 1, 5, 5, requires_grad=True)
    second = []
    for convolve in (lambda: depthwise_conv2d(x, weight, 1, 2), lambda: conv2d(x, weight, None, 1, 2, 1, 3)):
        (first,) = torch.autograd.grad(convolve().pow(3).sum(), weight, create_graph=True)
        second.append(torch.autograd.grad(first.pow(2).sum(), weight)[0])
    assert torch.allclose(*second, rtol=1e-3)


def test_a_frozen_filter_or_image_is_left_alone():
    x, weight = torch.randn(2, 3, 6, 6, requires_grad=True), torch.randn(3, 1, 5, 5)
    depthwise_conv2d(x, weight, 1, 2).sum().backward()
    assert x.grad is not None
    x, weight = x.detach(), weight.requires_grad_()
    depthwise_conv2d(x, weight, 1, 2).sum().backward()
    assert weight.grad is not None


def test_any_network_is_sped_up_and_left_as_it_was():
    torch.manual_seed(0)
    block = InvertedResidual(4, 4, 5, 3)
    wide = block.depthwise[0]
    others = nn.ModuleList(
        [nn.Conv2d(4, 4, 5, padding=2, groups=4), nn.Conv2d(4, 8, 5, groups=4, bias=False), nn.Conv2d(4, 4, 5, bias=False)]
    )
    network = nn.ModuleList([block, others])
    x = torch.randn(3, 4, 8, 8)
    expected = torch.autograd.grad(block(x).pow(2).sum(), wide.weight)[0]
    with fast_depthwise(network):
        assert "forward" in vars(wide)
        assert not any("forward" in vars(layer) for layer in others)  # with a bias, more channels out, not depthwise: torch's
        found = torch.autograd.grad(block(x).pow(2).sum(), wide.weight)[0]
    assert "forward" not in vars(wide)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)
