"""Costs that add up: one table for each block, over the choices that the block's cost depends on.

MACs are multiply-accumulates of convolutions and linear layers (what the mobile literature calls FLOPs); parameters are all
that `Module.parameters()` counts. A network's cost is the sum of its blocks', so a population needs one look-up a block.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evonas.space import Architecture, Population, SearchSpace


class Part(Protocol):
    """A piece of a network whose cost depends on a few choices: what `ChainSupernet.parts` gives."""

    @property
    def name(self) -> str: ...

    @property
    def choices(self) -> tuple[int, ...]: ...

    @property
    def input_shape(self) -> tuple[int, ...]: ...

    @property
    def build(self) -> Callable[..., nn.Module]: ...


IDLE = ("identity", "skip", "skip_connect", "none")

Measure = Callable[[nn.Module, tuple[int, ...]], float]


@dataclass(frozen=True)
class AdditiveCost:
    """A sum of tables.

    Attributes:
        unit: of the values, "" for a plain count.
        constant: what every network has.
        tables: (columns of the population, table with one axis for each of them). No two tables share a column.
    """

    unit: str
    constant: float
    tables: tuple[tuple[tuple[int, ...], npt.NDArray[np.float64]], ...]

    def __call__(self, population: Population) -> npt.NDArray[np.float64]:
        """The cost of every row: shape (n,)."""
        population = np.asarray(population)
        total = np.full(len(population), self.constant, dtype=np.float64)
        for columns, table in self.tables:
            flat = population[:, columns[0]]
            for column, size in zip(columns[1:], table.shape[1:], strict=True):
                flat = flat * size + population[:, column]
            total += table.ravel().take(flat)
        return total

    def extremes(self, space: SearchSpace) -> tuple[Architecture, Architecture]:
        """The cheapest and the dearest architecture of a space, exactly: tables share no column, so each may choose alone."""
        found = []
        for pick in (np.argmin, np.argmax):
            row = np.array([indices[0] for indices in space.allowed], dtype=np.int64)
            for columns, table in self.tables:
                options = np.ix_(*(space.allowed[column] for column in columns))
                best = np.unravel_index(pick(table[options]), table[options].shape)
                for column, position in zip(columns, best, strict=True):
                    row[column] = space.allowed[column][int(position)]
            found.append(tuple(row.tolist()))
        return found[0], found[1]


def tabulate(space: SearchSpace, parts: Sequence[Part], measure: Measure, unit: str = "", *, allowed_only: bool = False) -> AdditiveCost:
    """Measure every option of every part once.

    Args:
        space: the coordinates of the choices.
        parts: all parts of the network.
        measure: cost of a stand-alone module for one image of a shape (channels, height, width).
        unit: of what `measure` returns.
        allowed_only: leave out options that the space does not allow, where measuring is dear; they cost NaN, which keeps no bound.
    """
    constant = 0.0
    tables: dict[tuple[int, ...], npt.NDArray[np.float64]] = {}
    for part in parts:
        if not part.choices:
            constant += measure(part.build(), part.input_shape)
            continue
        sizes = [len(space.choices[column].options) for column in part.choices]
        table = np.full(sizes, np.nan)
        offered = [space.allowed[column] if allowed_only else range(len(space.choices[column].options)) for column in part.choices]
        for options in itertools.product(*offered):
            table[options] = measure(part.build(*options), part.input_shape)
        tables[part.choices] = tables.get(part.choices, 0.0) + table
    columns = [column for choices in tables for column in choices]
    if len(set(columns)) != len(columns):
        raise ValueError("two parts share some of the choices that they read; expected all of them or none")
    return AdditiveCost(unit, constant, tuple(tables.items()))


def count_params(module: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Number of weights and biases."""
    return float(sum(parameter.numel() for parameter in module.parameters()))


def count_macs(module: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Multiply-accumulates for one image of `input_shape` (channels, height, width), from the shapes of the layers."""
    return _count(module, input_shape, lambda layer: 1)


def count_bit_ops(module: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Multiply-accumulates of quantised layers times the bits of their weights and of their activations.

    Quantised is a layer that says so by `weight_bits` and `activation_bits`. Layers in full precision count nothing: they are the same
    in all networks of a space, and published figures leave them out (ResNet-18 of 4 bits: 16 times 1.70 G).
    """
    return _count(module, input_shape, lambda layer: getattr(layer, "weight_bits", 0) * getattr(layer, "activation_bits", 0))


def _count(module: nn.Module, input_shape: tuple[int, ...], weight: Callable[[nn.Module], int]) -> float:
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            total += weight(layer) * (output.numel() * kernel * layer.in_channels // layer.groups)
        elif isinstance(layer, nn.Linear):
            total += weight(layer) * output.numel() * layer.in_features

    hooks = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, *input_shape, device=next((p.device for p in module.parameters()), torch.device("cpu"))))
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return float(total)


def macs(space: SearchSpace, parts: Sequence[Part]) -> AdditiveCost:
    """MACs of every architecture."""
    return tabulate(space, parts, count_macs)


def bit_ops(space: SearchSpace, parts: Sequence[Part]) -> AdditiveCost:
    """BitOps of every architecture: multiply-accumulates times bits of weights times bits of activations, of the quantised layers."""
    return tabulate(space, parts, count_bit_ops)


def operators(space: SearchSpace) -> AdditiveCost:
    """How many choices of every architecture take an operator, and not an option that is named as none (`IDLE`)."""
    tables = [((i,), np.array([float(option not in IDLE) for option in choice.options])) for i, choice in enumerate(space.choices)]
    return AdditiveCost("", 0.0, tuple(tables))


def params(space: SearchSpace, parts: Sequence[Part]) -> AdditiveCost:
    """Parameters of every architecture."""
    return tabulate(space, parts, count_params)
