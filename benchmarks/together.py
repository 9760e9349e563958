"""Many networks trained at once on a GPU: a whole step of all of them is one CUDA graph, in which each has a stream of its own.

The training is that of `supernet.train` with `StandAlone`, or with `Distilled` where there is a teacher; by labels alone and without a
graph both had the same weights to 1e-6 after a step and after two. Sixteen small networks take about as long as six one after another with
a graph each. For benchmarks: no checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from supernet.data import TensorPart
from supernet.device import place
from supernet.training.schedule import schedule

WARMUP_EPOCHS, CLIP, MOMENTUM, SMOOTHING = 2.0, 5.0, 0.9, 0.1


@dataclass(frozen=True)
class Taught:
    """How a network learns from the teacher: see `supernet.training.distilled.Distilled`."""

    weight: float = 0.5
    temperature: float = 2.0


class _Network:
    """A network with its momentum and its averaged weights."""

    def __init__(self, network: nn.Module, taught: Taught | None) -> None:
        self.network, self.taught = network, taught
        self.parameters = list(network.parameters())
        self.decayed = [p for p in self.parameters if p.ndim > 1]
        self.state = [*self.parameters, *(b for b in network.buffers() if b.is_floating_point())]
        self.momentum = [torch.zeros_like(p) for p in self.parameters]
        self.average = [t.detach().clone() for t in self.state]

    def step(self, images: Tensor, labels: Tensor, teacher: Tensor | None, lr: Tensor, share: Tensor, weight_decay: float) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            logits = self.network(images)
        logits = logits.float()
        loss = cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        if self.taught is not None and teacher is not None:
            weight, temperature = self.taught.weight, self.taught.temperature
            told = kl_div(log_softmax(logits / temperature, 1), softmax(teacher / temperature, 1), reduction="batchmean")
            loss = (1 - weight) * loss + weight * temperature**2 * told
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        with torch.no_grad():
            torch._foreach_add_([p.grad for p in self.decayed], self.decayed, alpha=weight_decay)
            torch._foreach_mul_(self.momentum, MOMENTUM)
            torch._foreach_add_(self.momentum, [p.grad for p in self.parameters])
            torch._foreach_sub_(self.parameters, torch._foreach_mul(self.momentum, lr))
            moved = torch._foreach_sub(self.state, self.average)
            torch._foreach_mul_(moved, share)
            torch._foreach_add_(self.average, moved)


def train_together(
    networks: Sequence[nn.Module],
    part: TensorPart,
    *,
    epochs: int,
    seed: int,
    batch_size: int = 64,
    lr: float = 0.2,
    weight_decay: float = 5e-4,
    average: float = 0.99,
    teacher: nn.Module | None = None,
    taught: Sequence[Taught | None] | None = None,
) -> None:
    """Train all networks in place, on the same batches.

    Args:
        networks: moved to the GPU.
        part: the training images.
        epochs, seed, batch_size, lr, weight_decay, average: of `supernet.train`.
        teacher: whose logits are shared by all that are taught.
        taught: how each network learns from it; None does not.
    """
    device = torch.device("cuda")
    for network in [*networks, *([teacher] if teacher is not None else [])]:
        place(network, device)
        network.train(network is not teacher)
    trained = [_Network(network, how) for network, how in zip(networks, taught or [None] * len(networks), strict=True)]
    rate, share = torch.zeros((), device=device), torch.ones((), device=device)
    images, labels = (value.clone() for value in next(iter(part.epoch(batch_size, (seed, 0), device))))
    streams = [torch.cuda.Stream() for _ in trained]

    def step() -> None:
        logits = None
        if teacher is not None:
            with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
                logits = teacher(images).float()
        current = torch.cuda.current_stream()
        for one, stream in zip(trained, streams, strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                one.step(images, labels, logits, rate, share, weight_decay)
        for stream in streams:
            current.wait_stream(stream)

    graph, count, steps = _captured(step, trained), 0, max(len(part) // batch_size, 1)
    for epoch in range(epochs):
        for number, batch in enumerate(part.epoch(batch_size, (seed, epoch), device)):
            kept = min(average, (1 + count) / (10 + count)) if count else 0.0
            rate.fill_(lr * schedule(epoch + number / steps, epochs, WARMUP_EPOCHS))
            share.fill_(1 - kept)
            images.copy_(batch[0])
            labels.copy_(batch[1])
            graph.replay()
            count += 1
    with torch.no_grad():
        for one in trained:
            for tensor, value in zip(one.state, one.average, strict=True):
                tensor.copy_(value)
            for parameter in one.parameters:
                parameter.grad = None
            one.network.eval()


def _captured(step: Callable[[], None], trained: Sequence[_Network]) -> torch.cuda.CUDAGraph:
    """The graph of a step; weights and statistics are as before."""
    kept = [[tensor.detach().clone() for tensor in one.state] for one in trained]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(side)
    for one in trained:
        for parameter in one.parameters:
            parameter.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    with torch.no_grad():
        for one, values in zip(trained, kept, strict=True):
            for tensor, value in zip(one.state, values, strict=True):
                tensor.copy_(value)
            for momentum in one.momentum:
                momentum.zero_()
    return graph
