"""The one training loop: data, optimiser, schedule, precision, device, checkpoints and progress.

What is particular to a way of training (which path a step takes, what its loss is, what else learns) stands in a `Way`, one file each.
All randomness of an epoch comes from (seed, epoch), so training that was killed goes on from its last checkpoint to the same
weights, bit for bit on the CPU with the same number of threads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evonas.errors import UsageError
from evonas.space import SearchSpace
from supernet.data import Batch, Part, Share
from supernet.depthwise import fast_depthwise
from supernet.device import autocast, place
from supernet.evaluation import left_as_it_was
from supernet.slicing import WideConv, WideNorm
from supernet.training import team
from supernet.training.average import AveragedWeights
from supernet.training.checkpoint import load_checkpoint, resume, save_checkpoint, set_space
from supernet.training.graphed import graphed
from supernet.training.path_sgd import PathSGD
from supernet.training.schedule import cosine, schedule
from supernet.training.way import Losses, Moment, Record, Way


def train(
    network: nn.Module,
    way: Way,
    part: Part,
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 4e-5,
    warmup_epochs: float = 2.0,
    decay: Callable[[float], float] = cosine,
    final_lr: float = 0.0,
    clip: float = 5.0,
    average: float = 0.0,
    seed: int = 0,
    device: torch.device | None = None,
    checkpoint: Path | None = None,
    identity: Any = None,
    on_progress: Callable[[float, dict[str, float]], None] | None = None,
    on_step: Callable[[int], None] | None = None,
    on_record: Callable[[int, Record], None] | None = None,
) -> list[dict[str, float]]:
    """Train in place with SGD, linear warm-up and a decaying learning rate.

    In a team of processes (`supernet.training.team`) each takes its share of every batch. What a step does not use (everything
    off the path, and the part of a weight outside the path's channels) is left alone entirely: no weight decay and no momentum
    reaches it. Weight decay spares 1-dimensional parameters, as in the SPOS code, and those of the way.

    Args:
        network: moved to `device`, in channels-last layout. Its space, where the way narrows it, is replaced.
        way: gives the loss of a step.
        part: the training images.
        epochs: passes over them.
        lr: peak learning rate, for this batch size.
        warmup_epochs: epochs over which it rises; at most a fifth of all.
        decay: share of the peak learning rate from the share of the epochs after warm-up, `cosine` or `linear`.
        final_lr: where it ends.
        clip: largest norm of the gradient; infinity for any.
        average: decay of a moving average of the weights, which the network has in the end (`supernet.training.average`); 0 for none.
        checkpoint: file that is written after every epoch and continued from when it is there.
        identity: plain data that a checkpoint must agree on (the space, the layout) to be continued.
        on_progress: called with (share done, mean losses of the epoch so far by name) several times an epoch.
        on_step: called after every step with the number of steps done; what looks at the network while it is trained.
        on_record: called after every epoch with its number, from 0, and what the way recommends then (`Way.record`). After a kill an epoch
            that was recorded may be trained and recorded again, with the same result.

    Returns:
        For every epoch the means of its losses by name: "loss", and the parts that a way names.

    Raises:
        UsageError: the way cannot train this, the loss is no longer finite, the checkpoint is damaged or of something else, or a batch does
            not divide over the team.
    """
    device = device or torch.device("cpu")
    way.check(getattr(network, "space", None), epochs)
    part, held_out = _set_aside(part, way.held_out, seed)
    place(network, device)
    way.to(device)
    optimizer = _optimizer(network, way, lr, momentum, weight_decay)
    batch_size = min(batch_size, len(part))
    steps = max(len(part) // batch_size, 1)
    share = _share(batch_size)
    losses: list[dict[str, float]] = []
    averaged = AveragedWeights(network, average) if average else None
    if content := team.from_first(load_checkpoint(checkpoint, identity) if checkpoint is not None and checkpoint.exists() else None):
        losses = resume(content, network, optimizer, way, epochs, averaged)
    team.same_everywhere(way)
    one_step = team.parallel(_Step(network, way))
    clipped = [*network.parameters(), *way.parameters()]
    devices = [device] if device.type == "cuda" else []
    learns_beside = type(way).after_step is not Way.after_step
    replayed = 0 if learns_beside else (epochs - len(losses)) * steps  # what learns beside runs parts of the network in between
    network.train()
    with graphed(network, lambda: _like(part, batch_size // share[1], device), device, replayed) as graphs:
        for epoch in range(len(losses), epochs):
            network.train()
            rng = np.random.default_rng([seed, epoch])
            means = _Means(device)
            beside = _endless(held_out, batch_size, (seed, epoch), device)
            with torch.random.fork_rng(devices=devices), fast_depthwise(network):
                torch.manual_seed(int(rng.integers(1 << 62)) + team.rank())
                for step, batch in enumerate(part.epoch(batch_size, (seed, epoch), device, share)):
                    rate = final_lr + (lr - final_lr) * schedule(epoch + step / steps, epochs, warmup_epochs, decay)
                    moment = Moment(epoch, epochs, epoch * steps + step, epochs * steps, rate)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.zero_grad(set_to_none=True)
                    graphs.next_step()
                    with autocast(device), team.joint_batch_norm(network):
                        parts = one_step(batch, moment, rng)
                    parts["loss"].backward()
                    team.average_gradients(way.parameters())
                    torch.nn.utils.clip_grad_norm_([p for p in clipped if p.grad is not None], clip)
                    optimizer.step()
                    if averaged is not None:
                        averaged.update()
                    means.add(parts)
                    if learns_beside:
                        with _beside(network, (seed, moment.step, 2), devices):
                            way.after_step(network, batch, next(beside, None), moment, rng)
                    if step % 16 == 15 or step == steps - 1:
                        found = means.values()
                        _require_finite(found["loss"], "loss", epoch, rate)
                        if on_progress is not None:
                            on_progress((epoch + (step + 1) / steps) / epochs, found)
                    if on_step is not None:
                        on_step(epoch * steps + step + 1)
            _require_finite(float(sum(p.detach().abs().sum() for p in network.parameters())), "sum of the weights", epoch, rate)
            losses.append(found)
            _narrow(network, way.end_of_epoch(network, held_out, moment))
            team.same_everywhere(way)
            if on_record is not None and team.rank() == 0 and (record := way.record(network, held_out, moment)) is not None:
                on_record(epoch, record)
            if checkpoint is not None and team.rank() == 0:
                save_checkpoint(checkpoint, network, optimizer, way, identity, losses, epochs, averaged)
    if checkpoint is not None and team.rank() == 0 and not checkpoint.exists():  # no epoch was asked for
        save_checkpoint(checkpoint, network, optimizer, way, identity, losses, epochs, averaged)
    if averaged is not None and losses:
        averaged.take_over()
    network.eval()
    return losses


class _Step(nn.Module):
    """A way's step as a module, so that its whole graph, of one path or of many, is one forward to whoever averages gradients."""

    def __init__(self, network: nn.Module, way: Way) -> None:
        super().__init__()
        self.network = network
        self._way = (way,)  # not a part of it: what a way owns may also be moved outside of the step, which nobody else may count

    def forward(self, batch: Batch, moment: Moment, rng: np.random.Generator) -> Losses:
        """The named losses and, as "loss", their sum."""
        found = self._way[0].step(self.network, batch, moment, rng)
        if isinstance(found, Tensor):
            return {"loss": found}
        return {**{name: part.detach() for name, part in found.items()}, "loss": torch.stack(list(found.values())).sum()}


class _Means:
    """The means of named losses over the steps of an epoch and over the team."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._steps = device, 0
        self._totals: dict[str, Tensor] = {}

    def add(self, losses: Losses) -> None:
        for name, loss in losses.items():
            self._totals.setdefault(name, torch.zeros((), device=self._device)).add_(loss.detach())
        self._steps += 1

    def values(self) -> dict[str, float]:
        return {name: team.mean(total) / self._steps for name, total in self._totals.items()}


def _like(part: Part, images: int, device: torch.device) -> Tensor:
    """Images of the shape and layout of a batch."""
    return torch.zeros(images, *part.head(1).images.shape[1:], device=device).contiguous(memory_format=torch.channels_last)


def _optimizer(network: nn.Module, way: Way, lr: float, momentum: float, weight_decay: float) -> PathSGD:
    decayed = [p for p in network.parameters() if p.ndim > 1]
    spared = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    if own := list(way.parameters()):
        groups.append({"params": own, "weight_decay": 0.0})
    return PathSGD(groups, lr, momentum, [module for module in network.modules() if isinstance(module, WideConv | WideNorm)])


def _set_aside(part: Part, share: float, seed: int) -> tuple[Part, Part | None]:
    """The images that are trained on, and those that a way learns from beside."""
    if not share:
        return part, None
    count = round(share * len(part))
    if not 0 < count < len(part):
        raise UsageError(f"A share of {share:.3g} of {len(part)} training images leaves one side empty; expected a share between 0 and 1.")
    order = np.random.default_rng([seed, 11]).permutation(len(part))
    return part.rows_of(np.sort(order[count:])), part.rows_of(np.sort(order[:count]))


def _endless(held_out: Part | None, batch_size: int, seed: tuple[int, int], device: torch.device) -> Iterator[Batch]:
    """Held-out batches, shuffled anew whenever they are used up; none where there are no images."""
    if held_out is not None:
        for round_ in itertools.count():
            yield from held_out.epoch(batch_size, (*seed, round_, 1), device)


@contextmanager
def _beside(network: nn.Module, seed: tuple[int, ...], devices: Sequence[torch.device]) -> Iterator[None]:
    """For what learns after a step: the network is left as it was, chance is the same in every process, and gradients are refused."""
    network.zero_grad(set_to_none=True)
    with left_as_it_was(network), torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(np.random.default_rng(seed).integers(1 << 62)))
        yield
    if any(parameter.grad is not None for parameter in network.parameters()):
        raise RuntimeError("after_step sent gradients into the network's weights; use supernet.training.way.learn, or torch.autograd.grad")


def _narrow(network: nn.Module, space: SearchSpace | None) -> None:
    """The space that a way narrowed to; the first process of a team decides."""
    allowed = team.from_first(None if space is None else space.allowed)
    if allowed is not None:
        assert isinstance(network.space, SearchSpace)
        set_space(network, replace(space or network.space, allowed=allowed))


def _require_finite(value: float, what: str, epoch: int, rate: float) -> None:
    if not math.isfinite(value):
        raise UsageError(
            f"The {what} became {value} in epoch {epoch + 1} (learning rate {rate:.3g}); expected a finite number. "
            f"Lower the learning rate, or check the images."
        )


def _share(batch_size: int) -> Share:
    if batch_size % team.size():
        raise UsageError(
            f"A batch of {batch_size} images does not divide over {team.size()} processes; expected a multiple of {team.size()}."
        )
    return team.rank(), team.size()
