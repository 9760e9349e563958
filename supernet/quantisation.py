"""Convolutions of few bits, simulated with floating-point numbers, trained through their rounding.

Weights as in Zhou et al., "DoReFa-Net", 2016, arXiv 1606.06160; activations as in Choi et al., "PACT: Parameterized Clipping Activation for
Quantized Neural Networks", 2018, arXiv 1805.06085. Rounding passes gradients on unchanged (Bengio et al., 2013, arXiv 1308.3432).

Departure: one-bit weights give +1 where a weight is 0, so that there are two levels and not three.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

FIRST_CLIP, LEAST_CLIP = 3.0, 0.01


def quantise_weights(weights: Tensor, bits: int) -> Tensor:
    """Weights on at most 2 ** bits levels.

    One bit: the signs times the mean size. More: levels at even steps from -1 to 1, nearest to tanh(w) / max |tanh(w)|.
    """
    if bits == 1:
        scale = weights.detach().abs().mean()
        return _pass_gradient(torch.where(weights >= 0, scale, -scale), weights)
    squashed = torch.tanh(weights)
    unit = squashed / (2 * squashed.detach().abs().max()) + 0.5
    steps = 2**bits - 1
    return 2 * _pass_gradient(torch.round(unit * steps) / steps, unit) - 1


def quantise_activations(x: Tensor, bits: int, clip: Tensor) -> Tensor:
    """Activations on 2 ** bits levels at even steps from 0 to `clip`, which learns from what it cuts off."""
    inside = torch.minimum(torch.relu(x), clip)
    step = clip.detach() / (2**bits - 1)
    return _pass_gradient(torch.round(inside / step) * step, inside)


def _pass_gradient(value: Tensor, through: Tensor) -> Tensor:
    """`value` to the bit, with the gradient of `through`; the usual `through + (value - through).detach()` misses levels by rounding."""
    return _Through.apply(value.detach(), through) if torch.is_grad_enabled() else value


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor, through: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


class Clip(nn.Module):
    """The largest activation, learned. Its four dimensions let weight decay reach it, the regularisation that PACT asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((1, 1, 1, 1), FIRST_CLIP))

    def forward(self) -> Tensor:
        """A positive number, shape (1, 1, 1, 1): a clip that learning took below zero would end all activations."""
        return self.value.clamp_min(LEAST_CLIP)

    def reset(self) -> None:
        """The clip of an untrained network."""
        nn.init.constant_(self.value, FIRST_CLIP)


class QuantisedConv(nn.Conv2d):
    """A convolution without bias of quantised activations with quantised weights, which it may share with others of more or fewer bits.

    Args:
        weights: a convolution whose floating-point weights it uses.
        weight_bits: of the weights, at least 1.
        activation_bits: of the input, at least 1.
        clip: of its activations, which it may share with others of as many activation bits.
    """

    def __init__(self, weights: nn.Conv2d, weight_bits: int, activation_bits: int, clip: Clip) -> None:
        size, stride, padding = weights.kernel_size[0], weights.stride[0], int(weights.padding[0])
        super().__init__(weights.in_channels, weights.out_channels, size, stride, padding, bias=False)
        self.weight = weights.weight
        self.weight_bits, self.activation_bits = weight_bits, activation_bits
        self.clip = clip

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, out_channels, h', w')."""
        quantised = quantise_activations(x, self.activation_bits, self.clip())
        return conv2d(quantised, quantise_weights(self.weight, self.weight_bits), None, self.stride, self.padding)
