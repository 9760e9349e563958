"""The space of Cream against the multiply-accumulates of its published networks, and the rule for depths."""

import pytest

from evonas import UsageError
from predictors import count_macs
from supernet import cream
from supernet.spaces.cream import depths_within

# Options of every stage (2 * kernel + expansion) and image size, from the code's retraining; the names are their million MACs.
PUBLISHED = {
    14: (64, [[3], [3, 3], [3, 3], [3], [3]]),
    43: (96, [[3], [3, 1], [3, 1], [3, 3, 3], [3, 3]]),
    114: (160, [[3], [3, 3], [3, 3], [3, 3, 3], [3, 3]]),
    287: (224, [[3], [3, 3], [3, 1, 3], [3, 3, 3, 3], [3, 3, 3]]),
}


@pytest.mark.parametrize("million", PUBLISHED)
def test_published_networks_cost_what_they_are_named_after(million):
    size, stages = PUBLISHED[million]
    supernet = cream((3, size, size), 1000, layout="paper", depths=[len(stage) for stage in stages])
    network = supernet.subnet([option for stage in stages for option in stage])
    assert count_macs(network, (3, size, size)) / 1e6 == pytest.approx(million, rel=0.025)


SMALL, LARGE = [[1.0] * 4] * 3, [[10.0] * 4] * 3


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (0, 35, [1, 1, 1]),
        (0, 45, [1, 2, 1]),  # the middle first
        (0, 55, [1, 2, 2]),
        (0, 65, [2, 2, 2]),
        (0, 1000, [4, 4, 4]),
        (100, 1000, [4, 4, 4]),
    ],
)
def test_stages_grow_in_turn_while_the_largest_network_stays_within(lower, upper, expected):
    assert depths_within(0.0, SMALL, LARGE, lower, upper) == expected


def test_ranges_that_no_depth_suits_are_refused():
    with pytest.raises(UsageError, match="smallest network of this space costs more"):
        depths_within(5.0, SMALL, LARGE, 0, 7)
    with pytest.raises(UsageError, match="largest network of this space costs less"):
        depths_within(0.0, SMALL, LARGE, 130, 1000)
