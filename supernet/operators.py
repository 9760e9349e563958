"""Operators: what a block may run.

The inverted residual is that of Sandler et al., "MobileNetV2", 2018, arXiv 1801.04381; squeeze-and-excitation that of
Hu et al., 2017, arXiv 1709.01507, with the reduced width taken from the block's input as MobileNet descendants do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
Activation = Callable[..., nn.Module]  # a class such as nn.ReLU, which takes inplace
Gate = Callable[[Tensor], Tensor]


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate computed from the channel means: (n, c, h, w) -> (n, c, h, w).

    Args:
        channels: of the value.
        reduced: between the two layers.
        gate: makes numbers between 0 and 1.
    """

    def __init__(self, channels: int, reduced: int, gate: Gate = torch.sigmoid) -> None:
        super().__init__()
        self.gate = gate
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * self.gate(self.expand(gate))


class Residual(nn.Module):
    """What comes in plus what a branch makes of it; it begins as the identity where the branch has a norm (`supernet.initialisation`).

    Args:
        branch: keeps the shape; its last norm begins at 0.
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    @property
    def residual_norm(self) -> nn.Module | None:
        """The last norm of the branch."""
        norms = [layer for layer in self.branch.modules() if isinstance(layer, NORMS) and layer.weight is not None]
        return norms[-1] if norms else None

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class InvertedResidual(nn.Module):
    """Expand (1x1), filter (depthwise k x k), project (1x1), with a residual where the shape stays.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel: size of the depthwise filter, odd.
        expansion: hidden channels are this many times the channels in.
        stride: of the depthwise filter.
        squeeze_excite: gate the hidden channels.
        activation: after the first two convolutions.
        gate: of squeeze-and-excitation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        expansion: int,
        stride: int = 1,
        squeeze_excite: bool = False,
        activation: Activation = nn.ReLU6,
        gate: Gate = torch.sigmoid,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = conv_bn(in_channels, hidden, 1, activation=activation)
        self.depthwise = conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation)
        self.squeeze_excite = SqueezeExcite(hidden, max(in_channels // 4, 4), gate) if squeeze_excite else nn.Identity()
        self.project = conv_bn(hidden, out_channels, 1, activation=None)

    @property
    def residual_norm(self) -> nn.Module | None:
        """The last norm of the residual branch; see `supernet.initialisation`."""
        return self.project[1] if self.residual else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + out if self.residual else out


def conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, activation: Activation | None = nn.ReLU6
) -> nn.Sequential:
    """Convolution without bias, batch norm and, unless there is none, an activation; "same" padding for odd kernels."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers) if activation is None else nn.Sequential(*layers, activation(inplace=True))
