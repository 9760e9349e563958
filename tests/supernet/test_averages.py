"""Averaged weights: against the recursion, and against training in one go."""

import pytest
import torch

from evonas import UsageError
from supernet import StandAlone, UniformPaths, mbconv, train
from supernet.training.average import AveragedWeights
from supernet.training.checkpoint import load_checkpoint, restore


@pytest.fixture(scope="module")
def small(digits):
    return digits.train.head(192)


def network(digits, seed=0):
    return mbconv(digits.image_shape, 10, depths=(1, 1, 1), seed=seed)


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_average_is_the_recursion():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    averaged, expected = AveragedWeights(module, 0.5), None
    for step in range(1, 9):
        for parameter in module.parameters():
            parameter.data.normal_()
        module(torch.randn(4, 3))
        averaged.update()
        now = {name: value.clone() for name, value in module.state_dict().items()}
        kept = min(0.5, step / (9 + step))  # the first step begins the average
        expected = (
            now if expected is None else {n: kept * expected[n] + (1 - kept) * v if v.is_floating_point() else v for n, v in now.items()}
        )
    averaged.take_over()
    for name, value in module.state_dict().items():
        assert torch.allclose(value.double(), expected[name].double(), atol=1e-6), name


def test_averaging_does_not_change_what_is_trained(digits, small, tmp_path):
    plain, averaged = network(digits), network(digits)
    settings = {"epochs": 2, "batch_size": 64, "checkpoint": tmp_path / "a.pt"}
    train(plain, UniformPaths(), small, epochs=2, batch_size=64)
    train(averaged, UniformPaths(), small, average=0.9, **settings)
    assert not equal(plain, averaged)
    content = load_checkpoint(tmp_path / "a.pt", None)
    assert all(torch.equal(content["network"][name], value) for name, value in plain.state_dict().items())
    again = network(digits, seed=3)
    restore(again, UniformPaths(), content)  # another search takes the averaged weights
    assert equal(again, averaged)
    unaveraged = {"batch_size": 64, "checkpoint": tmp_path / "b.pt"}
    train(network(digits), UniformPaths(), small, epochs=2, **unaveraged)
    with pytest.raises(UsageError, match="averaged weights of something else"):
        train(network(digits), UniformPaths(), small, epochs=3, average=0.9, **unaveraged)


def test_killed_training_goes_on_to_the_same_average(digits, small, tmp_path):
    whole, resumed = (network(digits).subnet((0, 0, 0), fresh_seed=1) for _ in range(2))
    settings = {"epochs": 3, "batch_size": 64, "average": 0.9}
    losses = train(whole, StandAlone(), small, **settings)

    def die(share, found):
        if share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(resumed, StandAlone(), small, checkpoint=tmp_path / "c.pt", on_progress=die, **settings)
    resumed = network(digits).subnet((0, 0, 0), fresh_seed=9)
    assert train(resumed, StandAlone(), small, checkpoint=tmp_path / "c.pt", **settings) == losses
    assert equal(resumed, whole)
