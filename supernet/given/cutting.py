"""A network with fewer channels, smaller depthwise kernels and fewer blocks: run inside the given one, or cut out of it.

Run inside, every parameter and batch-norm statistic is replaced, for one forward pass, by its kept part, which shares memory with the
whole (a leading part is a view; a part of a concatenation is picked). Cut out, the same parts are copied into a copy of the modules, whose
attributes then say the new sizes: the source of the given network, with other numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.given.anatomy import Anatomy
from supernet.given.channels import Integers
from supernet.pointwise import PointwiseAsProducts
from supernet.slicing import middle


@dataclass(frozen=True)
class Cut:
    """What a network keeps.

    Attributes:
        counts: classes of every group, shape (groups,).
        kernels: of depthwise convolutions by name.
        without: names of blocks that are left out.
    """

    counts: tuple[int, ...]
    kernels: Mapping[str, int]
    without: frozenset[str]


class Path(nn.Module):
    """The given network with what a cut keeps; it shares the weights.

    Args:
        body: the given network.
        anatomy: of it.
        cut: what is kept.
        picked: positions by (name, dimension, counts), kept between paths.
    """

    def __init__(self, body: nn.Module, anatomy: Anatomy, cut: Cut, picked: dict[Any, Any]) -> None:
        super().__init__()
        self.body = body
        self._anatomy, self._cut, self._picked = anatomy, cut, picked

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        parts, copies = self._parts()
        with self._attributes(), PointwiseAsProducts() if x.is_cuda else nullcontext():
            logits: Tensor = functional_call(self.body, parts, (x,))
        if torch.is_grad_enabled() or self.body.training:
            with torch.no_grad():
                for buffer, positions, part in copies:
                    buffer[positions] = part
        return logits

    def _parts(self) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor, Tensor]]]:
        """The kept parts by name, and those of buffers that are copies: what is written into them has to be written back."""
        skipped = tuple(f"{name}." for name in self._cut.without)
        parts: dict[str, Tensor] = {}
        copies: list[tuple[Tensor, Tensor, Tensor]] = []
        counts = np.array(self._cut.counts, dtype=np.int64)
        for prefix, module in self.body.named_modules():
            if f"{prefix}.".startswith(skipped) and skipped:
                continue
            for values, learned in ((module._parameters, True), (module._buffers, False)):
                for local, value in values.items():
                    name = f"{prefix}.{local}" if prefix else local
                    if value is None or (dimensions := self._anatomy.dimensions.get(name)) is None:
                        continue
                    part: Tensor = value
                    for dimension in dimensions:
                        part = self._take(part, name, dimension, counts)
                    if local == "weight" and prefix in self._cut.kernels:
                        part = middle(part, self._cut.kernels[prefix])
                    parts[name] = part
                    if not learned and (positions := self._positions(name, 0, counts, value.device)[0]) is not None:
                        copies.append((value, positions, part))
        return parts, copies

    def _positions(self, name: str, dimension: int, counts: Integers, device: torch.device) -> tuple[Tensor | None, int]:
        """Positions that are kept where they do not lead, and how many there are. Moved to a device once, which would wait for it."""
        owner = self._anatomy.owners[name, dimension]
        key = (name, dimension, counts[owner.groups].tobytes(), device)
        if key not in self._picked:
            kept = owner.kept(counts)
            leads = np.array_equal(kept, np.arange(len(kept)))
            self._picked[key] = (None if leads else torch.from_numpy(kept).to(device), len(kept))
        found: tuple[Tensor | None, int] = self._picked[key]
        return found

    def _take(self, value: Tensor, name: str, dimension: int, counts: Integers) -> Tensor:
        positions, count = self._positions(name, dimension, counts, value.device)
        if count == value.shape[dimension]:
            return value
        return value.narrow(dimension, 0, count) if positions is None else value.index_select(dimension, positions)

    @contextmanager
    def _attributes(self) -> Iterator[None]:
        """What modules know of their sizes, for the time of a forward pass; blocks that are left out hand on what they get."""
        counts = np.array(self._cut.counts, dtype=np.int64)
        modules = dict(self.body.named_modules())
        before: list[tuple[nn.Module, str, Any]] = []
        try:
            for use in self._anatomy.uses:
                prefix, module = use.layer, modules[use.layer]
                if isinstance(module, nn.Conv2d) and use.groups > 1 and (use.weight, 0) in self._anatomy.owners:
                    before.append((module, "groups", module.groups))
                    module.groups = kept_groups(self._anatomy, use.weight, module, counts)
                if prefix in self._cut.kernels and isinstance(module, nn.Conv2d):
                    before.append((module, "padding", module.padding))
                    module.padding = centred_padding(module, self._cut.kernels[prefix])
            for name in self._cut.without:
                modules[name].__dict__["forward"] = _identity
            yield
        finally:
            for module, attribute, value in before:
                setattr(module, attribute, value)
            for name in self._cut.without:
                modules[name].__dict__.pop("forward", None)


def _identity(x: Tensor, *more: Any, **options: Any) -> Tensor:
    return x


class LeftOut(nn.Module):
    """In place of a block that is left out: hands on what it gets, whatever else it is told."""

    def forward(self, x: Tensor, *more: Any, **options: Any) -> Tensor:
        """What arrives."""
        return x


def kept_groups(anatomy: Anatomy, weight: str, module: nn.Conv2d, counts: Integers) -> int:
    """Groups of a grouped or depthwise convolution where so many classes are kept."""
    kept = len(anatomy.owners[weight, 0].kept(counts))
    return kept * module.groups // module.out_channels


def centred_padding(module: nn.Conv2d, size: int) -> tuple[int, int]:
    """Padding with which a smaller kernel gives images of the same size."""
    return (module.dilation[0] * (size // 2), module.dilation[1] * (size // 2))


def cut_out(body: nn.Module, anatomy: Anatomy, cut: Cut) -> nn.Module:
    """A copy of the given network that holds what a cut keeps and nothing else."""
    path = Path(body, anatomy, cut, {})
    with torch.no_grad():
        parts, _ = path._parts()
        network = copy.deepcopy(body)
        modules = dict(network.named_modules())
        for name, part in parts.items():
            prefix, _, local = name.rpartition(".")
            holder = modules[prefix]
            own = part.detach().clone()
            if local in holder._parameters:
                before = holder._parameters[local]
                assert before is not None
                holder._parameters[local] = nn.Parameter(own, requires_grad=before.requires_grad)
            else:
                holder._buffers[local] = own
    resize(network, cut.without)
    for prefix, size in cut.kernels.items():
        if isinstance(module := modules[prefix], nn.Conv2d):
            module.padding = centred_padding(module, size)
            module._reversed_padding_repeated_twice = [p for p in reversed(module.padding) for _ in range(2)]
    return network


def resize(network: nn.Module, without: frozenset[str]) -> None:
    """Let modules say the sizes that their parameters have, and leave blocks out."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            filters = module.out_channels // module.groups
            module.kernel_size = (module.weight.shape[2], module.weight.shape[3])
            if module.groups > 1:
                module.groups = module.weight.shape[0] // filters
            module.out_channels = module.weight.shape[0]
            module.in_channels = module.weight.shape[1] * module.groups
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, _BatchNorm) and (known := module.weight if module.affine else module.running_mean) is not None:
            module.num_features = len(known)
    for name in without:
        parent, _, local = name.rpartition(".")
        setattr(network.get_submodule(parent), local, LeftOut())
