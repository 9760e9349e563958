"""Pointwise convolutions as matrix products, where widths change with every step.

On a GPU cuDNN makes a plan for every convolution whose shape it has not seen, for each of its three directions, which takes longer than
the convolution does by orders of magnitude. A network that stands alone pays for that once; a supernet whose layers have any width pays
at almost every step. A convolution of one pixel is a product of two matrices, which needs no plan, and most convolutions of small
networks are such. The sums are the same ones in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode


class PointwiseAsProducts(TorchFunctionMode):
    """Within the block every convolution of one pixel, one group and stride 1 is a matrix product, whoever asks for it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `TorchFunctionMode`."""
        if func is torch.conv2d and (product := _product(*args, **(kwargs or {}))) is not None:
            return product
        return func(*args, **(kwargs or {}))


def _product(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """The convolution as a product; None where it is none. The names are those of `torch.conv2d`."""
    if (
        input.ndim != 4
        or weight.shape[2:] != (1, 1)
        or groups != 1
        or not _all(stride, 1)
        or not (isinstance(padding, str) or _all(padding, 0))
    ):
        return None
    return linear(input.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def _all(numbers: Any, value: int) -> bool:
    return all(n == value for n in numbers) if isinstance(numbers, list | tuple) else bool(numbers == value)
