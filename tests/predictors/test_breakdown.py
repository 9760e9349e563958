"""Where the cost of a network goes: held against the whole network, and against what torchvision's networks are known to be."""

import numpy as np
import pytest
import torch
import torchvision

from predictors import count_macs, count_params
from predictors.breakdown import pieces, times
from supernet.spaces import SPACES


@pytest.mark.parametrize("name", [name for name in SPACES if name != "user"])
def test_pieces_add_up_to_the_network(name):
    family = SPACES[name].make((3, 16, 16), 10)
    network = family.network(tuple(int(v) for v in family.space.sample(1, np.random.default_rng(0))[0]))
    found = pieces(network, (3, 16, 16))
    assert len(found) > 4
    assert sum(piece["macs"] for piece in found) == count_macs(network, (3, 16, 16))
    assert sum(piece["params"] for piece in found) == count_params(network, (3, 16, 16))


def test_the_pieces_of_a_resnet_are_its_blocks():
    network = torchvision.models.resnet18(num_classes=10).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = {piece["name"]: piece for piece in pieces(network, (3, 64, 64))}
    assert [name for name in found if name.startswith("layer")] == [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]
    assert [found[f"layer{i}.1"]["output"] for i in (1, 2, 3, 4)] == [[64, 16, 16], [128, 8, 8], [256, 4, 4], [512, 2, 2]]
    assert found["layer1.0"]["macs"] == 2 * 64 * 64 * 9 * 16 * 16
    assert found["fc"]["params"] == 512 * 10 + 10
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_pieces_are_timed_in_one_go_with_a_backend():
    network = torchvision.models.resnet18(num_classes=10).eval()
    found = times(network, (3, 32, 32), lambda path, shape: float(shape[0]))
    assert (found["conv1"], found["layer4.1"], found["fc"]) == (3.0, 512.0, 512.0)
    assert list(found) == [piece["name"] for piece in pieces(network, (3, 32, 32))]
