"""Averaged weights: a moving average over the steps of training, whose noise is that of many steps and not of the last.

Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; as an exponential average with a decay that warms up,
Tarvainen and Valpola, "Mean teachers are better role models", 2017, arXiv 1703.01780. In the middle of training, where the learning rate
is high, it shows what the weights are worth without the noise: that is what finalists are judged by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class AveragedWeights:
    """The average of a network's weights and batch-norm statistics.

    Args:
        network: where it lives now.
        decay: share of the average that a step keeps; at step n at most (1 + n) / (10 + n), so that the first steps are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network = network
        self._averaged = AveragedModel(network, multi_avg_fn=_moving(decay), use_buffers=True)

    def update(self) -> None:
        """A step has been made."""
        self._averaged.update_parameters(self._network)

    def take_over(self) -> None:
        """The network gets the averaged weights."""
        self._network.load_state_dict(self._averaged.module.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return dict(self._averaged.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self._averaged.load_state_dict(state)


def weights_of(state: dict[str, Any]) -> dict[str, Any]:
    """The averaged weights of a checkpoint, as a state of the network."""
    return {name.removeprefix("module."): value for name, value in state.items() if name.startswith("module.")}


def _moving(decay: float) -> Callable[..., None]:
    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - kept)
        else:  # numbers of batches
            torch._foreach_copy_(averaged, current)

    return update
