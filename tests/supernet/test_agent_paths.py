"""Agents beside a supernet: they are told what the path of a step loses, and nothing but that path is touched."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from evonas import UsageError
from supernet import AgentPaths, darts, nasbench201, train
from supernet import testing as t
from supernet.training.way import Moment

KINDS = ["least-squares", "exponential"]


def small():
    return darts((1, 8, 8), 4, channels=4, cells=3, nodes=2, own_cells=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_the_operators_of_its_path_and_no_others(kind):
    supernet = small()
    way = AgentPaths(supernet.space, agents=kind)
    drawn, inner = [], way.paths

    def watched(space, rng):
        drawn.append(inner(space, rng)[0])
        return drawn[-1][None]

    vars(way)["paths"] = watched
    before = {name: value.detach().clone() for name, value in supernet.named_parameters()}
    train(supernet, way, t.training_images(64), epochs=1, batch_size=32, lr=0.1, weight_decay=0.1)
    assert len(drawn) == 1
    used = {id(parameter) for module in supernet.active(drawn[0]) for parameter in module.parameters()}
    moved = {name for name, value in supernet.named_parameters() if not torch.equal(before[name], value)}
    assert moved
    assert moved <= {name for name, value in supernet.named_parameters() if id(value) in used}


@pytest.mark.parametrize("kind", KINDS)
def test_agents_are_told_what_the_path_loses_on_held_out_images(kind):
    """With the weights as they are after the step, and the statistics of the batch; nothing of it stays in the network."""
    supernet = small().train()
    way = AgentPaths(supernet.space, agents=kind)
    batch, held_out = ((part.images, part.labels) for part in (t.training_images(16), t.training_images(48)))
    told, inner = [], way.agents.learn
    way.agents.learn = lambda rows, losses: (told.append((tuple(rows[0].tolist()), losses[0])), inner(rows, losses))
    moment, rng = Moment(0, 2, 0, 10, 0.1), np.random.default_rng(0)
    way.step(supernet, batch, moment, rng)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    way.after_step(supernet, batch, held_out, moment, rng)
    assert all(torch.equal(before[name], value) for name, value in supernet.state_dict().items())
    (path, loss), alone = told[0], supernet.subnet(told[0][0]).train()
    assert loss == pytest.approx(cross_entropy(alone(held_out[0]), held_out[1]).item(), rel=1e-5)
    assert way.agents.rounds == 10
    assert len(path) == len(supernet.space) == 3 * 5


def test_in_warm_up_nothing_is_learned():
    supernet = small()
    way, counts = AgentPaths(supernet.space, warmup=0.5), []
    train(supernet, way, t.training_images(192), epochs=4, batch_size=32, lr=0.05, on_record=lambda *_: counts.append(way.agents.count))
    assert counts == [0, 0, 3, 6]


def test_regret_is_told_between_the_recommendation_and_chance():
    """Agents that have settled draw what they recommend; uniform paths lose what any lose."""
    supernet = nasbench201((1, 8, 8), 4, widths=(4,), cells=1)
    way = AgentPaths(supernet.space, agents="exponential")
    train(supernet, way, t.training_images(192), epochs=2, batch_size=32, lr=0.05)
    way.agents.credit[:] = 1e9
    best = np.array([3, 2, 3, 1, 3, 4])
    way.agents.credit[np.arange(6), best] = 0.0
    way.agents.floor = 0.0
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    found = way.record(supernet, t.training_images(64), Moment(1, 2, 11, 12, 0.1))
    assert found.architecture == tuple(best)
    losses = found.attributes["held_out_loss"]
    alone = supernet.subnet(best).train()
    images = t.training_images(64)
    expected = cross_entropy(alone(images.images), images.labels).item()
    assert losses["drawn"] == losses["recommended"] == pytest.approx(expected, rel=1e-5)
    assert losses["uniform"] != losses["drawn"]
    assert losses["rounds"] == 6
    assert all(torch.equal(before[name], value) for name, value in supernet.state_dict().items())
    assert {name: max(options, key=options.get) for name, options in found.attributes["distribution"].items()} == supernet.space.to_names(
        best
    )


def test_a_restored_way_draws_from_what_was_learned():
    """A new search from a trained supernet has the policies of its training, however many steps that had."""
    supernet = small()
    way = AgentPaths(supernet.space, agents="exponential")
    train(supernet, way, t.training_images(192), epochs=3, batch_size=32, lr=0.05)
    again = AgentPaths(supernet.space, agents="exponential")
    again.load_state_dict(way.state_dict())
    np.testing.assert_array_equal(again.agents.policies, way.agents.policies)


def test_what_makes_no_sense_is_refused():
    space = small().space
    for settings, message in (({"agents": "greedy"}, "Unknown agents"), ({"warmup": 1.0}, "below 1")):
        with pytest.raises(UsageError, match=message):
            AgentPaths(space, **settings)
