"""Operators of layers with several branches, by name; none of them adds what comes in, for the layer does.

Ci et al., "Evolving Search Space for Neural Architecture Search", 2021, arXiv 2011.10904: inverted residuals (Sandler et al., 2018, arXiv
1801.04381) with a filter of several sizes, or dilated, and bottlenecks whose filter is factorised into a row and a column; the second of
their spaces adds inverted residuals whose first, last or both 1x1 convolutions are in two groups.

    mb3_k5     expansion 3, depthwise filter 5x5        mb3_k3_d2    the filter dilated by 2
    row2_k7    a quarter of the width times 2, filters 1x7 and 7x1 over all channels
    mb3_k5_g1, _g2, _g12    the first, the last, both 1x1 convolutions in two groups

Departures: expansions 1, 3 and 6, kernels 3, 5 and 7 (the paper goes to 11, for 224 pixels); bottlenecks that are factorised expand by 1,
2 and 4 from a quarter of the width, which the paper does not say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from supernet.operators import conv_bn

Make = Callable[[int, int, int], nn.Module]  # channels in, channels out, stride
NONE = "none"
GROUPED = {"": (1, 1), "_g1": (2, 1), "_g2": (1, 2), "_g12": (2, 2)}


def inverted(
    in_channels: int, out_channels: int, stride: int, *, expansion: int, kernel: int, dilation: int = 1, groups: tuple[int, int] = (1, 1)
) -> nn.Module:
    """An inverted residual without what comes in: (n, in, h, w) -> (n, out, h / stride, w / stride).

    Args:
        in_channels, out_channels, stride: of the layer.
        expansion: hidden channels are this many times the channels in.
        kernel, dilation: of the depthwise filter.
        groups: of the first and of the last convolution.
    """
    hidden = in_channels * expansion
    filtered = conv_bn(hidden, hidden, kernel, stride, groups=hidden)
    if dilation > 1:
        pad = dilation * (kernel // 2)
        filtered[0] = nn.Conv2d(hidden, hidden, kernel, stride, pad, dilation=dilation, groups=hidden, bias=False)
    first = conv_bn(in_channels, hidden, 1, groups=groups[0])
    return nn.Sequential(first, filtered, conv_bn(hidden, out_channels, 1, groups=groups[1], activation=None))


def factorised(in_channels: int, out_channels: int, stride: int, *, expansion: int, kernel: int) -> nn.Module:
    """A bottleneck with a filter that is a row and a column: (n, in, h, w) -> (n, out, h / stride, w / stride).

    Args:
        in_channels, out_channels, stride: of the layer.
        expansion: hidden channels are this many quarters of the channels out.
        kernel: length of the row and of the column.
    """
    hidden, pad = max(expansion * out_channels // 4, 1), kernel // 2
    row = nn.Conv2d(hidden, hidden, (1, kernel), (1, stride), (0, pad), bias=False)
    column = nn.Conv2d(hidden, hidden, (kernel, 1), (stride, 1), (pad, 0), bias=False)
    middle = [nn.Sequential(layer, nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)) for layer in (row, column)]
    return nn.Sequential(conv_bn(in_channels, hidden, 1), *middle, conv_bn(hidden, out_channels, 1, activation=None))


FIRST: dict[str, Make] = {
    **{f"mb{t}_k{k}": partial(inverted, expansion=t, kernel=k) for t in (1, 3, 6) for k in (3, 5, 7)},
    **{f"mb{t}_k3_d2": partial(inverted, expansion=t, kernel=3, dilation=2) for t in (1, 3, 6)},
    **{f"row{t}_k{k}": partial(factorised, expansion=t, kernel=k) for t in (1, 2, 4) for k in (5, 7)},
}
SECOND: dict[str, Make] = FIRST | {
    f"mb{t}_k{k}{name}": partial(inverted, expansion=t, kernel=k, groups=groups)
    for name, groups in list(GROUPED.items())[1:]
    for t in (1, 3, 6)
    for k in (3, 5, 7)
}
POOLS = {"first": FIRST, "second": SECOND}
