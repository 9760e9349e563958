"""Widths that share weights: a narrow convolution is the leading part of the widest one.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420, search channels this way;
Yu et al., "Slimmable Neural Networks", 2018, arXiv 1812.08928, trained such networks first and gave every width batch-norm statistics
of its own, as here: a channel that follows another number of channels has another distribution.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from supernet.depthwise import depthwise_conv2d


class WideConv(nn.Conv2d):
    """A convolution without bias whose leading output and input channels serve narrower ones.

    Attributes:
        used: the largest part (output channels, input channels of a group) that forward passes took since `forget`; None without any.
            A gradient has the shape of the whole weight, so that only this tells what a training step may change.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> None:
        groups = out_channels if depthwise else 1
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.depthwise = depthwise
        self.used: tuple[int, int] | None = None

    def leading(self, out_channels: int, in_channels: int) -> Tensor:
        """The part of the weight for so many channels out and in; it shares memory with the whole."""
        return self.weight[:out_channels, : 1 if self.depthwise else in_channels]

    def take(self, x: Tensor, out_channels: int, in_channels: int) -> Tensor:
        """Convolve with the leading part."""
        weight = self.leading(out_channels, in_channels)
        if torch.is_grad_enabled():
            before = self.used or (0, 0)
            self.used = (max(before[0], weight.shape[0]), max(before[1], weight.shape[1]))
        if self.depthwise:
            return depthwise_conv2d(x, weight, self.stride[0], int(self.padding[0]))
        return conv2d(x, weight, None, self.stride, self.padding)

    def forget(self) -> None:
        """Nothing has been used so far."""
        self.used = None


class SlicedConv(nn.Module):
    """The leading part of a `WideConv` as a module of its own; it holds no weights.

    Args:
        whole: the convolution it is a part of.
        out_channels, in_channels: how many of its channels.
    """

    def __init__(self, whole: WideConv, out_channels: int, in_channels: int) -> None:
        super().__init__()
        self.whole, self.out_channels, self.in_channels = whole, out_channels, in_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.whole.take(x, self.out_channels, self.in_channels)

    def plain(self) -> nn.Conv2d:
        """A convolution of its own that holds a copy of the part."""
        groups = self.out_channels if self.whole.depthwise else 1
        size, stride, padding = self.whole.kernel_size[0], self.whole.stride[0], int(self.whole.padding[0])
        result = nn.Conv2d(self.in_channels, self.out_channels, size, stride, padding, groups=groups, bias=False)
        with torch.no_grad():
            result.weight.copy_(self.whole.leading(self.out_channels, self.in_channels))
        return result.to(self.whole.weight.device)


def plain(module: nn.Module) -> nn.Module:
    """A copy that stands alone: parts of wide convolutions become convolutions, and batch norm gets a scale and a shift (1 and 0)."""
    result = copy.deepcopy(module)
    for parent in list(result.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SlicedConv):
                setattr(parent, name, child.plain())
            elif isinstance(child, nn.BatchNorm2d) and not child.affine:
                setattr(parent, name, _with_scale(child))
    return result


def _with_scale(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    result = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    result.load_state_dict(norm.state_dict(), strict=False)  # all but scale and shift, which begin at 1 and 0
    assert norm.running_mean is not None
    return result.to(norm.running_mean.device).train(norm.training)
