"""NN-Degree and NN-Mass: published values, and a count on the explicit graph of real networks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas import UsageError
from predictors.flash.nn_degree import inverted_residual_degree, inverted_residual_mass, nn_degree, nn_mass, skip_channels
from supernet import skip_cells
from supernet.operators import InvertedResidual


@pytest.mark.parametrize(
    ("width", "depth", "skips", "mass", "links", "channels"),
    [(32, 13, 40, 85.09, 65.23, 33.04), (64, 13, 80, 170.18, 130.46, 65.04), (128, 13, 125, 270.83, 233.77, 128.83)],
)
def test_published_values(width, depth, skips, mass, links, channels):
    cell = [width], [depth], [skips]
    assert nn_mass(*cell) == pytest.approx(mass, abs=0.005)
    assert nn_degree(*cell) == pytest.approx(links, abs=0.005)
    assert nn_degree(*cell, count="channels") == pytest.approx(channels, abs=0.005)
    assert nn_degree(*cell, "addition") == pytest.approx(channels, abs=0.005)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 200))
def test_skip_channels_are_the_sum_over_layers(width, depth, skips):
    assert skip_channels(width, depth, skips) == sum(min(skips, width * (i - 2)) for i in range(3, depth + 1))


@pytest.mark.parametrize("connection", ["concatenation", "addition"])
def test_the_explicit_graph_of_random_networks_has_this_average_in_degree(connection, rng):
    family = skip_cells((3, 16, 16), 10, connection=connection, base_widths=(4, 8, 12), depths=range(1, 9), skips=range(0, 40))
    population = family.space.sample(25, rng)
    expected = nn_degree(*family.cells(population), connection)
    for row, degree in zip(population, expected, strict=True):
        cells = [module for module in family.network(row) if hasattr(module, "sources")]
        assert sum(average_in_degree(cell, connection) for cell in cells) == pytest.approx(degree)


def average_in_degree(cell, connection):
    """Every link of a built cell, written down one by one as (from layer, from channel, to layer, to channel); layer 0 is its input."""
    width = cell.layers[0][2].out_channels
    links = set()
    for i, layer in enumerate(cell.layers, start=1):
        links |= {(i - 1, source, i, target) for source in range(width) for target in range(width)}
        for source in cell.sources[i - 1]:
            taken = getattr(cell, f"taken_{i - 1}_{source}")
            if connection == "addition":
                links |= {(source + 1, c, i, c) for c in np.flatnonzero(taken.flatten().numpy()).tolist()}
            else:
                links |= {(source + 1, c, i, target) for c in taken.tolist() for target in range(layer[2].out_channels)}
        if connection == "concatenation" and i > 1:
            assert layer[2].in_channels == len({(a, b) for a, b, to, _ in links if to == i})
    return len(links) / (width * len(cell.layers))


def test_an_inverted_residual_block_counted_by_hand():
    block = InvertedResidual(2, 2, 5, 3)  # 2 channels to 6, filtered, and back to 2, with a residual connection
    assert inverted_residual_degree(block, ()) == pytest.approx((6 * 2 + 6 * 1 + 2 * 6 + 2 * 1) / 14)
    assert inverted_residual_mass(block, ()) == pytest.approx((2 + 2 * 6) * 2 / (2 * 2 + 6))
    strided = InvertedResidual(2, 4, 3, 3, stride=2)
    assert inverted_residual_degree(strided, ()) == pytest.approx((6 * 2 + 6 * 1 + 4 * 6) / 16)
    assert inverted_residual_mass(strided, ()) == 0


def test_what_is_not_known_is_refused():
    from torch import nn

    with pytest.raises(UsageError, match="Linear is not defined"):
        inverted_residual_degree(nn.Linear(2, 2), ())
    with pytest.raises(UsageError, match=r"Unknown connection 'adition'.*Did you mean 'addition'"):
        nn_degree([4], [5], [2], "adition")
    with pytest.raises(UsageError, match="Unknown count"):
        nn_degree([4], [5], [2], count="edges")
