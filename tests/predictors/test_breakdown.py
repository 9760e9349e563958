"""Where the cost of a network goes: held against the whole network, and against what torchvision's networks are known to be."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from predictors import count_macs, count_params
from predictors.breakdown import pieces, times
from supernet.given import GivenSupernet
from supernet.spaces import SPACES


@pytest.mark.parametrize("name", [name for name in SPACES if name != "user"])
def test_pieces_add_up_to_the_network(name):
    family = SPACES[name].make((3, 16, 16), 10)
    network = family.network(tuple(int(v) for v in family.space.sample(1, np.random.default_rng(0))[0]))
    found = pieces(network, (3, 16, 16))
    assert len(found) > 4
    assert sum(piece["macs"] for piece in found) == count_macs(network, (3, 16, 16))
    assert sum(piece["params"] for piece in found) == count_params(network, (3, 16, 16))


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v3_small", "vit_b_16"])
def test_pieces_of_networks_that_are_not_ours_add_up(model):
    network = torchvision.models.get_model(model)
    shape = (3, 224, 224) if model.startswith("vit") else (3, 64, 64)
    found = pieces(network, shape)
    assert sum(piece["macs"] for piece in found) == count_macs(network, shape)
    assert sum(piece["params"] for piece in found) == count_params(network, shape)


class TwoStreams(nn.Module):
    """A block that takes two tensors, one that takes a dictionary, one that runs twice, and a norm that is frozen."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, left, right):
            return self.layer(torch.cat([left, right], dim=1))

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, given):
            return self.layer(given["x"])

    def __init__(self):
        super().__init__()
        self.first, self.both, self.named, self.twice = nn.Linear(4, 4), self.Both(), self.Named(), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4).eval()

    def forward(self, x):
        return self.norm(self.twice(self.twice(self.named({"x": self.both(self.first(x), x)}))))


def test_what_cannot_be_looked_at_by_itself_is_told_as_the_rest():
    network = TwoStreams().train()
    network.norm.eval()
    found = {piece["name"]: piece for piece in pieces(network, (4,))}
    assert list(found) == ["first", "twice", "norm", "everything else"]
    assert found["everything else"]["macs"] == 8 * 4 + 4 * 4
    assert found["everything else"]["params"] == 8 * 4 + 4 + 4 * 4 + 4
    assert (network.training, network.first.training, network.norm.training) == (True, True, False)


def test_a_given_network_within_a_supernet_is_looked_into():
    supernet = GivenSupernet(torchvision.models.resnet18(num_classes=10), (3, 32, 32))
    whole = {choice.name: "kept" if "kept" in choice.options else "1" for choice in supernet.space.choices}
    largest = supernet.subnet(supernet.space.from_names(whole))
    assert {"layer1.0", "layer4.1", "fc"} <= {piece["name"] for piece in pieces(largest, (3, 32, 32))}


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
