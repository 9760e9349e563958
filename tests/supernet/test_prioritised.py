"""Cream: the board, the matching network's gradient, and what teaching leaves alone."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from evonas import Budget
from predictors import macs
from supernet import mbconv, train
from supernet.evaluation import left_as_it_was
from supernet.training.board import Board, Entry
from supernet.training.matching import Matching, closed_form
from supernet.training.prioritised import PrioritisedPaths, untracked
from supernet.training.way import Moment

CPU = torch.device("cpu")


def board(*triples, size=3, gap=0.05):
    made = Board(size, gap)
    for path, accuracy, cost in triples:
        made.offer(Entry((path,), accuracy, cost))
    return made


FULL = ((0, 0.9, 10.0), (1, 0.8, 20.0), (2, 0.7, 30.0))


@pytest.mark.parametrize(
    ("accuracy", "cost", "against", "taken"),
    [
        (0.71, 40.0, None, False),  # a little better and dearer
        (0.76, 40.0, None, True),  # clearly better, dearer
        (0.75, 40.0, None, False),  # better by exactly the gap
        (0.71, 29.0, None, True),  # a little better and cheaper
        (0.71, 30.0, None, False),  # as dear
        (0.70, 1.0, None, False),  # as good
        (0.76, 40.0, 0.75, False),  # where both were measured, the worst was better than when it came
        (0.60, 29.0, 0.55, True),
    ],
)
def test_who_gets_onto_a_full_board(accuracy, cost, against, taken):
    made = board(*FULL)
    assert made.offer(Entry((3,), accuracy, cost), against) == taken
    assert made.holds((3,)) == taken
    assert made.holds((2,)) != taken
    assert len(made) == 3


def test_a_board_with_room_takes_all_and_each_once():
    made = board((0, 0.1, 1.0), (1, 0.9, 9.0))
    assert [entry.path for entry in made.entries] == [(1,), (0,)]
    assert not made.offer(Entry((0,), 0.99, 1.0))
    made.measure(lambda path: {0: 0.8, 1: 0.2}[path[0]])
    assert [(entry.path, entry.accuracy, entry.cost) for entry in made.entries] == [((0,), 0.8, 1.0), ((1,), 0.2, 9.0)]
    again = Board(3)
    again.restore(made.plain())
    assert again.entries == made.entries


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1), st.floats(0, 9)), max_size=60), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_board_never_exceeds_its_size_and_stays_sorted(offers, size):
    made = Board(size)
    for path, accuracy, cost in offers:
        made.offer(Entry((path,), accuracy, cost))
        accuracies = [entry.accuracy for entry in made.entries]
        assert len(made) <= size
        assert accuracies == sorted(accuracies, reverse=True)
        assert len({entry.path for entry in made.entries}) == len(made)


def small(seed=0):
    """A network without batch norm, in float64, whose loss after a step can be differentiated twice."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    x, y, other_x, other_y = torch.randn(8, 6).double(), torch.randint(4, (8,)), torch.randn(9, 6).double(), torch.randint(4, (9,))
    taught = torch.randn(8, 4).double().softmax(1)
    return network, x, y, other_x, other_y, taught


@pytest.mark.parametrize("convex", [True, False])
def test_the_closed_form_is_double_backward_and_finite_differences(convex):
    network, x, y, other_x, other_y, taught = small()
    names, weights = zip(*network.named_parameters(), strict=True)
    matching, xi = Matching(4, 8).double(), 0.3
    nn.init.normal_(matching.layer.weight)
    features = (torch.randn(8, 4).double(), torch.randn(1, 8, 4).double())
    rho = matching.logits(*features)[0].sigmoid()

    def loss_after(rho):
        made = network(x)
        shares = (rho / 2, 1 - rho / 2) if convex else (rho, 1.0)
        loss = shares[0] * cross_entropy(made, taught) + shares[1] * cross_entropy(made, y)
        moved = [w - xi * g for w, g in zip(weights, torch.autograd.grad(loss, weights, create_graph=True), strict=True)]
        return cross_entropy(torch.func.functional_call(network, dict(zip(names, moved, strict=True)), other_x), other_y)

    double_backward = torch.autograd.grad(loss_after(rho), list(matching.parameters()), retain_graph=True)
    before = copy.deepcopy(network.state_dict())
    coefficient = closed_form(
        list(weights),
        lambda: (cross_entropy(network(x), taught), cross_entropy(network(x), y)),
        lambda: cross_entropy(network(other_x), other_y),
        float(rho.detach()),
        xi,
        convex=convex,
    )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    closed = torch.autograd.grad(coefficient * rho, list(matching.parameters()))
    for one, other in zip(closed, double_backward, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    value, step = rho.detach(), 1e-6
    differences = (loss_after(value + step) - loss_after(value - step)) / (2 * step)
    assert coefficient == pytest.approx(float(differences.detach()), rel=1e-6)


def test_weights_come_back_also_when_the_judgement_fails():
    network, x, y, *_, taught = small()
    before = copy.deepcopy(network.state_dict())

    def fails():
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        closed_form(list(network.parameters()), lambda: (cross_entropy(network(x), taught), cross_entropy(network(x), y)), fails, 0.5, 0.3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_teacher_that_helps_gains_weight():
    """The sign: where the teacher is right about what judges, and the labels are wrong, rho grows; the other way round it falls."""

    def learned(helpful):
        torch.manual_seed(0)
        network, x = nn.Linear(6, 4), torch.randn(32, 6)
        right, wrong = torch.randint(4, (32,)), torch.randint(4, (32,))
        taught = nn.functional.one_hot(right if helpful else wrong, 4).float()
        labels = wrong if helpful else right
        matching, student, teachers = Matching(4, 8, lr=0.01), torch.rand(8, 4), torch.rand(1, 8, 4)
        for _ in range(20):
            rho = matching.logits(student, teachers)[0].sigmoid()
            coefficient = closed_form(
                list(network.parameters()),
                lambda: (cross_entropy(network(x), taught), cross_entropy(network(x), labels)),
                lambda: cross_entropy(network(x), right),
                float(rho.detach()),
                0.1,
            )
            matching.learn(coefficient, rho)
        return float(matching.logits(student, teachers)[0].sigmoid())

    assert learned(True) > 0.5 > learned(False)


@pytest.fixture(scope="module")
def cost():
    supernet = mbconv((1, 8, 8), 10, depths=(1, 2, 2))
    return macs(supernet.space, supernet.parts())


def trained(digits, cost, epochs, **settings):
    supernet, moments, records = mbconv((1, 8, 8), 10, depths=(1, 2, 2)), [], []
    way = PrioritisedPaths(cost, 10, **settings)
    inner = way.step

    def watched(network, batch, moment, rng):
        before = len(way.board), copy.deepcopy(way.matching.state_dict())
        losses = inner(network, batch, moment, rng)
        moments.append((moment, *before, losses))
        return losses

    vars(way)["step"] = watched
    losses = train(
        supernet, way, digits.train, epochs=epochs, batch_size=64, on_record=lambda epoch, record: records.append((epoch, record))
    )
    return supernet, way, moments, losses, records


def test_warm_up_leaves_board_and_matching_network_alone_and_then_both_move(digits, cost):
    supernet, way, moments, losses, records = trained(digits, cost, 4, warmup=0.5, every=5, size=4)
    early = [(size, state) for moment, size, state, _ in moments if moment.epoch < 2]
    assert {size for size, _ in early} == {0}
    assert all(not state["layer.weight"].any() for _, state in early)
    assert all(found["teacher"] == 0 for found in losses[:2])
    assert all(found["teacher"] > 0 for found in losses[2:])
    assert len(way.board) == 4
    assert way.matching.layer.weight.any()
    assert [epoch for epoch, _ in records] == [2, 3]
    record = records[-1][1]
    assert record.architecture == way.board.entries[0].path
    assert record.score == max(entry["accuracy"] for entry in record.attributes["board"])
    assert record.attributes["board"][0]["architecture"] == supernet.space.to_names(record.architecture)


def test_every_entry_keeps_the_budget(digits, cost):
    limits = Budget({"macs": cost}, ["macs=400k"])
    _, way, *_ = trained(digits, cost, 2, warmup=0.0, budget=limits)
    assert len(way.board) == 10
    assert all(entry.cost <= 400e3 for entry in way.board.entries)
    assert limits.feasible(np.array([entry.path for entry in way.board.entries])).all()


def test_the_loss_is_what_it_says(digits, cost):
    """Against the formula, on a stand-alone copy of student and teacher."""
    for convex in (True, False):
        supernet, way, *_ = trained(digits, cost, 2, warmup=0.0, convex=convex, size=3)
        images, labels = next(digits.train.batches(64, CPU))
        supernet.train()
        taught_by = way.board.entries[1].path
        vars(way)["teacher"] = lambda network, path, rng, taught_by=taught_by: (taught_by, 0.3)
        vars(way)["paths"] = lambda space, rng: np.array([[0, 1, 0, 2, 0]])
        losses = PrioritisedPaths.step(way, supernet, (images, labels), Moment(1, 2, 30, 40, 0.1), np.random.default_rng(0))
        student, teacher = (supernet.subnet(path).train() for path in ((0, 1, 0, 2, 0), taught_by))
        logits, taught = student(images), teacher(images).softmax(1)
        by_teacher = -(taught * logits.log_softmax(1)).sum(1).mean()
        by_labels = cross_entropy(logits, labels, label_smoothing=0.1)
        expected = (0.15 * by_teacher, 0.85 * by_labels) if convex else (0.3 * by_teacher, by_labels)
        assert float(losses["teacher"]) == pytest.approx(float(expected[0]), rel=1e-4)
        assert float(losses["labels"]) == pytest.approx(float(expected[1]), rel=1e-4)


def test_looking_at_paths_moves_no_statistics(digits, cost):
    supernet, way, *_ = trained(digits, cost, 2, warmup=0.0)
    supernet.train()
    before = copy.deepcopy(supernet.state_dict())
    images, _ = next(digits.train.batches(64, CPU))
    path = way.board.entries[0].path
    with untracked(supernet, path), torch.no_grad():
        made = supernet(images, path)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
    with left_as_it_was(supernet), torch.no_grad():
        supernet.train()
        assert torch.equal(made, supernet(images, path))  # the same statistics: those of the batch
    found = way.teacher(supernet, path, np.random.default_rng(0))
    assert found[0] in [entry.path for entry in way.board.entries]
    assert 0 < found[1] < 1
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
