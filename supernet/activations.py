"""Activation functions by name, and the weighted sum of several of them in little more time than one takes.

Pools of them are the second factor of Wang et al., "Scalable NAS with Factorizable Architectural Parameters", 2019, arXiv 1912.13256. Open
there and decided: which functions, and their slopes.

All functions of a pool are sums of a few that share one sigmoid, so that a mixture is a handful of passes over a map and keeps nothing but
that map and its own slope for the gradients (measured: docs/evidence/factorized.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evonas.errors import UsageError, unknown

SLOPE = 0.1  # of leaky ReLU below zero
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(SLOPE),
    "elu": nn.ELU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu6": nn.ReLU6,
    "h_swish": nn.Hardswish,
    "prelu": nn.PReLU,  # its slope is learned with the weights of the network
    "identity": nn.Identity,
}
SIX = ("relu", "leaky_relu", "elu", "swish", "tanh", "sigmoid")
# Every function without weights as a sum of these: x, relu(x), min(e^x, 1), sigmoid(x), x sigmoid(x), sigmoid(2x), relu6(x), h_swish(x), 1.
BASES = 9
SUMS: dict[str, dict[int, float]] = {
    "identity": {0: 1.0},
    "relu": {1: 1.0},
    "leaky_relu": {0: SLOPE, 1: 1 - SLOPE},
    "elu": {1: 1.0, 2: 1.0, 8: -1.0},
    "sigmoid": {3: 1.0},
    "swish": {4: 1.0},
    "tanh": {5: 2.0, 8: -1.0},
    "relu6": {6: 1.0},
    "h_swish": {7: 1.0},
}


class ActivationPool(nn.ModuleList):
    """Activation functions in an order.

    Args:
        names: out of `ACTIVATIONS`.

    Raises:
        UsageError: an unknown name.
    """

    def __init__(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in ACTIVATIONS:
                raise unknown("activation", name, ACTIVATIONS)
        super().__init__(ACTIVATIONS[name]() for name in names)
        self._closed = [i for i, name in enumerate(names) if name in SUMS]
        self._sums = torch.zeros(len(self._closed), BASES, dtype=torch.float64)
        for row, i in enumerate(self._closed):
            for base, factor in SUMS[names[i]].items():
                self._sums[row, base] = factor

    def mixed(self, x: Tensor, weights: Tensor) -> Tensor:
        """Their weighted sum; those of zero weight are not run.

        Raises:
            UsageError: every weight is zero.
        """
        shares = weights.tolist()
        if not any(shares):
            raise UsageError("All weights of a mixture are zero; expected at least one option to take part.")
        kept = [i for i, share in enumerate(shares) if share != 0]
        if len(kept) == 1:
            return torch.as_tensor(weights[kept[0]] * self[kept[0]](x))
        made = [weights[i] * self[i](x) for i in kept if i not in self._closed]
        if any(i in self._closed for i in kept):
            factors = weights[self._closed] @ self._sums.to(weights)
            made.append(torch.as_tensor(_SumOfBases.apply(x, factors)))
        return made[0] if len(made) == 1 else torch.stack(made).sum(0)


class _SumOfBases(torch.autograd.Function):
    """The sum of the bases by their factors, shape (BASES,), with its slope in closed form."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor) -> Tensor:
        by = factors.tolist()
        with torch.no_grad():
            bases = _bases(x, by)
            total = _added(x, by, bases) + by[8]
            if ctx.needs_input_grad[0]:
                slope = _added(x, by, _slopes(x, by, bases))
            ctx.save_for_backward(x, factors, slope if ctx.needs_input_grad[0] else x)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, factors, slope = ctx.saved_tensors
        by_factor = None
        if ctx.needs_input_grad[1]:  # what each base makes is computed again rather than kept
            values = _bases(x, factors.tolist())
            found = [(gradient * values[i]).sum() if i in values else factors.new_zeros(()) for i in range(BASES - 1)]
            by_factor = torch.stack([*found, gradient.sum()]).to(factors)
        return (gradient * slope if ctx.needs_input_grad[0] else None), by_factor


def _bases(x: Tensor, by: Sequence[float]) -> dict[int, Tensor]:
    """The bases that have a factor, by number, without the constant; `torch.elu` and `torch.tanh` take ten times as long on a CPU."""
    found: dict[int, Tensor] = {}
    if by[0]:
        found[0] = x
    if by[1]:
        found[1] = torch.relu(x)
    if by[2] or by[3] or by[4]:
        found[3] = torch.sigmoid(x)
    if by[2]:
        below = found[3].clamp(max=0.5)
        found[2] = below / (1 - below)
    if by[4]:
        found[4] = x * found[3]
    if by[5]:
        found[5] = torch.sigmoid(2 * x)
    if by[6]:
        found[6] = x.clamp(0, 6)
    if by[7]:
        found[7] = nn.functional.hardswish(x)
    return found


def _slopes(x: Tensor, by: Sequence[float], bases: dict[int, Tensor]) -> dict[int, Tensor]:
    """The slopes of those bases."""
    found: dict[int, Tensor] = {}
    below = (x <= 0).to(x) if by[1] or by[2] else x
    if by[0]:
        found[0] = torch.ones_like(x)
    if by[1]:
        found[1] = 1 - below
    if by[2]:
        found[2] = bases[2] * below
    if by[3] or by[4]:
        found[3] = bases[3] * (1 - bases[3])
    if by[4]:
        found[4] = torch.addcmul(bases[3], x, found[3])
    if by[5]:
        found[5] = 2 * bases[5] * (1 - bases[5])
    if by[6]:
        found[6] = ((x > 0) & (x < 6)).to(x)
    if by[7]:
        found[7] = torch.where(x.abs() < 3, x / 3 + 0.5, (x >= 3).to(x))
    return found


def _added(x: Tensor, by: Sequence[float], values: dict[int, Tensor]) -> Tensor:
    total = torch.zeros_like(x)
    for i, value in values.items():
        if by[i]:
            total.add_(value, alpha=by[i])
    return total
