"""Width and depth as one dimension: a block of 0 filters hands on what it got, one of few filters computes some channels and copies others.

Yang, Liao and Sze, "NetAdaptV2", 2021, arXiv 2104.00031 (channel-level bypass connections). Of `C` channels that arrive, a block of `M`
filters hands on `max(min(C, T), M)`: the first M are computed, the others are those of the input with the same numbers. So a search over
widths is one over depths as well, and a block that nothing is left of costs nothing.

Decided where the paper is silent: a block is an inverted residual, a filter a channel of its last convolution; the channels inside are
`expansion` times the filters, so that they go with them; T is the full width; a block that shrinks the map copies nothing, and keeps at
least one filter. A small kernel is the middle of the largest. An inverted residual that adds its input does so before channels are copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from evonas.errors import UsageError
from evonas.space import Choice
from supernet.blocks import Block, Shape, images_of, joined
from supernet.slicing import SlicedConv, SlicedNorm, WideConv, WideNorm, plain


def channels_out(arriving: int, filters: int, fill: int) -> int:
    """Channels that a block hands on.

    Args:
        arriving: channels of the input (C).
        filters: that it has (M).
        fill: channels that copies fill up to (T); 0 where nothing is copied.
    """
    return max(min(arriving, fill), filters)


class Bypassed(nn.Module):
    """A branch for the first channels, the input for the others: (n, C, h, w) -> (n, max(min(C, T), M), h', w').

    Args:
        branch: makes M channels; None where M is 0.
        filters, fill: see `channels_out`.
        residual: add what comes in to what the branch makes of it.
    """

    def __init__(self, branch: nn.Module | None, filters: int, fill: int, residual: bool) -> None:
        super().__init__()
        self.branch, self.filters, self.fill, self.residual = branch, filters, fill, residual

    @property
    def residual_norm(self) -> nn.Module | None:
        """The last norm of the branch where it is added to something; see `supernet.initialisation`."""
        return list(self.branch)[-1] if self.residual and isinstance(self.branch, nn.Sequential) else None

    def forward(self, x: Tensor) -> Tensor:
        copied = x[:, self.filters : self.fill]
        if self.branch is None:
            return copied
        made = self.branch(x)
        if self.residual:
            made = made + fitted(x, self.filters)
        return torch.cat((made, copied), dim=1) if copied.shape[1] else made


class BypassBlock(Block):
    """An inverted residual whose filters and kernel are chosen.

    Args:
        name: as in `Block`.
        reads: the choices of its filters and of its kernel.
        in_channels: the most that arrive.
        filters: offered, ascending; 0 where the block may be bypassed altogether.
        kernels: offered, ascending.
        expansion: channels inside for every filter.
        stride: of the map.
        fill: channels that copies fill up to (T).

    Raises:
        UsageError: no filters at all where the map shrinks, or copies that would fill more channels than the block has filters.
    """

    def __init__(
        self,
        name: str,
        reads: tuple[str, str],
        in_channels: int,
        filters: Sequence[int],
        kernels: Sequence[int],
        *,
        expansion: int,
        stride: int,
        fill: int,
    ) -> None:
        super().__init__(name, reads, reads[:1])
        self.masked_by = reads[:1]
        width = max(filters)
        if min(filters) == 0 and stride > 1:
            raise UsageError(f"Block {name!r} shrinks the map and may have 0 filters; expected at least 1, for nothing can be copied.")
        if fill > width:
            raise UsageError(f"Copies fill block {name!r} up to {fill} channels, and it has at most {width} filters; expected no more.")
        self.filters, self.kernels, self.expansion, self.width = tuple(filters), tuple(kernels), expansion, width
        self.fill = fill if stride == 1 else 0
        self.residual = stride == 1 and in_channels == width
        hidden = expansion * width
        self.expand, self.expand_norm = WideConv(in_channels, hidden, 1), WideNorm(hidden)
        self.depthwise, self.depthwise_norm = WideConv(hidden, hidden, max(kernels), stride, depthwise=True), WideNorm(hidden)
        self.project, self.project_norm = WideConv(hidden, width, 1), WideNorm(width)

    @property
    def residual_norm(self) -> nn.Module | None:
        """See `supernet.initialisation`."""
        return self.project_norm if self.residual else None

    def require(self, choices: Sequence[Choice]) -> None:
        """See `Block.require`; options are named in the order of filters and kernels."""
        for choice, offered in zip(choices, (self.filters, self.kernels), strict=True):
            if len(choice.options) != len(offered):
                raise UsageError(f"Block {self.name!r} offers {len(offered)} options for {choice.name!r}; expected as many, in its order.")

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`."""
        return self._of(None, *options)

    def extract(self, *options: int, input_shape: Shape) -> nn.Module:
        """See `Block.extract`; a block that only copies all it gets is nothing."""
        arriving = input_shape[0]
        if self.filters[options[0]] == 0 and arriving <= self.fill:
            return nn.Identity()
        return plain(self._of(arriving, *options))

    def hands_on(self, *options: int, input_shape: Shape) -> Shape:
        """See `Block.hands_on`."""
        channels, height, width = input_shape
        stride = self.depthwise.stride[0]
        return channels_out(channels, self.filters[options[0]], self.fill), -(-height // stride), -(-width // stride)

    def per_image(self, x: Tensor, *options: npt.NDArray[np.int64]) -> Tensor:
        """Filters for every image by masks, in one pass: all are computed, and those beyond an image's are replaced by copies.

        Images of one kernel run together. All channels are handed on, zeros where an image has none.

        Args:
            x: with all channels, zeros where an image has none.
            options: of filters and of kernels, each of shape (images,).
        """
        widths, kernels = options
        rows = [np.flatnonzero(kernels == kind) for kind in np.unique(kernels)]
        made = [self._masked(images_of(x, row), widths[row], self.kernels[kernels[row[0]]]) for row in rows]
        return made[0] if len(made) == 1 else joined(made, np.argsort(np.concatenate(rows)))

    def _masked(self, x: Tensor, widths: npt.NDArray[np.int64], kernel: int) -> Tensor:
        filters = torch.tensor(self.filters, device=x.device)[torch.from_numpy(widths).to(x.device)]
        inside, outside = leading(self.expansion * filters, self.expansion * self.width), leading(filters, self.width)
        y = nn.functional.relu6(self.expand_norm(self.expand.take(x, self.expand.out_channels, x.shape[1])))
        y = nn.functional.relu6(self.depthwise_norm(self.depthwise.take(y, self.depthwise.out_channels, 1, kernel)))
        y = self.project_norm(self.project.take(y * inside.to(y.dtype), self.width, self.project.in_channels))
        copied = fitted(x[:, : self.fill], self.width) if self.fill else None
        if copied is None:
            return y * outside.to(y.dtype)
        return torch.where(outside, y + fitted(x, self.width) if self.residual else y, copied.to(y.dtype))

    def _of(self, arriving: int | None, *options: int) -> Bypassed:
        """The module for so many channels that arrive, or for any number, sharing its weights."""
        filters, kernel = self.filters[options[0]], self.kernels[options[1]]
        hidden = self.expansion * filters
        layers: list[nn.Module] = [
            SlicedConv(self.expand, hidden, arriving),
            SlicedNorm(self.expand_norm, hidden),
            nn.ReLU6(inplace=True),
            SlicedConv(self.depthwise, hidden, hidden, kernel),
            SlicedNorm(self.depthwise_norm, hidden),
            nn.ReLU6(inplace=True),
            SlicedConv(self.project, filters, hidden),
            SlicedNorm(self.project_norm, filters),
        ]
        return Bypassed(nn.Sequential(*layers) if filters else None, filters, self.fill, self.residual)


class BypassHead(Block):
    """1x1 convolution, pooling and classifier of whatever number of channels arrives.

    Args:
        in_channels: the most that arrive.
        width: of the convolution.
        classes: number of logits.
        dropout: before the classifier.
    """

    def __init__(self, in_channels: int, width: int, classes: int, dropout: float) -> None:
        super().__init__("head")
        self.widen = WideConv(in_channels, width, 1)
        self.rest = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU6(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(width, classes),
        )

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`."""
        return nn.Sequential(SlicedConv(self.widen, self.widen.out_channels), self.rest)

    def extract(self, *options: int, input_shape: Shape) -> nn.Module:
        """See `Block.extract`."""
        return plain(nn.Sequential(SlicedConv(self.widen, self.widen.out_channels, input_shape[0]), *self.rest))


def leading(counts: Tensor, channels: int) -> Tensor:
    """For every image which channels it has: shape (n, channels, 1, 1)."""
    return (torch.arange(channels, device=counts.device) < counts[:, None])[:, :, None, None]


def fitted(x: Tensor, channels: int) -> Tensor:
    """The first channels, with zeros where there are fewer."""
    missing = channels - x.shape[1]
    return pad(x, (0, 0, 0, 0, 0, missing)) if missing > 0 else x[:, :channels]
