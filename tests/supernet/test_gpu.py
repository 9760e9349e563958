"""On a CUDA GPU: training, fitness, and the exactness of the walk under bf16 autocast. Skipped where there is none."""

import numpy as np
import pytest
import torch

from supernet import (
    FairPaths,
    FineTunedFitness,
    InheritedFitness,
    StandAlone,
    TrainedFitness,
    UniformPaths,
    accuracy,
    mbconv,
    pick_device,
    quantised,
    score_one_by_one,
    shuffle,
    skip_cells,
    train,
    two_node,
)
from supernet.diagnosis.causes import gradient_cosine
from supernet.training import graphed
from supernet.training.mixture import Mixtures

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_the_gpu_is_picked(name):
    assert pick_device(name).type == "cuda"
    assert torch.cuda.current_device() == 0


def test_a_training_step_changes_only_the_path(digits):
    supernet = mbconv(digits.image_shape, 10).to(GPU, memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in supernet.named_parameters()}
    paths = []

    class One(UniformPaths):
        def step(self, network, batch, moment, rng):
            assert batch[0].device.type == "cuda"
            assert torch.is_autocast_enabled("cuda")
            paths.append(network.space.sample(1, rng)[0])
            return torch.nn.functional.cross_entropy(network(batch[0], paths[-1]).float(), batch[1])

    train(supernet, One(), digits.train.head(64), epochs=1, batch_size=64, weight_decay=0.1, device=GPU)
    used = {id(p) for module in supernet.active(paths[0]) for p in module.parameters()}
    assert len(paths) == 1
    for name, parameter in supernet.named_parameters():
        if id(parameter) not in used:
            assert torch.equal(before[name], parameter), name
        elif parameter.ndim > 1:
            assert not torch.equal(before[name], parameter), name


def test_a_digit_classifier_learns(digits):
    network = mbconv(digits.image_shape, 10, depths=(1, 1, 1)).subnet((0, 0, 0), fresh_seed=0)
    train(network, StandAlone(), digits.train, epochs=15, device=GPU)
    assert accuracy(network, digits.test, GPU) > 0.9


def test_the_walk_is_exact_under_autocast(digits, rng):
    """Same operations on the same shapes: bf16 rounding is the same on both sides."""
    supernet = mbconv(digits.image_shape, 10)
    train(supernet, UniformPaths(), digits.train, epochs=3, device=GPU)
    population = supernet.space.sample(30, rng)
    parts = digits.search, digits.train.head(256)
    fitness = InheritedFitness(supernet, *parts, device=GPU)
    expected = score_one_by_one(supernet, population, *parts, device=GPU)
    assert (fitness.logits(population) - expected).abs().max() <= 1e-2 * expected.abs().max()
    scores = (expected.argmax(2) == digits.search.labels).double().mean(1).numpy()
    assert np.abs(fitness(population) - scores).max() <= 2 / len(digits.search)


def test_gpu_and_cpu_agree(digits, rng):
    supernet = mbconv(digits.image_shape, 10)
    train(supernet, UniformPaths(), digits.train, epochs=10, device=GPU)
    population = supernet.space.sample(10, rng)
    on_gpu = InheritedFitness(supernet, digits.search, digits.train.head(256), device=GPU)(population)
    on_cpu = InheritedFitness(supernet, digits.search, digits.train.head(256))(population)
    assert np.abs(on_gpu - on_cpu).max() < 0.03


@pytest.mark.parametrize("connection", ["concatenation", "addition"])
def test_networks_with_skips_learn(digits, connection):
    family = skip_cells(digits.image_shape, 10, connection=connection, base_widths=(8, 16), depths=(3, 4, 5), skips=(0, 8))
    fitness = TrainedFitness(family, digits, device=GPU, epochs=15)
    assert (fitness(family.space.population([(1, 2, 1, 2, 1), (0, 0, 0, 0, 0)])) > 0.5).all()


@pytest.mark.parametrize("way", [FairPaths, Mixtures])
def test_other_ways_learn(digits, way):
    supernet = two_node(digits.image_shape, 10, channels=8)
    losses = train(supernet, way(), digits.train, epochs=10, lr=0.02, device=GPU)
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert -1 <= gradient_cosine(supernet, digits.train.head(64), GPU)["mean"] <= 1


def test_fine_tuning_and_likelihood_agree_with_the_cpu(digits):
    supernet = two_node(digits.image_shape, 10, channels=8)
    train(supernet, UniformPaths(), digits.train, epochs=10, device=GPU)
    population = supernet.space.enumerate()[::13]
    tuned = FineTunedFitness(supernet, digits.search, digits.train, steps=0, device=GPU)
    inherited = InheritedFitness(supernet, digits.search, digits.train.head(512), device=GPU)
    assert np.abs(tuned(population) - inherited(population)).max() <= 2 / len(digits.search)
    on_cpu = InheritedFitness(supernet.cpu(), digits.search, digits.train.head(512)).likelihood(population)
    assert np.abs(inherited.likelihood(population) - on_cpu).max() < 0.05


def test_fresh_weights_are_those_of_the_cpu(digits):
    """A seed means the same network wherever the supernet is."""
    supernet = mbconv(digits.image_shape, 10, depths=(1, 1, 1))
    expected = supernet.subnet((0, 0, 0), fresh_seed=4).state_dict()
    found = supernet.to(GPU).subnet((0, 0, 0), fresh_seed=4).state_dict()
    assert all(torch.equal(expected[name], value.cpu()) for name, value in found.items())


@pytest.mark.parametrize("make", [lambda: shuffle((1, 8, 8), 10, widths=("0.5", "1.0")), lambda: quantised((1, 8, 8), 10)])
def test_widths_and_bits_train_and_agree_with_the_cpu(digits, make, rng):
    """After some epochs under autocast: the same likelihood on both devices, without autocast's rounding changing what is learned."""
    supernet = make()
    losses = train(supernet, UniformPaths(), digits.train, epochs=8, device=GPU)
    assert losses[-1]["loss"] < losses[0]["loss"] - 0.02
    population = supernet.space.sample(5, rng)
    search, calibration = digits.search, digits.train.head(256)
    found = {device: InheritedFitness(supernet, search, calibration, device=torch.device(device)) for device in ("cuda", "cpu")}
    scores = {device: fitness.likelihood(population) for device, fitness in found.items()}
    np.testing.assert_allclose(scores["cuda"], scores["cpu"], atol=0.1)


@pytest.mark.parametrize("paths", [1, 3])
def test_graphs_train_as_the_network_without_them(digits, monkeypatch, paths):
    """Replayed operators and plain ones give the same losses, also where a step has several paths; the network is left as it was."""

    class Several(UniformPaths):
        def paths(self, space, rng):
            return space.sample(paths, rng)

    part, losses = digits.train.head(640), {}
    for least in (1, 10**9):
        monkeypatch.setattr(graphed, "LEAST_STEPS", least)
        supernet = mbconv(digits.image_shape, 10)
        losses[least] = [each["loss"] for each in train(supernet, Several(), part, epochs=3, batch_size=64, lr=0.02, device=GPU)]
        assert not any("forward" in vars(module) for module in supernet.modules())
    np.testing.assert_allclose(losses[1], losses[10**9], rtol=0.01)


def test_a_network_alone_trains_as_without_graphs(digits, monkeypatch):
    losses = {}
    for least in (1, 10**9):
        monkeypatch.setattr(graphed, "LEAST_STEPS", least)
        network = mbconv(digits.image_shape, 10).subnet((0,) * 8, fresh_seed=0)
        losses[least] = [each["loss"] for each in train(network, StandAlone(), digits.train.head(640), epochs=3, lr=0.02, device=GPU)]
    np.testing.assert_allclose(losses[1], losses[10**9], rtol=0.01)
