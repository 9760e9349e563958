"""Scores that need no training: how differently an untrained network treats different images.

naswot: Mellor et al., "Neural Architecture Search without Training", 2021, arXiv 2006.04647. Every ReLU splits the images in those that
pass and those that do not; images that share few of these decisions are easy to tell apart. The score is the log-determinant of the
matrix that counts shared decisions.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from evonas.errors import UsageError


def naswot(network: nn.Module, images: Tensor) -> float:
    """The score of a freshly initialised network; higher is better.

    Departure: gains of batch norm are set to 1 in a copy, since a residual branch that begins at 0 would hide what it does.

    Args:
        network: with weights as drawn; it is not changed.
        images: a batch, shape (n, channels, height, width).

    Raises:
        UsageError: the network has no ReLU.
    """
    network = copy.deepcopy(network).train()
    shared = np.zeros((len(images), len(images)))

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        passed = (output.detach().flatten(1) > 0).float()
        blocked = 1 - passed
        nonlocal shared
        shared = shared + (passed @ passed.T + blocked @ blocked.T).double().cpu().numpy()

    hooks = 0
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
        elif isinstance(layer, nn.ReLU | nn.ReLU6):
            layer.register_forward_hook(count)
            hooks += 1
    if not hooks:
        raise UsageError("naswot counts what ReLUs pass, and this network has none; expected nn.ReLU or nn.ReLU6 modules.")
    with torch.no_grad():
        network(images)
    return float(np.linalg.slogdet(shared)[1])
