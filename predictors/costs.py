"""Costs that are counted: multiply-accumulates, parameters and BitOps, from tables over the pieces of a network.

MACs are multiply-accumulates (what the mobile literature calls FLOPs) of whatever multiplies and adds, see
`predictors.multiply_accumulates`; parameters are all that `Module.parameters()` counts. A network's cost is the sum of its pieces', so a
population needs one look-up a piece (`evonas.tables`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evonas.budget import BoundedCost, Cost
from evonas.space import IDLE, Architecture, Population, SearchSpace
from evonas.tables import AdditiveCost, CostTable, Part, Shape, tabulate
from predictors.multiply_accumulates import MacCounter

BYTES = 4  # of a parameter


def count_params(module: nn.Module, input_shape: Shape) -> float:
    """Number of weights and biases."""
    return float(sum(parameter.numel() for parameter in module.parameters()))


def count_macs(module: nn.Module, input_shape: Shape) -> float:
    """Multiply-accumulates for one image of `input_shape` (channels, height, width), counted while it runs.

    Raises:
        UsageError: the module does something that cannot be counted.
    """
    counter = MacCounter()
    with _plain_attention(), counter:
        _run(module, input_shape)
    return float(counter.total)


def count_bit_ops(module: nn.Module, input_shape: Shape) -> float:
    """Multiply-accumulates of quantised layers times the bits of their weights and of their activations.

    Quantised is a layer that says so by `weight_bits` and `activation_bits`. Layers in full precision count nothing: they are the same
    in all networks of a space, and published figures leave them out (ResNet-18 of 4 bits: 16 times 1.70 G).
    """
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        bits = getattr(layer, "weight_bits", 0) * getattr(layer, "activation_bits", 0)
        if isinstance(layer, nn.Conv2d):
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            total += bits * (output.numel() * kernel * layer.in_channels // layer.groups)
        elif isinstance(layer, nn.Linear):
            total += bits * output.numel() * layer.in_features

    hooks = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    try:
        _run(module, input_shape)
    finally:
        for hook in hooks:
            hook.remove()
    return float(total)


def _run(module: nn.Module, input_shape: Shape) -> None:
    """Run a module once on zeros, as in use."""
    modes = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad():
            module.eval()(zeros(input_shape, next((p.device for p in module.parameters()), torch.device("cpu"))))
    finally:
        for part, training in modes.items():  # one by one: norms may be frozen
            part.training = training


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Within the block transformer layers run in their plain operations, or in one that tells nothing."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def macs(space: SearchSpace, parts: Sequence[Part]) -> AdditiveCost:
    """MACs of every architecture."""
    return tabulate(space, parts, count_macs)


def bit_ops(space: SearchSpace, parts: Sequence[Part]) -> AdditiveCost:
    """BitOps of every architecture: multiply-accumulates times bits of weights times bits of activations, of the quantised layers."""
    return tabulate(space, parts, count_bit_ops)


def operators(space: SearchSpace) -> AdditiveCost:
    """How many choices of every architecture take an operator, and not an option that is named as none (`IDLE`)."""
    tables = [CostTable((i,), np.array([float(option not in IDLE) for option in choice.options])) for i, choice in enumerate(space.choices)]
    return AdditiveCost("", 0.0, tuple(tables))


def params(space: SearchSpace, parts: Sequence[Part]) -> AdditiveCost:
    """Parameters of every architecture."""
    return tabulate(space, parts, count_params)


def size_of(params: Cost) -> Cost:
    """Bytes of a network's weights as they are delivered, four a parameter; with exact ends where the parameters have them."""
    return BoundedSize(params) if isinstance(params, BoundedCost) else Size(params)


@dataclass(frozen=True)
class Size:
    """Bytes of the weights, a cost.

    Attributes:
        params: the parameters, a cost.
    """

    params: Any
    unit: str = "B"

    def __call__(self, population: Population) -> npt.NDArray[np.float64]:
        """Of every row: shape (n,)."""
        return BYTES * np.asarray(self.params(population), dtype=np.float64)


class BoundedSize(Size):
    """As `Size`, of parameters whose ends are known exactly."""

    def extremes(self, space: SearchSpace) -> tuple[Architecture, Architecture]:
        """The smallest and the largest architecture."""
        ends: tuple[Architecture, Architecture] = self.params.extremes(space)
        return ends


def counted(space: SearchSpace, parts: Sequence[Part]) -> dict[str, AdditiveCost]:
    """What is counted of every network, by name: multiply-accumulates and parameters."""
    return {"macs": macs(space, parts), "params": params(space, parts)}


def zeros(shape: Shape, device: torch.device | None = None) -> Any:
    """Zeros for one image: a tensor, or a tuple of what `shape` lists."""
    return torch.zeros(1, *shape, device=device) if isinstance(shape[0], int) else tuple(zeros(part, device) for part in shape)
