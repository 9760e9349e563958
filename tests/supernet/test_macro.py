"""The macro space: exactly the networks of the table."""

import numpy as np
import pytest
import torch

from evonas import UsageError
from evonas.tabular import identities_last, nasbench_macro, nasbench_macro_space
from predictors import costs
from supernet import macro


@pytest.fixture(scope="module")
def supernet():
    return macro()


def test_all_networks_of_the_table_have_its_costs(supernet, tables):
    table = nasbench_macro(tables / "nasbench_macro.npz")
    parts = supernet.parts()
    assert len(table) == 6561
    assert (costs.macs(supernet.space, parts)(table.architectures) == table.columns["macs"]).all()
    assert (costs.params(supernet.space, parts)(table.architectures) == table.columns["params"]).all()


def test_operators_are_counted_without_identities(supernet, rng):
    population = supernet.space.sample(20, rng)
    assert (costs.operators(supernet.space)(population) == (population > 0).sum(axis=1)).all()


def test_equal_networks_are_those_that_the_table_repeats(tables):
    """The authors trained one network for all that differ only in where a stage's identities stand."""
    table = nasbench_macro(tables / "nasbench_macro.npz")
    moved = identities_last(table.architectures)
    for column in ("test", "macs", "params"):
        values = table.columns[column].reshape(len(table), -1)
        at = {tuple(row): i for i, row in enumerate(table.architectures.tolist())}
        assert (values[[at[tuple(row)] for row in moved.tolist()]] == values).all()
    distinct = np.unique(moved, axis=0)
    assert len(distinct) == 3969 == 9 * 21 * 21
    accuracies = table.lookup("test")(distinct)
    assert len(np.unique(accuracies.round(9))) > 1500  # different networks do not repeat their accuracies by construction


def test_the_space_lists_each_network_once():
    space = nasbench_macro_space()
    rows = space.enumerate()
    assert len(rows) == 3969
    assert (space.canonical(rows) == rows).all()


def test_identities_of_a_stage_go_last_and_nothing_else_moves():
    row = np.array([[0, 0, 1, 0, 2, 0, 0, 1], [2, 0, 0, 0, 0, 1, 1, 2]])
    assert identities_last(row).tolist() == [[0, 0, 1, 2, 0, 0, 1, 0], [2, 0, 0, 0, 0, 1, 1, 2]]


def test_equal_networks_compute_the_same(supernet, rng):
    """Moving the modules of one to the places of the other gives the same function: an identity inside a stage is nothing."""
    supernet.eval()
    images = torch.from_numpy(rng.normal(size=(2, 3, 32, 32)).astype(np.float32))
    first = supernet.subnet((1, 0, 2, 0, 1, 0, 2, 0))
    second = supernet.subnet((1, 0, 2, 1, 0, 0, 2, 0))
    assert [type(m) for m in first] == [type(m) for m in second]
    second.load_state_dict(dict(zip(second.state_dict(), first.state_dict().values(), strict=True)))
    torch.testing.assert_close(first.eval()(images), second.eval()(images))


def test_images_must_outlast_three_halvings():
    with pytest.raises(UsageError, match="divides them by 8"):
        macro((3, 6, 6))
