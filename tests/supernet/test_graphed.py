"""When an operator replays its graph and when it must not; what has a graph. The graphs themselves: tests/supernet/test_gpu.py."""

import pytest
import torch

from supernet import mbconv, shuffle
from supernet.blocks import FixedBlock
from supernet.training.graphed import Graphs, _units, graphed


@pytest.fixture
def calls():
    """Operators 0, 1 and 2, and what ran."""
    graphs, ran = Graphs(), []
    like = torch.zeros(4, 2)
    forwards = [
        graphs.in_order(i, like, lambda x, i=i: ran.append(("graph", i)), lambda x, i=i: ran.append(("plain", i))) for i in range(3)
    ]
    return graphs, ran, lambda order, images=4: [forwards[i](torch.zeros(images, 2)) for i in order]


@pytest.mark.parametrize(
    ("order", "replayed"),
    [
        ((0, 1, 2), (True, True, True)),
        ((0, 2), (True, True)),
        ((0, 2, 0, 1, 2), (True, True, False, False, False)),
        ((1, 1), (True, False)),
    ],
)
def test_memory_is_shared_by_the_order_of_capture(calls, order, replayed):
    """A replay after a later one would overwrite what the later one's backward pass needs."""
    graphs, ran, run = calls
    for _ in range(2):
        graphs.next_step()
        run(order)
    assert ran == 2 * [("graph" if graph else "plain", i) for i, graph in zip(order, replayed, strict=True)]


def test_fewer_images_than_captured_run_plain(calls):
    graphs, ran, run = calls
    graphs.next_step()
    run((0,), images=3)
    run((0,))
    assert ran == [("plain", 0), ("graph", 0)]


def test_every_operator_of_a_chain_has_a_graph_for_what_reaches_it(digits):
    supernet = mbconv(digits.image_shape, 10).train()
    images = torch.zeros(4, *digits.image_shape)
    before = {name: value.clone() for name, value in supernet.named_parameters()}
    units = _units(supernet, images)
    skips = sum("skip" in choice.options for choice in supernet.space.choices)
    assert len(units) == sum(len(choice.options) for choice in supernet.space.choices) - skips + 2  # stem and head
    expected = dict(units)
    seen = []
    for unit in expected:
        unit.register_forward_pre_hook(lambda module, arguments: seen.append((module, arguments[0].shape)))
    for option in range(6):
        supernet(images, [option] * len(supernet.space))
    assert {module for module, _ in seen} == set(expected)
    assert all(shape == expected[module].shape for module, shape in seen)
    assert [value.requires_grad for value in expected.values()] == [False] + [True] * (len(units) - 1)
    assert all(torch.equal(before[name], value) for name, value in supernet.named_parameters())
    assert _units(supernet, images) == []  # with hooks, which a graph would not call


def test_what_tells_python_something_has_no_graph(digits):
    """Widths: which part of a weight was used is noted in every forward pass."""
    supernet = shuffle(digits.image_shape, 10, widths=("0.5", "1.0"))
    names = {module: name for name, module in supernet.named_modules()}
    found = [names[unit] for unit, _ in _units(supernet, torch.zeros(4, *digits.image_shape))]
    fixed = [f"blocks.{i}.module" for i, block in enumerate(supernet.chain) if isinstance(block, FixedBlock)]
    assert found == fixed != []


def test_supernets_that_are_no_chain_and_cpus_have_none(digits):
    network = torch.nn.Linear(4, 4)
    network.space = mbconv(digits.image_shape, 10).space
    assert _units(network, torch.zeros(4, 4)) == []
    supernet = mbconv(digits.image_shape, 10)
    with graphed(supernet, lambda: pytest.fail("asked for images"), torch.device("cpu"), 10**6):
        assert not any("forward" in vars(module) for module in supernet.modules())
