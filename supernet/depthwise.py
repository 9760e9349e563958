"""Depthwise convolutions with wide filters, trained on the CPU: the gradient of the filter, a few columns at a time.

torch leaves convolutions on the CPU to oneDNN. Its fast kernel for the gradient of a depthwise filter takes filters of at most three
columns; wider ones (5 x 5, 7 x 7, which every mobile space offers) go to the kernel for grouped convolutions, which pads each group to
sixteen channels and is ten to forty times slower. The columns of such a gradient do not depend on each other: here they are taken three
at a time, over few enough images for the padded copies to stay in the cache. The result is the same up to the order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from supernet.evaluation import replaced_forward

FAST_COLUMNS = 3
ELEMENTS_AT_ONCE = 2**19  # 2 MiB of padded images: what fits the cache beside the gradient

convolution_backward = torch.ops.aten.convolution_backward


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution, whose gradients are those of `conv2d`."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        context.save_for_backward(x, weight)
        context.stride, context.padding = stride, padding
        return conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = context.saved_tensors
        (gradient,), stride, padding = gradients, context.stride, context.padding
        wants_x, wants_weight = context.needs_input_grad[:2]
        differentiable = torch.is_grad_enabled()  # somebody will ask for the gradient of this gradient
        settings = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight))
        by_torch = [wants_x, wants_weight and differentiable, False]
        of_x, of_weight, _ = convolution_backward(gradient, x, weight, None, *settings, by_torch)
        if wants_weight and not differentiable:
            of_weight = filter_gradient(gradient, x, weight, stride, padding)
        return of_x, of_weight, None, None


def filter_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient of a depthwise filter.

    Args:
        gradient: of the output, shape (n, c, h', w').
        x: the input, shape (n, c, h, w).
        weight: the filter, shape (c, 1, k, k).
        stride, padding: of the convolution.

    Returns:
        Shape (c, 1, k, k).
    """
    n, channels, height, width = x.shape
    size, columns = weight.shape[-1], gradient.shape[-1]
    padded_shape = (height + 2 * padding, width + 2 * padding, channels)
    at_once = max(1, min(n, ELEMENTS_AT_ONCE // (padded_shape[0] * padded_shape[1] * channels)))
    padded = x.new_zeros((at_once, *padded_shape))
    total = torch.zeros_like(weight)
    for first in range(0, n, at_once):
        arriving = gradient[first : first + at_once]
        rows = len(arriving)
        padded[:rows, padding : padding + height, padding : padding + width] = x[first : first + rows].permute(0, 2, 3, 1)
        for left in range(0, size, FAST_COLUMNS):
            right = min(left + FAST_COLUMNS, size)
            seen = padded[:rows, :, left : (columns - 1) * stride + right].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
            part = weight[..., left:right].contiguous()
            settings = ([stride] * 2, [0, 0], [1, 1], False, [0, 0], channels)
            total[..., left:right] += convolution_backward(arriving, seen, part, None, *settings, [False, True, False])[1]
    return total


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """A depthwise convolution without bias, trained fast where torch is slow: on the CPU, in single precision, with a wide filter."""
    slow = weight.shape[-1] > FAST_COLUMNS and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if slow and torch.is_grad_enabled() and weight.requires_grad:
        return _Depthwise.apply(x, weight, stride, padding)
    return conv2d(x, weight, None, stride, padding, 1, len(weight))


@contextmanager
def fast_depthwise(network: nn.Module) -> Iterator[None]:
    """Within the block the wide depthwise convolutions of any network compute their gradients this way."""
    with replaced_forward([m for m in network.modules() if type(m) is nn.Conv2d and _is_wide_depthwise(m)], _forward):
        yield


def _is_wide_depthwise(module: nn.Conv2d) -> bool:
    same = module.groups == module.in_channels == module.out_channels
    square = module.kernel_size[0] == module.kernel_size[1] and module.stride[0] == module.stride[1]
    plain = module.bias is None and module.padding_mode == "zeros" and module.dilation == (1, 1)
    numbers = not isinstance(module.padding, str) and module.padding[0] == module.padding[1]
    return same and square and plain and numbers and module.kernel_size[0] > FAST_COLUMNS


def _forward(module: nn.Conv2d, x: Tensor) -> Tensor:
    return depthwise_conv2d(x, module.weight, module.stride[0], int(module.padding[0]))
