"""Training steps replayed as CUDA graphs, where launching kernels takes longer than running them: small images, small networks.

A step of a small network is many short kernels, and launching them from Python takes longer than they run. A captured graph launches them
all at once (Nguyen et al., "Accelerating PyTorch with CUDA Graphs", 2021, pytorch.org). A path changes with every step, so that no step of
a supernet is like the other; but every operator is like itself. So each operator has a graph of its own forward and backward pass, and a
path replays those of its operators; a network that stands alone has one for all of it.

The arithmetic is that of the network without graphs (`tests/supernet/test_gpu.py` compares both).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from evonas.errors import first_line
from supernet.blocks import ChoiceBlock, FixedBlock
from supernet.chain import ChainSupernet
from supernet.device import autocast
from supernet.slicing import WideConv
from supernet.training import team

MOST_PIXELS = 1 << 16  # of a batch: what was measured has 1 << 14, kernels grow with it, and graphs keep every activation in memory
LEAST_STEPS = 100  # of a training: capturing costs as much as some dozens


class Graphs:
    """The graphs of a network within `graphed`, which share their memory as if they always ran in the order they were captured in."""

    def __init__(self) -> None:
        self._last = -1

    def next_step(self) -> None:
        """Another forward and backward pass begins."""
        self._last = -1

    def in_order(self, position: int, like: Tensor, captured: Callable[[Any], Any], plain: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Captured where nothing at this position or after it has run in this step, for as many images as were captured; else plain.

        Plain are the further paths of a step, and images that are grouped by their architectures.
        """

        def forward(x: Any) -> Any:
            if position <= self._last or x.shape != like.shape:
                return plain(x)
            self._last = position
            return captured(x)

        return forward


@contextmanager
def graphed(network: nn.Module, like: Callable[[], Tensor], device: torch.device, steps: int) -> Iterator[Graphs]:
    """Within the block the operators of a network run as graphs, where that is worth it: on a GPU, in one process, for small batches.

    Args:
        network: on its device, in training mode.
        like: gives images as every step has them, on the device; asked only where graphs are possible.
        device: of the training.
        steps: that are left to train.
    """
    graphs = Graphs()
    if device.type != "cuda" or team.size() > 1 or steps < LEAST_STEPS or (images := like())[:, 0].numel() > MOST_PIXELS:
        yield graphs
        return
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    units = _units(network, images)
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)  # captured on another stream than it runs on: intended
    try:
        if units:
            _capture(units, graphs)
        for buffer, value in kept:  # capturing took batch statistics
            buffer.copy_(value)
        yield graphs
    finally:
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(True)
        _release(units)


def _capture(units: list[tuple[nn.Module, Tensor]], graphs: Graphs) -> None:
    plain = [unit.forward for unit, _ in units]
    try:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            torch.cuda.make_graphed_callables(tuple(unit for unit, _ in units), tuple((x,) for _, x in units))
    except torch.OutOfMemoryError:
        _release(units)
        torch.cuda.empty_cache()
        warnings.warn("The GPU has no room for CUDA graphs beside the network; it trains without them, more slowly.", stacklevel=3)
        return
    except RuntimeError as error:  # a network that learned in this process before, outside of this loop
        _release(units)
        warnings.warn(f"CUDA graphs cannot be captured ({first_line(error)}); the network trains without them, more slowly.", stacklevel=3)
        return
    for position, ((unit, like), forward) in enumerate(zip(units, plain, strict=True)):
        unit.forward = graphs.in_order(position, like, unit.forward, forward)


def _release(units: list[tuple[nn.Module, Tensor]]) -> None:
    for unit, _ in units:
        unit.__dict__.pop("forward", None)


def _units(network: nn.Module, images: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """What has a graph of its own, and an input like those that it will get; nothing of a supernet that is not a chain."""
    if not isinstance(network, ChainSupernet):
        return [(network, images)] if not hasattr(network, "space") and _fixed(network) else []
    found: list[tuple[nn.Module, Tensor]] = []
    value: Any = images
    with torch.no_grad(), autocast(images.device):
        for block in network.chain:
            modules = list(block.options.values()) if isinstance(block, ChoiceBlock) else []
            modules += [block.module] if isinstance(block, FixedBlock) else []
            if isinstance(value, Tensor):
                found += [(module, value.clone().requires_grad_(value is not images)) for module in modules if _fixed(module)]
            value = block(value, *[0] * len(block.reads))
    return found


def _fixed(module: nn.Module) -> bool:
    """Whether a module computes something, always the same way, and tells nobody."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return False
    has_weights = any(True for _ in module.parameters())
    return has_weights and not isinstance(module, nn.Conv2d) and not any(isinstance(part, WideConv) for part in module.modules())
