"""The one training loop: data, optimiser, schedule, precision, device, checkpoints and progress.

What is particular to a way of training (which path a step takes, what its loss is) stands in a `Way`, one file each. All
randomness of an epoch comes from (seed, epoch), so training that was killed goes on from its last checkpoint to the same
weights, bit for bit on the CPU with the same number of threads.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evonas.errors import UsageError
from evonas.files import written_whole
from supernet.data import Batch, Part, Share
from supernet.slicing import WideConv
from supernet.training import team
from supernet.training.path_sgd import PathSGD


class Way(ABC):
    """A way of training. Unless a subclass says otherwise, nothing changes with the epochs and nothing is remembered between them."""

    @abstractmethod
    def step(self, network: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """The loss of one step, with its graph; the loop does the rest."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:  # noqa: B027 (most ways do nothing here)
        """Told before every epoch which one it is, counted from 0, and of how many; also where training goes on from a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """What must be remembered between epochs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what `state_dict` gave."""


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU where there is one; under `torchrun`, the one of this process."""
    own = f":{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else ""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name + own if name == "cuda" else name)
        torch.zeros(1, device=device)
    except Exception as error:
        raise UsageError(f"Cannot use the device {name!r}: {str(error).splitlines()[0]}. Expected auto, cpu or cuda.") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def autocast(device: torch.device) -> torch.autocast:
    """bf16 on CUDA, full precision elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def cosine(share: float) -> float:
    """Half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))


def linear(share: float) -> float:
    """A straight line from 1 to 0."""
    return 1 - share


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
    seed: int = 0,
    device: torch.device | None = None,
    checkpoint: Path | None = None,
    identity: Any = None,
    on_progress: Callable[[float, float], None] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Train in place with SGD, linear warm-up and a decaying learning rate; returns the mean loss of every epoch.

    In a team of processes (`supernet.training.team`) each takes its share of every batch. What a step does not use (everything
    off the path, and the part of a weight outside the path's channels) is left alone entirely: no weight decay and no momentum
    reaches it. Weight decay spares 1-dimensional parameters, as in the SPOS code.

    Args:
        network: moved to `device`, in channels-last layout.
        way: gives the loss of a step.
        part: the training images.
        epochs: passes over them.
        lr: peak learning rate, for this batch size.
        warmup_epochs: epochs over which it rises; at most a fifth of all.
        decay: share of the peak learning rate from the share of the epochs after warm-up, `cosine` or `linear`.
        final_lr: where it ends.
        clip: largest norm of the gradient; infinity for any.
        checkpoint: file that is written after every epoch and continued from when it is there.
        identity: plain data that a checkpoint must agree on (the space, the layout) to be continued.
        on_progress: called with (share done, loss) several times an epoch.
        on_step: called after every step with the number of steps done; what looks at the network while it is trained.

    Raises:
        UsageError: the loss is no longer finite, the checkpoint is damaged or of something else, or a batch does not divide
            over the team.
    """
    device = device or torch.device("cpu")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = [p for p in network.parameters() if p.ndim > 1]
    spared = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    wide = [module for module in network.modules() if isinstance(module, WideConv)]
    optimizer = PathSGD(groups, lr, momentum, wide)
    steps = max(len(part) // min(batch_size, len(part)), 1)
    share = _share(min(batch_size, len(part)))
    losses: list[float] = []
    if content := team.from_first(load_checkpoint(checkpoint, identity) if checkpoint is not None and checkpoint.exists() else None):
        losses = _resume(content, network, optimizer, way, epochs)
    one_step = team.parallel(_Step(network, way))
    with team.joint_batch_norm(network):
        for epoch in range(len(losses), epochs):
            network.train()
            way.begin_epoch(epoch, epochs)
            rng = np.random.default_rng([seed, epoch])
            total = torch.zeros((), device=device)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(int(rng.integers(1 << 62)) + team.rank())
                for step, batch in enumerate(part.epoch(batch_size, (seed, epoch), device, share)):
                    rate = final_lr + (lr - final_lr) * schedule(epoch + step / steps, epochs, warmup_epochs, decay)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.zero_grad(set_to_none=True)
                    with autocast(device):
                        loss = one_step(batch, rng)
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_([p for p in network.parameters() if p.grad is not None], clip)
                    optimizer.step()
                    total += loss.detach()
                    if step % 16 == 15 or step == steps - 1:
                        mean = team.mean(total) / (step + 1)
                        _require_finite(mean, "loss", epoch, rate)
                        if on_progress is not None:
                            on_progress((epoch + (step + 1) / steps) / epochs, mean)
                    if on_step is not None:
                        on_step(epoch * steps + step + 1)
            _require_finite(float(sum(p.detach().abs().sum() for p in network.parameters())), "sum of the weights", epoch, rate)
            losses.append(mean)
            if checkpoint is not None and team.rank() == 0:
                _save(checkpoint, network, optimizer, way, identity, losses, epochs)
    network.eval()
    return losses


def schedule(epoch: float, epochs: int, warmup_epochs: float, decay: Callable[[float], float] = cosine) -> float:
    """Share of the peak learning rate at a fractional epoch: linear warm-up, then the decay to zero."""
    warmup = min(warmup_epochs, epochs / 5)
    if epoch < warmup:
        return (epoch + 0.1) / (warmup + 0.1)
    return decay((epoch - warmup) / max(epochs - warmup, 1e-9))


def _require_finite(value: float, what: str, epoch: int, rate: float) -> None:
    if not math.isfinite(value):
        raise UsageError(
            f"The {what} became {value} in epoch {epoch + 1} (learning rate {rate:.3g}); expected a finite number. "
            f"Lower the learning rate, or check the images."
        )


def load_checkpoint(path: Path, identity: Any) -> dict[str, Any]:
    """Read a checkpoint without unpickling anything but tensors and plain data.

    Raises:
        UsageError: it is missing, damaged, or belongs to something else than `identity`.
    """
    if not path.exists():
        raise UsageError(f"There is no checkpoint {path}; expected a file written by a training run.")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = content["identity"]
    except Exception as error:
        raise UsageError(
            f"Cannot read the checkpoint {path}: {str(error).splitlines()[0][:120]}. Restore it, or start over with --fresh."
        ) from None
    if found != identity:
        difference = _difference(found, identity)
        raise UsageError(
            f"The checkpoint {path} belongs to another network ({difference}). Use the settings it was made with, or --fresh to start over."
        )
    return content


def _difference(found: Any, expected: Any) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in {**expected, **found}:
            if found.get(key) != expected.get(key):
                return f"{key}: {str(found.get(key))[:60]}, expected {str(expected.get(key))[:60]}"
    return f"{str(found)[:60]}, expected {str(expected)[:60]}"


def _save(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, way: Way, identity: Any, losses: list[float], epochs: int
) -> None:
    content = {
        "identity": identity,
        "losses": losses,
        "epochs": epochs,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "way": way.state_dict(),
    }
    with written_whole(path) as temporary:
        torch.save(content, temporary)


def _resume(content: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, way: Way, epochs: int) -> list[float]:
    losses: list[float] = content["losses"]
    if len(losses) > epochs:
        raise UsageError(f"The checkpoint has {len(losses)} epochs, more than the {epochs} asked for. Ask for as many, or for --fresh.")
    load_weights(network, content)
    optimizer.load_state_dict(content["optimizer"])
    way.load_state_dict(content["way"])
    return losses


def load_weights(network: nn.Module, content: dict[str, Any]) -> None:
    """The weights of a checkpoint into a network.

    Raises:
        UsageError: they are of a network that is built otherwise.
    """
    try:
        network.load_state_dict(content["network"])
    except RuntimeError as error:
        what = " ".join(str(error).split())[:160]
        raise UsageError(f"The checkpoint was written by another version of this network ({what}). Start over with --fresh.") from None


class _Step(nn.Module):
    """A way's step as a module, so that its whole graph, of one path or of many, is one forward to whoever averages gradients."""

    def __init__(self, network: nn.Module, way: Way) -> None:
        super().__init__()
        self.network, self.way = network, way

    def forward(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        return self.way.step(self.network, batch, rng)


def _share(batch_size: int) -> Share:
    if batch_size % team.size():
        raise UsageError(
            f"A batch of {batch_size} images does not divide over {team.size()} processes; expected a multiple of {team.size()}."
        )
    return team.rank(), team.size()
