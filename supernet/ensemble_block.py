"""Blocks of ensembles: members share their first layers and go their own ways after a split.

Chen, Fu and Ling, "One-Shot Neural Ensemble Architecture Search", 2021, arXiv 2104.00597. Layers before the split run once, those after it
for every member with an operator of its own; every member has a head of its own, and the ensemble says the mean of their logits. What flows
back from the members at the split is divided by their number, so that the trunk learns at the pace of a single network.

Decided where the paper is silent: every member has weights of its own in the supernet as well. Shared ones would share batch-norm
statistics between values that went different ways. Between blocks a value is a tuple, one tensor a member; before the split it is the same
tensor for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from evonas.space import Choice
from supernet.blocks import Block, Part, Shape, registered, require_options
from supernet.slicing import plain

Tensors = tuple[Tensor, ...]


class _Divided(torch.autograd.Function):
    """The identity, whose gradient is divided."""

    @staticmethod
    def forward(context: Any, x: Tensor, by: int) -> Tensor:
        context.by = by
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / context.by, None


class ToMembers(nn.Module):
    """What a module makes, for every member.

    Args:
        module: tensor in, tensor out.
        members: of the ensemble.
    """

    def __init__(self, module: nn.Module, members: int) -> None:
        super().__init__()
        self.module, self.members = module, members

    def forward(self, x: Tensor) -> Tensors:
        return (self.module(x),) * self.members


class Together(nn.Module):
    """A layer before the split: it runs once. Tuple in, tuple out."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensors) -> Tensors:
        return (self.module(x[0]),) * len(x)


class Apart(nn.Module):
    """A layer after the split: every member has its own. Tuple in, tuple out.

    Args:
        modules: one a member.
        first: whether the split is just before it.
    """

    def __init__(self, modules: Sequence[nn.Module], first: bool) -> None:
        super().__init__()
        self.members, self.first = nn.ModuleList(modules), first

    def forward(self, x: Tensors) -> Tensors:
        return tuple(module(value) for module, value in zip(self.members, divided(x) if self.first else x, strict=True))


class Heads(nn.Module):
    """A head for every member: tuple in, the mean of their logits out.

    Args:
        heads: one a member.
        first: whether the split is just before them.
    """

    def __init__(self, heads: Sequence[nn.Module], first: bool) -> None:
        super().__init__()
        self.heads, self.first = nn.ModuleList(heads), first

    def members(self, x: Tensors) -> Tensor:
        """Logits of every member, shape (members, n, classes)."""
        return torch.stack([head(value) for head, value in zip(self.heads, divided(x) if self.first else x, strict=True)])

    def forward(self, x: Tensors) -> Tensor:
        return self.members(x).mean(0)


def divided(x: Tensors) -> Tensors:
    """The same values, whose gradients are divided by their number."""
    if not x[0].requires_grad:
        return x
    return tuple(cast(Tensor, _Divided.apply(value, len(x))) for value in x)


class EnsembleBlock(Block):
    """A layer of an ensemble: one operator before the split, one a member after it.

    Args:
        name: as in `Block`.
        layer: its number, from 0.
        splits: how many layers are shared, by option of the split.
        reads: the split, and the operator of every member.
        operators: makes the modules by option name, anew for every member; the trunk has those of the first.
    """

    def __init__(
        self, name: str, layer: int, splits: Sequence[int], reads: Sequence[str], operators: Callable[[], Mapping[str, nn.Module]]
    ) -> None:
        super().__init__(name, reads)
        self.layer, self.splits = layer, tuple(splits)
        made = [operators() for _ in reads[1:]]
        self.members = nn.ModuleList(registered(each) for each in made)
        self._keys, self._in_order = tuple(self.options_of(0)), tuple(made[0])

    def options_of(self, member: int) -> nn.ModuleDict:
        """The operators of a member."""
        return cast(nn.ModuleDict, self.members[member])

    def require(self, choices: Sequence[Choice]) -> None:
        """See `Block.require`."""
        for choice in choices[1:]:
            require_options(self.name, choice, self._in_order)

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`."""
        shared, operators = self.splits[options[0]], options[1:]
        modules = [self.options_of(member)[self._keys[operator]] for member, operator in enumerate(operators)]
        return Together(modules[0]) if self.layer < shared else Apart(modules, self.layer == shared)

    def parts(self, input_shape: Shape) -> list[Part]:
        """One piece a member, for a single tensor: the first is there in any case, the others after the split."""

        def make(member: int) -> Callable[..., nn.Module]:
            def build(split: int, operator: int, *, input_shape: Shape) -> nn.Module:
                if member and self.layer < self.splits[split]:
                    return nn.Identity()
                return plain(self.options_of(member)[self._keys[operator]])

            return build

        return [
            Part(f"{self.name}, member {member}", (0, member + 1), (input_shape[0],), make(member)) for member in range(len(self.reads) - 1)
        ]


class HeadsBlock(Block):
    """The heads of all members, behind the last layer.

    Args:
        layers: before it.
        splits: how many of them are shared, by option of the split.
        split: the choice.
        heads: one a member.
    """

    def __init__(self, layers: int, splits: Sequence[int], split: str, heads: Sequence[nn.Module]) -> None:
        super().__init__("heads", [split])
        self.layers, self.splits = layers, tuple(splits)
        self.heads = nn.ModuleList(heads)

    def active(self, *options: int) -> nn.Module:
        """See `Block.active`."""
        return Heads(list(self.heads), self.layers == self.splits[options[0]])

    def parts(self, input_shape: Shape) -> list[Part]:
        """Every head by itself, for a single tensor; their mean costs nothing."""
        return [Part(f"head {i}", (), (input_shape[0],), _alone(head)) for i, head in enumerate(self.heads)]


def _alone(head: nn.Module) -> Callable[..., nn.Module]:
    return lambda *, input_shape: plain(head)
