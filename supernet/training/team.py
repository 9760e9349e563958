"""Training on many devices: `torchrun` starts one process a device, DistributedDataParallel averages their gradients.

    torchrun --nproc-per-node 4 -m evonas mobile --data cifar10 ...

The processes form a team. Each takes its share of every batch and the same path; batch norm takes its statistics over the shares of
all, so a team trains what one process with the whole batch would. The first process alone reads and writes files and goes on with the
search; the others help with training.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from supernet.evaluation import replaced_forward

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=7)  # while the first process searches, the others wait


@contextmanager
def team(device: torch.device) -> Iterator[None]:
    """Joins the processes that `torchrun` started, for the time of the block; without `torchrun`, nothing happens."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process in its team; 0 is the first, and the only one without a team."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Processes of the team; 1 without one."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def first_goes_first() -> Iterator[None]:
    """The block runs in the first process, then in the others: for files that one has to write before all read them."""
    if size() > 1 and rank() > 0:
        dist.barrier()
    yield
    if size() > 1 and rank() == 0:
        dist.barrier()


def from_first(value: T) -> T:
    """What the first process holds, on all of them; plain data and tensors."""
    if size() == 1:
        return value
    content = [value]
    dist.broadcast_object_list(content)
    return content[0]


def mean(value: Tensor) -> float:
    """The mean of a number over the team."""
    if size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return float(value) / size()


def same_everywhere(module: nn.Module) -> None:
    """What the first process holds in a module's state, on all of them."""
    if size() > 1:
        module.load_state_dict(from_first(module.state_dict()))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Gradients of parameters that are no part of a `parallel` module; the same ones have a gradient in every process."""
    if size() > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= size()


def parallel(step: nn.Module) -> nn.Module:
    """A module whose forward is one training step, with gradients averaged over the team; parameters off its path get none."""
    if size() == 1:
        return step
    return DistributedDataParallel(step, find_unused_parameters=True)


@contextmanager
def joint_batch_norm(network: nn.Module) -> Iterator[None]:
    """In training mode, batch norm takes its statistics over the shares of all processes.

    torch's SyncBatchNorm does the same on GPUs only, and stays in the network; this leaves the layers as they were.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)] if size() > 1 else []
    with replaced_forward(layers, _joint_forward):
        yield


class _TeamMean(torch.autograd.Function):
    """The mean over the team; every process holds it, so the gradient is the mean of what all of them send back."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total / size()

    backward = forward  # type: ignore[assignment]


def _joint_forward(layer: Any, x: Tensor) -> Tensor:
    if not layer.training:
        return cast(Tensor, type(layer).forward(layer, x))
    values, axes = x.float(), [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    centre = _TeamMean.apply(values.mean(axes))
    deviation = values - centre.view(shape)
    variance = _TeamMean.apply(deviation.square().mean(axes))
    if layer.track_running_stats:
        with torch.no_grad():
            count = size() * x.numel() / x.shape[1]
            layer.running_mean.lerp_(centre, layer.momentum)
            layer.running_var.lerp_(variance * count / (count - 1), layer.momentum)
            layer.num_batches_tracked += 1
    normed = deviation * (variance + layer.eps).rsqrt().view(shape)
    if layer.affine:
        normed = normed * layer.weight.view(shape) + layer.bias.view(shape)
    return normed.to(x.dtype)
