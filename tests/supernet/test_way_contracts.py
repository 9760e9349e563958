"""Every registered way of training against the contract, and each check against an example that breaks it."""

import numpy as np
import pytest
import torch
from torch import nn

from evonas import SearchSpace, UsageError
from evonas.testing import TableCost
from supernet import BinnedPaths, FairPaths, InheritedFitness, OrderedPaths, Shrinking, UniformPaths
from supernet import testing as t
from supernet.training.checkpoint import load_checkpoint, restore
from supernet.training.registry import WAYS
from supernet.training.taught import TaughtPaths
from supernet.training.way import Way, learn


def bins(supernet):
    table = np.arange(2.0 * 4 * len(supernet.space)).reshape(len(supernet.space), -1)
    return BinnedPaths(TableCost(table), 50.0, 150.0)


def taught(supernet):
    return TaughtPaths(t.small_supernet(seed=5).subnet(supernet.space.sample(1, np.random.default_rng(0))[0]))


def narrowing(supernet):
    """Shrinks the space of the checks, which is small enough for the defaults, in every epoch that it may."""
    return Shrinking(stop_size=20, pool=10)


WAY_MAKES = {**{name: entry.make for name, entry in WAYS.items()}, "bins": bins, "taught": taught, "shrinking": narrowing}


ALONE = [c for c in t.WAY_CHECKS if c is not t.team_of_two_equals_one]


@pytest.mark.parametrize("name", WAY_MAKES)
@pytest.mark.parametrize("check", ALONE, ids=lambda check: check.__name__)
def test_ways(name, check):
    check(WAY_MAKES[name])


class Learner(UniformPaths):
    """A way that owns something: a temperature learned by the loop, and a board learned on held-out images."""

    held_out = 0.25

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))
        self.board = nn.Parameter(torch.zeros(4))
        self.register_buffer("seen", torch.zeros(()))
        self.optimizer = torch.optim.Adam([self.board], lr=0.1)

    def step(self, network, batch, moment, rng):
        loss = super().step(network, batch, moment, rng)
        return {"cross_entropy": loss, "temperature": (self.temperature - 2) ** 2}

    def after_step(self, network, batch, held_out, moment, rng):
        logits = network(held_out[0], network.space.sample(1, rng)[0])
        learn(nn.functional.cross_entropy(logits + self.board, held_out[1]), self.optimizer)
        self.seen += len(held_out[1])

    def end_of_epoch(self, network, held_out, moment):
        if moment.epoch == 1:
            allowed = network.space.allowed[0]
            return network.space.narrow({network.space.names[0]: [network.space.choices[0].options[i] for i in allowed[:2]]})
        return None

    def get_extra_state(self):
        return {"optimizer": self.optimizer.state_dict()}

    def set_extra_state(self, state):
        self.optimizer.load_state_dict(state["optimizer"])


@pytest.mark.parametrize("check", ALONE, ids=lambda check: check.__name__)
def test_a_way_that_owns_things(check):
    check(lambda supernet: Learner())


class Forgetful(OrderedPaths):
    """What is left of its round is not saved."""

    def __init__(self):
        super().__init__(t.small_supernet().space.sample(64, np.random.default_rng(0)))

    def get_extra_state(self):
        return {"left": []}


class Meddler(UniformPaths):
    def after_step(self, network, batch, held_out, moment, rng):
        with torch.no_grad():
            next(network.parameters()).mul_(0.999)


class Idle(UniformPaths):
    """Owns what never moves."""

    def __init__(self):
        super().__init__()
        self.board = nn.Parameter(torch.zeros(4))


class Trespasser(UniformPaths):
    def paths(self, space, rng):
        return SearchSpace(space.choices).sample(1, rng)


class Careless(UniformPaths):
    def paths(self, space, rng):
        return space.sample(1, np.random.default_rng(np.random.randint(1 << 30)))  # noqa: NPY002


class Lonely(Learner):
    """Learns from its own share of the batch, so that the processes of a team drift apart."""

    def after_step(self, network, batch, held_out, moment, rng):
        with torch.no_grad():
            self.board += batch[0].mean() + batch[1].sum()


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Forgetful, t.resumed_to_the_bit),
        (Meddler, t.after_step_leaves_the_network_alone),
        (Idle, t.own_parameters_move_and_are_saved),
        (Trespasser, t.only_the_allowed_space_is_trained),
        (Trespasser, t.a_space_narrowed_while_training_is_kept),
        (Careless, t.global_generators_are_untouched),
    ],
)
def test_broken_ways_fail(broken, check):
    with pytest.raises(AssertionError):
        check(lambda supernet: broken())


def test_teams():
    """Every registered way and one that owns things train in a team what they train alone; one that learns from its share does not."""
    makes = {**WAY_MAKES, "learner": lambda supernet: Learner(), "lonely": lambda supernet: Lonely()}
    found = t.team_differences(makes)
    assert list(found) == ["lonely"], found


def test_a_way_names_its_losses_and_sets_images_aside():
    """Named losses add up; the steps see no held-out image; the space is narrowed where the way says so."""
    supernet, seen = t.small_supernet(), {"held": set(), "trained": set()}

    class Watched(Learner):
        def step(self, network, batch, moment, rng):
            seen["trained"] |= {round(float(image.sum()), 3) for image in batch[0]}
            return super().step(network, batch, moment, rng)

        def after_step(self, network, batch, held_out, moment, rng):
            seen["held"] |= {round(float(image.sum()), 3) for image in held_out[0]}
            return super().after_step(network, batch, held_out, moment, rng)

    losses = t._train(supernet, Watched())
    assert all(found["loss"] == pytest.approx(found["cross_entropy"] + found["temperature"], rel=1e-5) for found in losses)
    assert losses[-1]["temperature"] < losses[0]["temperature"]
    assert len(seen["held"]) == 24
    assert len(seen["trained"]) == 72
    assert not seen["held"] & seen["trained"]
    assert supernet.space.allowed[0] == (0, 1)


def test_a_supernet_of_another_run_brings_its_space_and_what_its_way_has_learned(tmp_path):
    """As `--supernet RUN` takes it; another way is refused where the checkpoint holds what the first one learned."""
    trained, way = t.small_supernet(), Learner()
    t._train(trained, way, checkpoint=tmp_path / "c.pt", identity="x")
    supernet, again = t.small_supernet(seed=5), Learner()
    content = load_checkpoint(tmp_path / "c.pt", "x")
    restore(supernet, again, content)
    assert supernet.space.allowed == trained.space.allowed != t.small_supernet().space.allowed
    assert all(torch.equal(value, supernet.state_dict()[name]) for name, value in trained.state_dict().items())
    assert torch.equal(again.board, way.board)
    assert again.board.abs().sum() > 0
    with pytest.raises(UsageError, match="trained by Learner, and this run asks for UniformPaths"):
        restore(t.small_supernet(), UniformPaths(), content)
    elsewhere = t.small_supernet()
    elsewhere.space = elsewhere.space.narrow({elsewhere.space.names[0]: ["xception"]})
    with pytest.raises(UsageError, match="narrowed to one that is not part of it"):
        restore(elsewhere, Learner(), content)


def test_paths_may_be_scored_after_a_step():
    """With statistics of their own, as outside of training; the network keeps its own, and its mode."""
    images, found = t.training_images(64), {}

    class Scorer(UniformPaths):
        def after_step(self, network, batch, held_out, moment, rng):
            if moment.step == moment.steps - 1:
                population = network.space.sample(3, np.random.default_rng(0))
                found["inside"] = InheritedFitness(network, images, images).likelihood(population)
                found["modes"] = {module.training for module in network.modules()}
            network.eval()

        def end_of_epoch(self, network, held_out, moment):
            found["after"] = {module.training for module in network.modules()}

    supernet = t.small_supernet()
    t._train(supernet, Scorer())
    population = supernet.space.sample(3, np.random.default_rng(0))
    np.testing.assert_allclose(found["inside"], InheritedFitness(supernet, images, images).likelihood(population), atol=1e-6)
    assert found["modes"] == found["after"] == {True}


def test_checkpoints_of_fair_training_from_before_go_on(tmp_path):
    """Decks stood in the state by themselves once."""
    supernet, way = t.small_supernet(), FairPaths()
    t._train(supernet, way, checkpoint=tmp_path / "c.pt", identity="x")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    content["way"] = content["way"]["_extra_state"]
    restored = FairPaths()
    restore(t.small_supernet(), restored, content)
    assert restored.get_extra_state() == way.get_extra_state()


def test_an_architecture_an_image_is_trained_in_one_process(monkeypatch):
    supernet, images = t.small_supernet(), torch.zeros(2, 1, 8, 8)
    population = np.array([[0] * len(supernet.space), [1] * len(supernet.space)])
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with pytest.raises(UsageError, match="run this without torchrun"):
        supernet.train()(images, population)


def test_gradients_that_after_step_leaves_in_the_network_are_refused():
    """They would be counted as those of a step by whoever averages gradients over a team."""

    class Sloppy(Learner):
        def after_step(self, network, batch, held_out, moment, rng):
            network(held_out[0], network.space.sample(1, rng)[0]).sum().backward()

    with pytest.raises(RuntimeError, match=r"use supernet\.training\.way\.learn"):
        t._train(t.small_supernet(), Sloppy())


def test_a_way_without_a_step_says_so():
    with pytest.raises(NotImplementedError, match="has no method `step`"):
        Way().step(None, None, None, None)
