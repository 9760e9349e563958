"""The contract of ways of training: what a step learns from, what happens beside it, and what a way owns.

`supernet.training.loop.train` owns data, optimiser, schedule, precision, checkpoints and progress; a `Way` says what a step's loss is. It
may also learn something of its own: an evaluator, a board of good paths, agents, architecture parameters. That happens after a step, on
images that are set aside for it, and may narrow the space at the end of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evonas.space import Architecture, SearchSpace
from supernet.data import Batch, Part

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Moment:
    """Where training stands.

    Attributes:
        epoch, epochs: the epoch, counted from 0, and how many there are.
        step, steps: the step, counted from 0 over all epochs, and how many there are.
        lr: learning rate of the step.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    lr: float


@dataclass(frozen=True)
class Record:
    """What a way that searches while it trains recommends at the end of an epoch: one trial of a study.

    Attributes:
        architecture: that it would deliver now.
        score: of that on held-out images, higher is better.
        attributes: further plain data, such as the distribution that it has learned.
    """

    architecture: Architecture
    score: float
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Way(nn.Module):
    """A way of training, with whatever it owns: parameters, buffers, and plain data (`get_extra_state`, `set_extra_state`).

    All of it is moved to the device, saved in every checkpoint and restored from it. Parameters that get a gradient in `step` are trained
    by the loop together with the network, without weight decay; what learns in `after_step` has an optimiser of the way's own.
    In a team of processes every one calls `after_step` with the same held-out images, generator and seed of torch, so that all learn the
    same; after every epoch they take over what the first one has.

    Attributes:
        held_out: share of the training images that the loop sets aside for `after_step` and `end_of_epoch`; no step trains on them.
    """

    held_out: float = 0.0

    def check(self, space: SearchSpace | None, epochs: int) -> None:
        """Refuse what cannot be trained this way; asked before anything is done.

        Args:
            space: of the supernet; None for a network that stands alone.
            epochs: of the training.

        Raises:
            UsageError: saying what was expected.
        """

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """The loss of one step with its graph; the loop does the rest.

        Args:
            network: a supernet, or a network that stands alone.
            batch: images and labels; in a team, this process's share of them.
            moment: where training stands.
            rng: the only source of chance; the same in all processes of a team.

        Returns:
            A scalar, or scalars by name that add up to the loss: progress and the report show each of them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method `step`.")

    def after_step(self, network: Any, batch: Batch, held_out: Batch | None, moment: Moment, rng: np.random.Generator) -> None:
        """The weights have moved: what learns from them learns here. It leaves the network's weights alone.

        Statistics and modes of the network are put back afterwards, so that paths may be scored as well. Gradients are asked for with
        `learn` or `torch.autograd.grad`: `backward` would send them into the network's weights, which is refused.

        Args:
            network, moment, rng: as in `step`.
            batch: that of the step; in a team this process's share, so that what is learned from it drifts apart until the epoch ends.
            held_out: as many held-out images, augmented like the others; None where the way sets none aside.
        """

    def end_of_epoch(self, network: Any, held_out: Part | None, moment: Moment) -> SearchSpace | None:
        """An epoch is over. The space that is returned, narrower than the network's, takes its place; None leaves it.

        Args:
            network: as in `step`.
            held_out: all held-out images.
            moment: the last of the epoch.
        """
        return None

    def record(self, network: Any, held_out: Part | None, moment: Moment) -> Record | None:
        """What a way that searches while it trains recommends now; asked after every epoch by whoever keeps records. None: nothing.

        It leaves the network as it is.

        Args:
            network, held_out, moment: as in `end_of_epoch`, which was called before.
        """
        return None


def learn(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of an optimiser on a loss, in `after_step`: gradients reach the parameters of the optimiser, and nothing else."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
