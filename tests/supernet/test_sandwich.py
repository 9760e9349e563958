"""Ways that keep a budget, and the sandwich rule: what is drawn, what learns from what, and going on after a kill."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from evonas import Budget
from predictors import macs
from supernet import UniformPaths, mbconv, train
from supernet.training.sandwich import Sandwich
from supernet.training.way import Moment

MOMENT = Moment(0, 1, 0, 1, 0.1)


@pytest.fixture
def setting(digits):
    supernet = mbconv(digits.image_shape, 10, depths=(1, 2, 1))
    size = macs(supernet.space, supernet.parts())
    return supernet, size, Budget({"macs": size}, ["macs=420k..700k"])


def test_only_paths_within_the_budget_are_drawn_and_all_of_them(setting, rng):
    supernet, _, budget = setting
    way, everything = UniformPaths(budget=budget), supernet.space.enumerate()
    feasible = everything[budget.feasible(everything)]
    drawn = np.concatenate([way.paths(supernet.space, rng) for _ in range(4000)])
    assert budget.feasible(drawn).all()
    assert len(np.unique(drawn, axis=0)) > 0.9 * min(len(feasible), 4000)


def test_a_sandwich_has_the_ends_of_the_budget_outside(setting, rng):
    supernet, size, budget = setting
    everything = supernet.space.enumerate()
    for limits in (Budget(), budget):
        feasible = everything[limits.feasible(everything)]
        largest, smallest, *between = Sandwich(size, random=3, budget=limits if limits.bounds else None).paths(supernet.space, rng)
        assert size(largest[None])[0] == size(feasible).max()
        assert size(smallest[None])[0] == size(feasible).min()
        assert len(between) == 3
        assert limits.feasible(np.array(between)).all()


def test_the_others_learn_from_the_largest_which_learns_from_the_labels(setting, digits, rng):
    supernet, size, _ = setting
    images, labels = next(digits.train.batches(32, torch.device("cpu")))
    way = Sandwich(size, random=1, label_smoothing=0.0)
    paths = way.paths(supernet.space, np.random.default_rng(4))
    supernet.eval()  # norms keep still, so that the same can be computed twice
    loss = way.step(supernet, (images, labels), MOMENT, np.random.default_rng(4))
    gradient = torch.autograd.grad(loss, supernet.chain[0].module[0].weight)[0]
    logits = [supernet(images, path) for path in paths]
    with torch.no_grad():
        taught = logits[0].softmax(1)
    expected = cross_entropy(logits[0], labels) - sum((taught * other.log_softmax(1)).sum(1).mean() for other in logits[1:])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(gradient, torch.autograd.grad(expected, supernet.chain[0].module[0].weight)[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [UniformPaths, Sandwich])
def test_killed_training_within_a_budget_ends_with_the_same_weights(setting, digits, tmp_path, kind):
    _, size, budget = setting
    make = (lambda: UniformPaths(budget=budget)) if kind is UniformPaths else (lambda: Sandwich(size, random=1, budget=budget))
    whole, killed, resumed = (mbconv(digits.image_shape, 10, depths=(1, 2, 1), seed=0) for _ in range(3))
    images, settings = digits.train.head(192), {"epochs": 3, "batch_size": 64}
    train(whole, make(), images, **settings)

    def die(share, found):
        if share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(killed, make(), images, checkpoint=tmp_path / "c.pt", on_progress=die, **settings)
    train(resumed, make(), images, checkpoint=tmp_path / "c.pt", **settings)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
