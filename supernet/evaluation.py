"""What a network is worth on images, and the batch-norm statistics that it needs for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.data import Batch, Part
from supernet.device import autocast


def accuracy(network: nn.Module, part: Part, device: torch.device, batch_size: int = 500) -> float:
    """Share of the images of `part` that the network classifies right, in [0, 1]."""
    return accuracy_and_likelihood(network, part, device, batch_size)[0]


def accuracy_and_likelihood(network: nn.Module, part: Part, device: torch.device, batch_size: int = 500) -> tuple[float, float]:
    """Share of the images of `part` that the network classifies right, and the mean log-likelihood of their labels in nats."""
    network.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    with torch.no_grad(), autocast(device):
        for images, labels in part.batches(batch_size, device):
            logits = network(images)
            sums[0] += (logits.argmax(1) == labels).sum()
            sums[1] -= cross_entropy(logits.float(), labels, reduction="sum")
    return float(sums[0]) / len(part), float(sums[1]) / len(part)


def recalibrate(network: nn.Module, batches: Iterable[Batch]) -> None:
    """Replace batch-norm statistics by cumulative means over the batches, each normalised by its own statistics."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    was_training = network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the cumulative mean
    only_norms_train(network)
    with torch.no_grad():
        for images, _ in batches:
            network(images)
    network.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def only_norms_train(network: nn.Module) -> None:
    """Batch norm takes statistics, everything else (dropout) is at rest."""
    network.eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.training = True


@contextmanager
def replaced_forward(layers: Sequence[nn.Module], forward: Callable[..., Tensor]) -> Iterator[None]:
    """Within the block `forward(layer, ...)` runs in place of the layers' own forward; the layers stay in the network as they are."""
    for layer in layers:
        layer.forward = partial(forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@contextmanager
def left_as_it_was(network: nn.Module) -> Iterator[None]:
    """Within the block batch norm may take or be given any statistics, and modules any mode; afterwards they have their own again."""
    modes = [(module, module.training) for module in network.modules()]
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    kept = [(layer, dict(layer._buffers), layer.momentum) for layer in layers]
    for layer in layers:
        layer._buffers = {name: None if buffer is None else buffer.clone() for name, buffer in layer._buffers.items()}
    try:
        yield
    finally:
        for layer, buffers, momentum in kept:
            layer._buffers, layer.momentum = buffers, momentum
        for module, training in modes:
            module.training = training
