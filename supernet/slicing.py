"""Widths and kernels that share weights: a narrow convolution is the leading part of a wide one, a small kernel the middle of a large one.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", 2019, arXiv 1904.00420, search channels this way;
Yu et al., "Slimmable Neural Networks", 2018, arXiv 1812.08928, trained such networks first and gave every width batch-norm statistics
of its own, as here: a channel that follows another number of channels has another distribution. Where widths are too many for that
(`supernet.bypass_block`), a norm has the leading part as well, and statistics are taken anew for whatever is scored.

The middle of a kernel as a smaller one is that of Stamoulis et al., "Single-Path NAS", 2019, arXiv 1904.02877.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import conv2d
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.depthwise import depthwise_conv2d


class WideConv(nn.Conv2d):
    """A convolution without bias whose leading output and input channels serve narrower ones.

    Attributes:
        used: the largest part (output channels, input channels of a group, kernel) that forward passes took since `forget`; None without
            any. A gradient has the shape of the whole weight, so that only this tells what a training step may change.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> None:
        groups = out_channels if depthwise else 1
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.depthwise = depthwise
        self.used: tuple[int, int, int] | None = None

    def leading(self, out_channels: int, in_channels: int, kernel: int | None = None) -> Tensor:
        """The part of the weight for so many channels out and in, and the middle of its kernel; it shares memory with the whole."""
        return middle(self.weight, kernel or self.kernel_size[0])[:out_channels, : 1 if self.depthwise else in_channels]

    def take(self, x: Tensor, out_channels: int, in_channels: int, kernel: int | None = None) -> Tensor:
        """Convolve with the leading part."""
        weight = self.leading(out_channels, in_channels, kernel)
        if torch.is_grad_enabled():
            before = self.used or (0, 0, 0)
            self.used = (max(before[0], weight.shape[0]), max(before[1], weight.shape[1]), max(before[2], weight.shape[2]))
        padding = weight.shape[-1] // 2
        if self.depthwise:
            return depthwise_conv2d(x, weight, self.stride[0], padding)
        return conv2d(x, weight, None, self.stride, padding)

    def used_part(self, tensor: Tensor) -> Tensor:
        """The part of a tensor of the weight's shape that was used; all of it where nothing was."""
        if self.used is None:
            return tensor
        return middle(tensor, self.used[2])[: self.used[0], : self.used[1]]

    def forget(self) -> None:
        """Nothing has been used so far."""
        self.used = None


class SlicedConv(nn.Module):
    """The leading part of a `WideConv` as a module of its own; it holds no weights.

    Args:
        whole: the convolution it is a part of.
        out_channels, in_channels: how many of its channels; as many as arrive unless told otherwise.
        kernel: size of the middle of its kernel; all of it unless told otherwise.
    """

    def __init__(self, whole: WideConv, out_channels: int, in_channels: int | None = None, kernel: int | None = None) -> None:
        super().__init__()
        self.whole, self.out_channels, self.in_channels = whole, out_channels, in_channels
        self.kernel = kernel or whole.kernel_size[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.whole.take(x, self.out_channels, self.in_channels or x.shape[1], self.kernel)

    def plain(self) -> nn.Conv2d:
        """A convolution of its own that holds a copy of the part, whose channels in are known."""
        assert self.in_channels is not None
        groups = self.out_channels if self.whole.depthwise else 1
        size, stride = self.kernel, self.whole.stride[0]
        result = nn.Conv2d(self.in_channels, self.out_channels, size, stride, size // 2, groups=groups, bias=False)
        with torch.no_grad():
            result.weight.copy_(self.whole.leading(self.out_channels, self.in_channels, size))
        return result.to(self.whole.weight.device)


class WideNorm(nn.BatchNorm2d):
    """Batch norm whose leading channels serve narrower values.

    Attributes:
        used: the most channels that forward passes took since `forget`; None without any.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.used: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """All channels, or, where `SlicedNorm` lends others, as many as there are."""
        if torch.is_grad_enabled():
            self.used = max(self.used or 0, x.shape[1])
        return super().forward(x)

    def used_part(self, tensor: Tensor) -> Tensor:
        """The part of a tensor of the scale's shape that was used; all of it where nothing was."""
        return tensor if self.used is None else tensor[: self.used]

    def forget(self) -> None:
        """Nothing has been used so far."""
        self.used = None


class SlicedNorm(_BatchNorm):
    """The leading channels of a `WideNorm`: its scale and shift, and its statistics unless it is given others. It holds no weights.

    It is composed for a call and has the mode of the whole at that time.

    Args:
        whole: the norm it is a part of.
        channels: how many of its channels.
    """

    def __init__(self, whole: WideNorm, channels: int) -> None:
        super().__init__(channels, whole.eps, whole.momentum, affine=False)
        self.whole = whole
        self.training = whole.training
        for name, buffer in whole._buffers.items():
            self._buffers[name] = buffer[:channels] if buffer is not None and buffer.ndim else buffer  # views, updated in place

    def _check_input_dim(self, x: Tensor) -> None:
        assert x.ndim == 4

    def forward(self, x: Tensor) -> Tensor:
        whole, channels = self.whole, self.num_features
        parts: dict[str, Tensor] = {"weight": whole.weight[:channels], "bias": whole.bias[:channels]}
        parts |= {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        before = whole.training, whole.momentum
        whole.training, whole.momentum = self.training, self.momentum
        try:
            return functional_call(whole, parts, (x,))  # by the whole's own forward, which a team may have replaced
        finally:
            whole.training, whole.momentum = before

    def plain(self) -> nn.BatchNorm2d:
        """A norm of its own that holds a copy of the part."""
        result = nn.BatchNorm2d(self.num_features, self.eps, self.momentum)
        with torch.no_grad():
            for name, value in self.whole.state_dict().items():
                result.state_dict()[name].copy_(value[: self.num_features] if value.ndim else value)
        return result.to(self.whole.weight.device).train(self.training)


def middle(weight: Tensor, size: int) -> Tensor:
    """The middle of kernels, shape (..., size, size): a view."""
    edge = (weight.shape[-1] - size) // 2
    return weight[..., edge : edge + size, edge : edge + size] if edge else weight


def plain(module: nn.Module) -> nn.Module:
    """A copy that stands alone: parts of wide convolutions become convolutions, and batch norm gets a scale and a shift (1 and 0)."""
    result = copy.deepcopy(module)
    for parent in list(result.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SlicedConv | SlicedNorm):
                setattr(parent, name, child.plain())
            elif isinstance(child, nn.BatchNorm2d) and not child.affine:
                setattr(parent, name, _with_scale(child))
    return result


def _with_scale(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    result = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    result.load_state_dict(norm.state_dict(), strict=False)  # all but scale and shift, which begin at 1 and 0
    assert norm.running_mean is not None
    return result.to(norm.running_mean.device).train(norm.training)
