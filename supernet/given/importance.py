"""How much every channel of a given network matters, and channels in that order, so that the leading ones are the best to keep.

Three ways to say it, all added up over a class of channels: the size of the weights that make and read it (L1: Li et al., "Pruning Filters
for Efficient ConvNets", 2016, arXiv 1608.08710), its batch-norm scales (Liu et al., "Learning Efficient Convolutional Networks through
Network Slimming", 2017, arXiv 1708.06519), and how much the loss would change without it to first order (Molchanov et al., "Importance
Estimation for Neural Network Pruning", 2019, arXiv 1906.10771: the square of the sum of weight times gradient, over batches).

Sorting moves whole classes, in everything that makes or reads them; the outputs of the network stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.data import Batch
from supernet.evaluation import left_as_it_was
from supernet.given.anatomy import Anatomy, Owner

Floats = npt.NDArray[np.float64]
Importance = list[Floats]  # for every group, how much each of its classes matters


def by_weights(network: nn.Module, anatomy: Anatomy) -> Importance:
    """Mean absolute weight of a class, each parameter against its own mean."""
    return _added(anatomy, {name: _relative(p.detach().abs()) for name, p in network.named_parameters() if p.ndim > 1})


def by_scales(network: nn.Module, anatomy: Anatomy) -> Importance:
    """Absolute batch-norm scale of a class; by weights where no batch norm follows it."""
    scales = {
        f"{name}.weight": module.weight.detach().abs()
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.affine
    }
    return [own if own.any() else other for own, other in zip(_added(anatomy, scales), by_weights(network, anatomy), strict=True)]


def by_loss(network: nn.Module, anatomy: Anatomy, batches: Iterable[Batch]) -> Importance:
    """What the loss would change by without a class, to first order: squared sums of weight times gradient, added up over batches."""
    total = [np.zeros(group.classes) for group in anatomy.groups]
    with left_as_it_was(network):
        network.eval()
        for images, labels in batches:
            network.zero_grad(set_to_none=True)
            cross_entropy(network(images).float(), labels).backward()
            changes = {name: p.detach() * p.grad for name, p in network.named_parameters() if p.grad is not None}
            for sums, found in zip(total, _added(anatomy, changes, dimensions=(0,)), strict=True):
                sums += found**2
    network.zero_grad(set_to_none=True)
    return total


WAYS: dict[str, Callable[..., Importance]] = {"weights": by_weights, "scales": by_scales, "loss": by_loss}


def _relative(values: Tensor) -> Tensor:
    return values / values.mean().clamp_min(1e-12)


def _added(anatomy: Anatomy, values: dict[str, Tensor], dimensions: tuple[int, ...] = (0, 1)) -> Importance:
    """Values of parameters, averaged over all but an owned dimension, added up by class."""
    total = [np.zeros(group.classes) for group in anatomy.groups]
    for (name, dimension), owner in anatomy.owners.items():
        if name not in values or dimension not in dimensions:
            continue
        value = values[name].movedim(dimension, 0).reshape(values[name].shape[dimension], -1)
        per_position = (value.sum(1) if len(dimensions) == 1 else value.mean(1)).double().cpu().numpy()
        for group in owner.groups.tolist():
            inside = owner.group == group
            np.add.at(total[group], owner.rank[inside], per_position[inside])
    return total


def sort(network: nn.Module, anatomy: Anatomy, importance: Importance) -> None:
    """Order the classes of every group by importance, the most important first, in place."""
    orders = [np.argsort(-values, kind="stable") for values in importance]
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with torch.no_grad():
        for (name, dimension), owner in anatomy.owners.items():
            taken = torch.from_numpy(_sources(owner, orders)).to(state[name].device)
            state[name].copy_(state[name].index_select(dimension, taken))


def _sources(owner: Owner, orders: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """For every position, the one whose content moves there."""
    found, rank = np.arange(len(owner.group)), owner.rank
    for g in owner.groups.tolist():
        positions = np.flatnonzero(owner.group == g)
        by_rank = positions[np.argsort(rank[positions], kind="stable")]  # of one class together, in their order
        first = np.searchsorted(rank[by_rank], np.arange(len(orders[g]) + 1))
        for new, old in enumerate(orders[g].tolist()):
            found[by_rank[first[new] : first[new + 1]]] = by_rank[first[old] : first[old + 1]]
    return found
