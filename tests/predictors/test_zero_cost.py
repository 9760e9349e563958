"""naswot against its definition, written out for one layer."""

import numpy as np
import pytest
import torch
from torch import nn

from evonas import UsageError
from predictors import naswot


def test_one_layer_by_hand(rng):
    """The kernel counts the units on which two images agree, passed or blocked."""
    layer = nn.Linear(6, 40)
    images = torch.from_numpy(rng.normal(size=(5, 6)).astype(np.float32))
    codes = (layer(images) > 0).numpy()
    kernel = np.array([[(a == b).sum() for b in codes] for a in codes], dtype=float)
    assert naswot(nn.Sequential(layer, nn.ReLU()), images) == pytest.approx(np.linalg.slogdet(kernel)[1])


def test_layers_add_up_and_equal_images_cannot_be_told_apart(rng):
    first, second = nn.Linear(6, 30), nn.Linear(30, 20)
    network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(inplace=True))
    images = torch.from_numpy(rng.normal(size=(4, 6)).astype(np.float32))
    hidden = torch.relu(first(images))
    codes = np.concatenate([(hidden > 0).numpy(), (second(hidden) > 0).numpy()], axis=1)
    kernel = np.array([[(a == b).sum() for b in codes] for a in codes], dtype=float)
    assert naswot(network, images) == pytest.approx(np.linalg.slogdet(kernel)[1])
    assert naswot(network, images[[0, 0, 1]]) == -np.inf


def test_the_network_is_left_alone_and_residual_branches_count(rng):
    """A last norm that begins at 0 would hide its branch from all later layers."""
    norm = nn.BatchNorm2d(3)
    nn.init.zeros_(norm.weight)
    network = nn.Sequential(nn.Conv2d(3, 3, 3), norm, nn.ReLU(), nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    images = torch.from_numpy(rng.normal(size=(6, 3, 8, 8)).astype(np.float32))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert np.isfinite(naswot(network, images))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network.training
    assert not network[2]._forward_hooks


def test_a_network_without_relus_is_refused():
    with pytest.raises(UsageError, match="no"):
        naswot(nn.Linear(2, 2), torch.zeros(2, 2))
