"""SETN's template and evaluator: each learns alone, paths are uniform, and records say what was learned."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from evonas import UsageError
from supernet import LearnedMixtures, SelfEvaluated, darts, nasbench201, train
from supernet import testing as t
from supernet.blocks import Mixture
from supernet.training.way import Moment

CELLS = {"widths": (4,), "cells": 1}


def small(seed=0):
    return nasbench201((1, 8, 8), 4, **CELLS, seed=seed)


def test_template_and_evaluator_leave_each_other_alone():
    """A step sends no gradient to the evaluator, and the evaluator's step moves no weight, to the bit."""
    supernet = small()
    way = SelfEvaluated(supernet.space, evaluator_lr=0.1)
    images, labels = t.training_images(32).images, t.training_images(32).labels
    moment, rng = Moment(0, 1, 0, 1, 0.1), np.random.default_rng(0)
    way.step(supernet, (images, labels), moment, rng).backward()
    assert any(parameter.grad is not None for parameter in supernet.parameters())
    assert all(parameter.grad is None for parameter in way.parameters())
    supernet.zero_grad(set_to_none=True)
    before = {name: value.clone() for name, value in supernet.named_parameters()}
    first = [value.clone() for value in way.evaluator.logits]
    way.after_step(supernet, (images, labels), (images, labels), moment, rng)
    assert all(torch.equal(before[name], value) and value.grad is None for name, value in supernet.named_parameters())
    assert all(not torch.equal(one, other) for one, other in zip(first, way.evaluator.logits, strict=True))


def test_the_evaluator_learns_from_the_gradient_of_the_mixture():
    """One step of Adam moves every logit by its rate against the sign of a gradient that finite differences give."""
    supernet = small().double()
    way = SelfEvaluated(supernet.space, evaluator_lr=0.01, evaluator_weight_decay=0.0).double()
    images, labels = t.training_images(64).images.double(), t.training_images(64).labels
    before = [value.detach().clone() for value in way.evaluator.logits]

    def loss(logits):
        weights = Mixture([torch.softmax(found, 0) for found in logits])
        return torch.nn.functional.cross_entropy(supernet(images, weights), labels).item()

    way.evaluator.learn(supernet, (images, labels))
    for choice, option in [(0, 1), (2, 3), (5, 4), (3, 2)]:
        slopes = []
        for sign in (1, -1):
            moved = [value.clone() for value in before]
            moved[choice][option] += sign * 1e-5
            slopes.append(loss(moved))
        slope = (slopes[0] - slopes[1]) / 2e-5
        step = (way.evaluator.logits[choice] - before[choice])[option].item()
        assert step == pytest.approx(-0.01 * np.sign(slope), rel=1e-3)


def test_paths_are_uniform_over_the_cells_that_have_one():
    """Operators of 4,000 paths against those of all cells with a path: chi-square."""
    space = small().space
    way, rng = SelfEvaluated(space), np.random.default_rng(3)
    drawn = np.concatenate([way.paths(space, rng) for _ in range(4000)])
    everything = space.enumerate()
    everything = everything[space.graph.connects([choice.options for choice in space.choices], everything)]
    assert space.graph.connects([choice.options for choice in space.choices], drawn).all()
    for column in range(len(space)):
        expected = np.bincount(everything[:, column], minlength=5) / len(everything) * len(drawn)
        assert chisquare(np.bincount(drawn[:, column], minlength=5), expected).pvalue > 1e-4
    cut = space.narrow({name: ["none"] for name in space.names})
    with pytest.raises(UsageError, match="leads from the input to the output"):
        way.paths(cut, rng)


@pytest.mark.parametrize("make", [lambda s: SelfEvaluated(s, evaluator_lr=0.05, warmup=0.5), lambda s: LearnedMixtures(s, warmup=0.5)])
def test_what_is_recorded_is_what_was_learned(make):
    """One record an epoch; nothing is learned during warm-up; what is recommended is the mode of the distribution it carries."""
    supernet, found = small(), []
    way = make(supernet.space)
    first = way_weights(way).distribution(supernet.space)
    train(supernet, way, t.training_images(96), epochs=4, batch_size=16, on_record=lambda epoch, record: found.append((epoch, record)))
    assert [epoch for epoch, _ in found] == [0, 1, 2, 3]
    for epoch, record in found:
        learned = [list(options.values()) for options in record.attributes["distribution"].values()]
        assert record.architecture == tuple(int(np.argmax(p)) for p in learned)
        assert np.allclose(np.concatenate(learned), np.concatenate(first), atol=1e-6) == (epoch < 2)
        assert 0 <= record.score <= 1
    assert all(module.training is False for module in supernet.modules())


def way_weights(way):
    return way.evaluator if isinstance(way, SelfEvaluated) else way.weights


def test_learning_lowers_the_loss_of_the_mixture(digits):
    """On images that it learns from, with the template's weights fixed."""
    supernet = nasbench201((1, 8, 8), 10, widths=(8,), cells=1)
    way = SelfEvaluated(supernet.space, evaluator_lr=0.05, warmup=1.0)
    train(supernet, way, digits.train, epochs=6, batch_size=64, lr=0.2)
    supernet.train()
    images, labels = next(digits.search.batches(300, torch.device("cpu")))
    losses = [float(way.evaluator.learn(supernet, (images, labels))) for _ in range(40)]
    assert losses[-1] < losses[0] - 0.004
    assert sorted(losses[::10], reverse=True) == losses[::10]


def test_strengths_of_edges_learn_and_decide_which_are_kept():
    """PC-DARTS: with equal weights of options the two strongest edges of a node are kept, whatever their numbers."""
    supernet = darts((1, 8, 8), 4, channels=8, cells=3, nodes=2, share=4)
    way, found = LearnedMixtures(supernet.space, keep=2, architecture_lr=0.1, edge_normalisation=True), []
    before = way.weights.strengths.detach().clone()
    train(supernet, way, t.training_images(64), epochs=1, batch_size=16, on_record=lambda epoch, record: found.append(record))
    assert (way.weights.strengths != before).all()
    with torch.no_grad():
        for logits in way.weights.logits:
            logits.zero_()
        way.weights.strengths.copy_(torch.arange(float(len(supernet.space))))
    row = supernet.space.to_names(way.record(supernet, t.training_images(64), None).architecture)
    cut = {name for name, option in row.items() if option == "none"}
    assert cut == {"normal.input1_to_node2.op", "reduction.input1_to_node2.op"}  # the first, weakest, of three edges
