"""The loop: schedule, resuming to the bit, refusals."""

import copy

import numpy as np
import pytest
import torch

from evonas import UsageError
from supernet import StandAlone, UniformPaths, accuracy, mbconv, train
from supernet.device import pick_device
from supernet.loading import from_arrays
from supernet.training.checkpoint import load_checkpoint
from supernet.training.schedule import schedule

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small(digits):
    return digits.train.head(320)


def network(digits, seed=0):
    return mbconv(digits.image_shape, 10, depths=(1, 1, 1), seed=seed)


def test_schedule():
    assert schedule(0, 10, 2) < 0.1
    assert schedule(2, 10, 2) == pytest.approx(1)
    assert schedule(6, 10, 2) == pytest.approx(0.5)
    assert schedule(10, 10, 2) == pytest.approx(0)
    rising = [schedule(t, 10, 2) for t in np.linspace(0, 2, 9)]
    falling = [schedule(t, 10, 2) for t in np.linspace(2, 10, 33)]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert schedule(0.2, 1, 2) == pytest.approx(1)  # warm-up takes a fifth of a short training


def test_killed_training_ends_with_the_same_weights(digits, small, tmp_path):
    """A checkpoint after every epoch, continued by a new network, optimiser and loop: equal to the bit."""
    whole = network(digits)
    losses = train(whole, UniformPaths(), small, epochs=4, batch_size=64, seed=5)

    class Killed(Exception):
        pass

    path = tmp_path / "c.pt"
    resumed = []
    for stop in (0.3, 0.6, 2.0):
        again = network(digits, seed=9)
        if not resumed:
            again.load_state_dict(network(digits).state_dict())

        def die(share, loss, stop=stop):
            if share > stop:
                raise Killed

        try:
            resumed = train(again, UniformPaths(), small, epochs=4, batch_size=64, seed=5, checkpoint=path, identity="x", on_progress=die)
        except Killed:
            resumed = ["killed"]
    assert resumed == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_training_does_not_disturb_the_global_generator(digits, small):
    supernet = network(digits)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train(supernet, UniformPaths(), small, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_weight_decay_spares_vectors(digits, small):
    """With a learning signal of nothing but decay, matrices shrink and vectors do not."""

    class Nothing(StandAlone):
        def step(self, network, batch, moment, rng):
            return sum(p.sum() * 0.0 for p in network.parameters())

    subnet = network(digits).subnet((0, 0, 0))
    before = copy.deepcopy(subnet)
    train(subnet, Nothing(), small, epochs=2, lr=0.5, weight_decay=0.1)
    for a, b in zip(before.parameters(), subnet.parameters(), strict=True):
        assert torch.equal(a, b) if a.ndim <= 1 else b.norm() < 0.99 * a.norm()


def test_a_digit_classifier_learns(digits):
    subnet = network(digits).subnet((0, 0, 0), fresh_seed=0)
    before = accuracy(subnet, digits.test, CPU)
    train(subnet, StandAlone(), digits.train, epochs=12)
    assert accuracy(subnet, digits.test, CPU) > 0.9 > 0.3 > before


def test_a_loss_that_is_not_finite_ends_training_and_writes_nothing(digits, small, tmp_path):
    path = tmp_path / "c.pt"
    with pytest.raises(UsageError, match=r"The (loss|sum of the weights) became (nan|inf) in epoch 1 .* Lower the learning rate"):
        train(network(digits), UniformPaths(), small, epochs=3, lr=1e25, clip=1e25, checkpoint=path)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_refused_when_they_do_not_belong(digits, small, tmp_path):
    path = tmp_path / "c.pt"
    train(network(digits), UniformPaths(), small, epochs=2, checkpoint=path, identity={"space": "a"})
    with pytest.raises(UsageError, match="space: a, expected b"):
        load_checkpoint(path, {"space": "b"})
    with pytest.raises(UsageError, match="has 2 epochs, more than the 1"):
        train(network(digits), UniformPaths(), small, epochs=1, checkpoint=path, identity={"space": "a"})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match="Cannot read the checkpoint"):
        load_checkpoint(path, {"space": "a"})
    with pytest.raises(UsageError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.pt", {})


def test_a_checkpoint_with_code_in_it_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"identity": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UsageError, match="Cannot read"):
        load_checkpoint(tmp_path / "evil.pt", {})
    assert not (tmp_path / "executed").exists()


def test_a_part_smaller_than_a_batch_still_trains():
    rng = np.random.default_rng(0)
    data = from_arrays("few", rng.random((20, 8, 8)), np.arange(20) % 2, rng.random((4, 8, 8)), np.arange(4) % 2)
    losses = train(mbconv(data.image_shape, 2, depths=(1, 1, 1)), UniformPaths(), data.train, epochs=2, batch_size=64)
    assert np.isfinite([found["loss"] for found in losses]).all()


def test_unknown_device():
    with pytest.raises(UsageError, match="Cannot use the device 'tpu9'"):
        pick_device("tpu9")
