"""What of a given network can be chosen: the width of every group of channels, whether a residual block is there, and depthwise kernels.

Groups of channels come from `supernet.given.channels`: the classes that a layer makes are chosen together, as many as are wanted, the
leading ones. A residual block is a module that hands its input on when all of its weights are zero: then it can be left out, whatever it
is called. A depthwise kernel of 5 or more holds smaller ones in its centre (Cai et al., "Once-for-All", 2020, arXiv 1908.09791).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from supernet.evaluation import left_as_it_was
from supernet.given.channels import WHOLE, Integers, Key, Trace, Use, follow

MULTIPLE = 8  # of channels, that hardware likes
SHARES = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)  # of a group's channels
FEWEST = 16  # channels of a group; narrower ones are kept whole
SMALLEST_KERNEL = 3


@dataclass(frozen=True)
class Group:
    """Channels that are kept or left out together, class by class.

    Attributes:
        name: of the first layer that makes them.
        classes: how many.
        channels: that the layer makes of a class: 1, or as many as a group of a grouped convolution has.
        kept: how many classes each option keeps, ascending; the last is all of them.
    """

    name: str
    classes: int
    channels: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Owner:
    """To whom the positions of a dimension of a parameter belong.

    Attributes:
        group: position of the group, -1 where a position is always kept.
        rank: of the position's class in its group, from 0.
    """

    group: Integers
    rank: Integers

    @cached_property
    def groups(self) -> Integers:
        """The groups that own something of it, ascending."""
        return np.unique(self.group[self.group >= 0])

    def kept(self, counts: npt.NDArray[np.int64]) -> Integers:
        """Positions that are kept where so many classes of each group are."""
        return np.flatnonzero((self.group < 0) | (self.rank < counts[self.group]))


@dataclass(frozen=True)
class Anatomy:
    """What can be chosen of a network, and what belongs together in it.

    Attributes:
        groups: of channels, each a choice.
        kernels: depthwise convolutions by name, with the sizes that each offers, ascending.
        optional: names of residual blocks that may be left out.
        owners: of the dimensions of parameters and buffers that narrower networks have less of.
        uses: layers with weights as they ran.
        left: what could not be followed, see `Trace`.
        whole: names of layers that no choice changes, but for the one that makes the logits.
        logits: how many the network gives.
    """

    groups: tuple[Group, ...]
    kernels: dict[str, tuple[int, ...]]
    optional: tuple[str, ...]
    owners: dict[Key, Owner]
    uses: tuple[Use, ...]
    left: dict[str, int]
    whole: tuple[str, ...]
    logits: int

    @cached_property
    def dimensions(self) -> dict[str, list[int]]:
        """Dimensions of parameters and buffers that narrower networks have less of, by name; none of a kernel that is only smaller."""
        found: dict[str, list[int]] = {f"{name}.weight": [] for name in self.kernels}
        for name, dimension in self.owners:
            found.setdefault(name, []).append(dimension)
        return found

    def without(self, names: Collection[str]) -> Anatomy:
        """The same with some things kept as they are: `GROUP.width`, `CONVOLUTION.kernel`, `BLOCK.block`."""
        kept = [i for i, group in enumerate(self.groups) if f"{group.name}.width" not in names]
        new = np.full(len(self.groups) + 1, -1)  # the last stands for what belongs to no group
        new[kept] = np.arange(len(kept))
        owners = {key: Owner(new[owner.group], owner.rank) for key, owner in self.owners.items() if (new[owner.group] >= 0).any()}
        chosen = {key[0] for key in owners}
        whole = dict.fromkeys(use.layer for use in self.uses if use.weight not in chosen)
        return replace(
            self,
            groups=tuple(self.groups[i] for i in kept),
            kernels={name: sizes for name, sizes in self.kernels.items() if f"{name}.kernel" not in names},
            optional=tuple(name for name in self.optional if f"{name}.block" not in names),
            owners=owners,
            left={**self.left, **dict.fromkeys(names, 1)},
            whole=tuple(whole),
        )


def examine(network: nn.Module, image_shape: tuple[int, ...]) -> Anatomy:
    """What can be chosen of a network. Nothing is changed in it.

    Args:
        network: images in, logits out.
        image_shape: (channels, height, width).

    Raises:
        Exception: what the network raises.
        ValueError: see `supernet.given.channels.follow`.
    """
    trace = follow(network, image_shape)
    groups, owners = _groups(trace)
    modules = dict(network.named_modules())
    kernels = {}
    for use in trace.uses:
        module = modules.get(use.layer)
        if type(module) is nn.Conv2d and (sizes := _kernels(module)) and _runs_once(trace, use.weight):
            kernels[use.layer] = sizes
    chosen = {name for name, _ in owners}
    whole = [use.layer for use in trace.uses if use.weight not in chosen]
    optional = residual_blocks(network, image_shape)
    return Anatomy(groups, kernels, optional, owners, tuple(trace.uses), trace.left, tuple(dict.fromkeys(whole)), trace.logits)


def _groups(trace: Trace) -> tuple[tuple[Group, ...], dict[Key, Owner]]:
    """The classes that a layer makes are one group, with those of all layers that make some of the same."""
    makers = {use.weight: trace.owners[use.weight, 0] for use in trace.uses}
    kept_whole = {WHOLE}
    while True:
        groups: list[list[str]] = []
        found: list[set[int]] = []
        for name, classes in makers.items():
            own = set(classes.tolist())
            if own & kept_whole:
                continue
            joined = [i for i, other in enumerate(found) if own & other]
            groups = [*(g for i, g in enumerate(groups) if i not in joined), [*(n for i in joined for n in groups[i]), name]]
            found = [*(f for i, f in enumerate(found) if i not in joined), own.union(*(found[i] for i in joined))]
        before = len(kept_whole)
        for names, all_classes in zip(groups, found, strict=True):
            if any(set(makers[name].tolist()) != all_classes for name in names):  # a layer makes some of them, another others
                kept_whole |= all_classes
        for classes in makers.values():
            if set(classes.tolist()) & kept_whole:
                kept_whole |= set(classes.tolist())
        if len(kept_whole) == before:
            break
    order = {use.weight: i for i, use in enumerate(trace.uses)}
    made: list[Group] = []
    place: dict[int, tuple[int, int]] = {}
    for names in sorted(groups, key=lambda names: min(order[name] for name in names)):
        first = min(names, key=order.__getitem__)
        labels = list(dict.fromkeys(makers[first].tolist()))
        group = Group(first.rpartition(".")[0], len(labels), len(makers[first]) // len(labels), ())
        kept = _kept(group.classes, group.channels)
        if group.classes * group.channels < FEWEST or len(kept) < 2:
            continue
        place |= {label: (len(made), rank) for rank, label in enumerate(labels)}
        made.append(Group(group.name, group.classes, group.channels, kept))
    owners = {}
    for key, classes in trace.owners.items():
        pairs = np.array([place.get(label, (-1, 0)) for label in classes.tolist()], dtype=np.int64).reshape(-1, 2)
        if (pairs[:, 0] >= 0).any():
            owners[key] = Owner(pairs[:, 0], pairs[:, 1])
    return tuple(made), owners


def _kept(classes: int, channels: int) -> tuple[int, ...]:
    """Classes that each option keeps: the same number of options for all groups, some of them equal where a group is narrow."""
    step = math.lcm(MULTIPLE, channels) // channels
    kept = [min(classes, max(step, round(share * classes / step) * step)) for share in SHARES[:-1]]
    return (*kept, classes) if kept[0] < classes else (classes,)


def _kernels(module: nn.Conv2d) -> tuple[int, ...]:
    """The sizes that a depthwise convolution offers; none where it has no smaller one in its centre."""
    size, dilation, padding = module.kernel_size[0], module.dilation[0], module.padding
    square = module.kernel_size == (size, size) and module.dilation == (dilation, dilation) and module.padding_mode == "zeros"
    depthwise = module.groups == module.in_channels == module.out_channels
    centred = size % 2 == 1 and padding == (dilation * (size // 2),) * 2
    return tuple(range(SMALLEST_KERNEL, size + 1, 2)) if square and depthwise and centred and size > SMALLEST_KERNEL else ()


def _runs_once(trace: Trace, weight: str) -> bool:
    return sum(use.weight == weight for use in trace.uses) == 1


def residual_blocks(network: nn.Module, image_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the innermost modules with layers that hand their input on when all of their weights are zero, in the order they ran."""
    arrived: dict[str, list[Tensor | None]] = {}  # what a module got each time that it ran; None where it gave something of another shape
    hooks = []
    for name, module in network.named_modules():
        if name and any(isinstance(layer, nn.Conv2d | nn.Linear) for layer in module.modules()):

            def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any, name: str = name) -> None:
                shapes = [value.shape if isinstance(value, Tensor) else None for value in (*inputs, output)]
                same = len(inputs) == 1 and shapes[0] is not None and shapes[0] == shapes[1]
                arrived.setdefault(name, []).append(inputs[0].clone() if same else None)

            hooks.append(module.register_forward_hook(keep))
    modules = dict(network.named_modules())
    with torch.no_grad(), left_as_it_was(network):
        try:
            network.eval()(torch.rand(1, *image_shape, device=next(network.parameters()).device))
        finally:
            for hook in hooks:
                hook.remove()
        once = {name: runs[0] for name, runs in arrived.items() if len(runs) == 1 and runs[0] is not None}
        found = [name for name, x in once.items() if _hands_on(modules[name], x)]
    return tuple(name for name in found if not any(other.startswith(f"{name}.") for other in found))


def _hands_on(module: nn.Module, x: Tensor) -> bool:
    """Whether a module without weights gives what it gets."""
    kept = [parameter.detach().clone() for parameter in module.parameters()]
    try:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
            made = module(x.clone())
        return isinstance(made, Tensor) and bool(torch.equal(made, x))
    except RuntimeError:
        return False
    finally:
        with torch.no_grad():
            for parameter, value in zip(module.parameters(), kept, strict=True):
                parameter.copy_(value)
