"""The skip space: networks that do what their architecture says, and totals in closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from evonas import UsageError
from predictors import count_macs, count_params
from predictors.devices.runtime import export, largest_difference
from supernet import StandAlone, TrainedFitness, accuracy, skip_cells, train
from supernet.spaces.skip import SkipCell, chosen_channels


def small(connection="concatenation"):
    return skip_cells((3, 9, 10), 5, connection=connection, base_widths=(4, 8, 16), depths=range(1, 8), skips=range(0, 30, 3))


def test_the_paper_space_is_as_large_as_the_paper_says():
    space = skip_cells((3, 32, 32), 10).space
    assert space.count() > 63e9
    distinct = [[min(109, 16 * m * (d - 2) + 1) for d in range(5, 31)] for m in (1, 2, 3)]
    assert sum(sum(options) ** 3 for options in distinct) > 63e9, "also after architectures that are the same network"


@pytest.mark.parametrize("connection", ["concatenation", "addition"])
def test_totals_equal_what_the_built_network_has(connection, rng):
    family = small(connection)
    population = family.space.sample(12, rng)
    totals = family.totals(population)
    for i, row in enumerate(population):
        network = family.network(row)
        assert totals["macs"][i] == count_macs(network, family.image_shape)
        assert totals["params"][i] == count_params(network, family.image_shape)
        assert totals["layers"][i] == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules())
        assert totals["activations"][i] == traffic(network, family.image_shape)
        assert totals["connections"][i] == sum(len(sources) for cell in network if isinstance(cell, SkipCell) for sources in cell.sources)


def traffic(network, image_shape):
    seen = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0].numel() + output.numel()))
    with torch.no_grad():
        network.eval()(torch.zeros(1, *image_shape))
    return sum(seen)


@pytest.mark.parametrize("connection", ["concatenation", "addition"])
def test_a_cell_equals_the_definition(connection):
    """All older maps side by side, the chosen ones picked out of them: the obvious way."""
    width, depth, skips = 4, 6, 7
    cell = SkipCell(3, width, depth, skips, 1, connection, (0, 0)).eval()
    x = torch.randn(2, 3, 5, 5)
    outputs, now = [], x
    with torch.no_grad():
        for i, layer in enumerate(cell.layers, start=1):
            taken = chosen_channels(width, i, skips, (0, 0))
            assert len(taken) == (min(skips, width * (i - 2)) if i > 2 else 0)
            older = torch.cat([torch.zeros(2, 0, 5, 5), *outputs], dim=1)
            if connection == "concatenation":
                now = layer(torch.cat([now, older[:, taken]], dim=1))
            else:
                now = layer(now)
                for channel in taken:
                    now[:, channel % width] += older[:, channel]
            outputs.append(now.clone())
        assert torch.allclose(cell(x), now, atol=1e-5)


def test_skips_reach_back_to_the_first_layer():
    assert set(chosen_channels(4, 9, 28, (0, 0))) == set(range(28)), "all older channels, where as many may be taken"
    drawn = np.concatenate([chosen_channels(16, 10, 8, (0, c)) // 16 for c in range(50)])
    assert set(drawn) == set(range(8)), "and any of them where fewer may"


def test_more_skips_than_there_are_older_channels_are_the_same_architecture():
    space = small().space
    narrow = space.population([(0, 2, 9, 2, 9, 2, 9)])  # depth 3 and up to 27 skips: the third layer sees only 4, 8 and 16 channels
    assert space.to_names(space.canonical(narrow)[0]) == {
        "width": "1",
        **{"cell0.depth": "3", "cell0.skips": "6", "cell1.depth": "3", "cell1.skips": "12", "cell2.depth": "3", "cell2.skips": "24"},
    }
    assert (space.canonical(space.canonical(narrow)) == space.canonical(narrow)).all()


def test_weights_depend_on_the_seed_and_links_do_not():
    family = small()
    row = family.space.sample(1, np.random.default_rng(3))[0]
    one, same, other = family.network(row, seed=1), family.network(row, seed=1), family.network(row, seed=2)
    weights = [next(network.parameters()) for network in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    for a, b in zip(one.buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("connection", ["concatenation", "addition"])
def test_a_network_exports_to_onnx(connection, tmp_path):
    family = small(connection)
    network = family.network((0, 5, 8, 4, 5, 3, 2))
    export(network, family.image_shape, tmp_path / "network.onnx")
    assert largest_difference(network, tmp_path / "network.onnx", torch.randn(1, *family.image_shape)) < 1e-4


def test_trained_fitness_is_the_accuracy_of_training_by_hand(digits):
    family = skip_cells(digits.image_shape, 10, base_widths=(4, 8), multipliers=(1,), depths=(1, 2, 3), skips=(0, 4))
    population = family.space.population([(0, 1, 0, 2, 1), (0, 0, 0, 0, 0)])
    settings = {"epochs": 8, "batch_size": 64, "seed": 3}
    scores = TrainedFitness(family, digits, device=torch.device("cpu"), **settings)(population)
    by_hand = family.network(population[1], seed=3)
    train(by_hand, StandAlone(), digits.train, **settings)
    assert scores[1] == accuracy(by_hand, digits.search, torch.device("cpu"))
    assert scores.shape == (2,)
    assert (scores > 0.15).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"connection": "sum"}, "Unknown connection"),
        ({"layout": "papper"}, "Did you mean 'paper'"),
        ({"depths": (3, 2)}, "ascending"),
        ({"skips": (-1, 2)}, "from 0 on"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        skip_cells((3, 16, 16), 10, **arguments)
    with pytest.raises(UsageError, match="too small for 3 cells"):
        skip_cells((3, 3, 3), 10)


@pytest.mark.parametrize("connection", ["concatenation", "addition"])
def test_the_links_of_a_network_are_saved_with_its_weights(connection):
    """Weights mean nothing on other links: a network that drew others takes over those it is loaded with."""
    cell, other = (SkipCell(3, 4, 6, 7, 1, connection, (seed, 0)).eval() for seed in (0, 1))
    x = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        assert any(not torch.equal(a, b) for a, b in zip(cell.state_dict().values(), other.state_dict().values(), strict=True))
        other.load_state_dict(cell.state_dict())
        assert torch.equal(cell(x), other(x))
        assert other.sources == cell.sources
