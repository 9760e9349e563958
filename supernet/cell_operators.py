"""The operators of cells, by the names they have in the literature, and the pools that published systems choose from.

`darts` is the pool of Liu et al., 2018, arXiv 1806.09055 ("none" cuts an edge); `pnas` that of Liu et al., 2017, arXiv 1712.00559; `setn`
the six operators of the cell that Dong and Yang, 2019, arXiv 1910.05733, published. Convolutions are ReLU, convolution, batch norm;
separable ones do that twice.

Departure: batch norm has a scale and a shift in the supernet as well, so that a network copied out of it is one that can be trained
on. In the pool `darts` pooling is followed by batch norm, as in its search, also where a network stands alone.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from evonas.cells import OPERATIONS
from evonas.errors import unknown

POOLS: dict[str, tuple[str, ...]] = {
    "darts": (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ),
    "pnas": OPERATIONS,
    "setn": ("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "sep_conv_5x5", "conv_3x1_1x3"),
}
OPERATORS = tuple(dict.fromkeys(name for pool in POOLS.values() for name in pool))


def cell_operator(name: str, channels: int, stride: int = 1, *, norm_after_pooling: bool = True) -> nn.Module | None:
    """One operator, (n, channels, h, w) -> (n, channels, ceil(h / stride), ceil(w / stride)); None cuts the edge.

    Args:
        name: one of `OPERATORS`.
        channels: in and out.
        stride: 1 or 2.
        norm_after_pooling: whether batch norm follows pooling.

    Raises:
        UsageError: an unknown name.
    """
    if name not in OPERATORS:
        raise unknown("operator of a cell", name, OPERATORS)
    if name == "none":
        return None
    if name in ("skip_connect", "identity"):
        if stride == 1:
            return nn.Identity()
        return FactorizedReduction(channels, channels) if name == "skip_connect" else relu_conv_bn(channels, channels, 1, stride)
    kind, first, *others = re.fullmatch(r"([a-z_]+?)_(\d+)x(\d+)(?:_(\d+)x(\d+))?", name).groups()  # type: ignore[union-attr]
    kernel = int(first)
    if kind.endswith("pool"):
        pooling = (
            nn.MaxPool2d(kernel, stride, kernel // 2)
            if kind == "max_pool"
            else nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
        )
        return nn.Sequential(pooling, nn.BatchNorm2d(channels)) if norm_after_pooling else pooling
    if kind == "sep_conv":
        return nn.Sequential(*_depthwise(channels, kernel, stride), *_depthwise(channels, kernel, 1))
    if kind == "dil_conv":
        return nn.Sequential(*_depthwise(channels, kernel, stride, dilation=2))
    height, width, then_height, then_width = int(first), int(others[0]), int(others[1]), int(others[2])
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (height, width), (stride if height > 1 else 1, stride if width > 1 else 1),
                  (height // 2, width // 2), bias=False),
        nn.Conv2d(channels, channels, (then_height, then_width), (stride if then_height > 1 else 1, stride if then_width > 1 else 1),
                  (then_height // 2, then_width // 2), bias=False),
        nn.BatchNorm2d(channels),
    )  # fmt: skip


def relu_conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution, batch norm; "same" padding for odd kernels."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(out_channels))


class FactorizedReduction(nn.Module):
    """Halves the map and reads every pixel once: two 1x1 convolutions of stride 2, one of them a pixel further, side by side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        further = pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return torch.as_tensor(self.norm(torch.cat([self.even(x), self.odd(further)], dim=1)))


def _depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    padding = kernel // 2 * dilation
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]
