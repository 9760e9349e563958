"""Gates of operators, learned while a supernet of layers with several branches is trained, under costs that are to be met.

Ci et al., "Evolving Search Space for Neural Architecture Search", 2021, arXiv 2011.10904, one round. Weights learn from sets of operators
whose gates are open by chance. Every other step a scalar for each operator learns from held-out images: two different sets are drawn for
every layer from the gates' probabilities, their probabilities relative to each other weigh what both make, of which only the first is
seen in the forward pass, and the costs of both; the loss is the cross-entropy and, for every bounded cost, the squared distance from its
target. Operators whose scalar falls below a threshold are dropped.

Departures: costs are in shares of their targets, so that one weight serves all (the paper's 1e-5 for millions of MACs around 300 is 0.9);
sets are no larger than a layer has branches; operators are dropped at the end of an epoch, not of a step. After short trainings gates have
moved little: `lr` is then larger than the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evonas.budget import Cost
from evonas.errors import UsageError
from evonas.space import Population, SearchSpace
from supernet.branch_chain import BranchBlock, Branches, BranchSupernet, Sets
from supernet.data import Batch, Part
from supernet.evaluation import left_as_it_was
from supernet.fitness import InheritedFitness
from supernet.training.architecture_weights import RECORD_CALIBRATION, RECORD_IMAGES
from supernet.training.uniform import UniformPaths
from supernet.training.way import Moment, Record, learn

MOST, LEAST = 0.999, 0.0005  # of a gate's probability
TRIED = 64  # draws among which a second set is looked for


class Gates(nn.Module):
    """A scalar for every operator of every layer, and the sets that are drawn from them.

    Args:
        space: of the supernet.
        laid_out: how its choices are sets.
    """

    def __init__(self, space: SearchSpace, laid_out: Branches) -> None:
        super().__init__()
        self.laid_out = laid_out
        self._may_be_empty = laid_out.may_be_empty(space)
        self.indicators = nn.Parameter(torch.zeros(laid_out.layers, laid_out.operators))

    def probabilities(self) -> Tensor:
        """That a gate is open, shape (layers, operators)."""
        return MOST * torch.sigmoid(self.indicators) + LEAST

    def draw(self, space: SearchSpace, count: int, rng: np.random.Generator, probability: float | None = None) -> Sets:
        """Sets of allowed operators, as the gates say, given that they are legal: shape (count, layers, operators).

        Args:
            space: says which operators are allowed.
            count: how many networks.
            rng: the source of chance.
            probability: of every gate, in place of what was learned.
        """
        allowed, layers = self.laid_out.allowed(space), np.arange(self.laid_out.layers)
        open_ = np.full(allowed.shape, probability) if probability is not None else self.probabilities().detach().cpu().double().numpy()
        odds = np.where(allowed, open_ / (1 - open_), 0.0)
        sums = _sums_of_products(odds, self.laid_out.branches)
        sizes = sums[:, 0].copy()
        sizes[~self._may_be_empty, 0] = 0.0
        chances = sizes.cumsum(axis=1) / sizes.sum(axis=1, keepdims=True)
        left = (rng.random((count, len(layers), 1)) >= chances[:, :-1]).sum(axis=2)  # operators still to be taken, of a size drawn first
        found = np.zeros((count, *allowed.shape), dtype=bool)
        for operator in range(self.laid_out.operators):
            with_it = odds[:, operator] * sums[layers, operator + 1, np.maximum(left - 1, 0)]
            taken = (left > 0) & (rng.random(left.shape) * sums[layers, operator, left] < with_it)
            found[:, :, operator] = taken
            left = left - taken
        return found

    def population(self, space: SearchSpace, count: int, rng: np.random.Generator) -> Population:
        """Networks as the gates say: shape (count, choices)."""
        return self.laid_out.population(self.draw(space, count, rng))

    def log_likelihood(self, sets: npt.NDArray[np.bool_], allowed: npt.NDArray[np.bool_]) -> Tensor:
        """The logarithm of the probability of every layer's set, up to that of being legal: shape (layers,)."""
        p = self.probabilities()
        each = torch.where(torch.from_numpy(sets).to(p.device), p.log(), (1 - p).log())
        return (each * torch.from_numpy(allowed).to(p.device)).sum(1)

    def most_likely(self, space: SearchSpace) -> Sets:
        """The likeliest legal set of every layer: shape (1, layers, operators)."""
        p = np.where(self.laid_out.allowed(space), self.probabilities().detach().cpu().double().numpy(), 0.0)
        order = np.argsort(-p, axis=1, kind="stable")
        found = np.zeros((1, *p.shape), dtype=bool)
        for layer, operators in enumerate(order):
            chosen = [o for o in operators[: self.laid_out.branches] if p[layer, o] > 0.5]
            found[0, layer, chosen or ([] if self._may_be_empty[layer] else [operators[0]])] = True
        return found


def _sums_of_products(odds: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
    """What sets of k of the operators from some one on weigh together, where a set weighs the product of its odds.

    Args:
        odds: shape (layers, operators).
        most: operators of a set.

    Returns:
        Shape (layers, operators + 1, most + 1): by the operator that the list begins with, and by k.
    """
    layers, operators = odds.shape
    sums = np.zeros((layers, operators + 1, most + 1))
    sums[:, operators, 0] = 1.0
    for first in reversed(range(operators)):
        sums[:, first] = sums[:, first + 1]
        sums[:, first, 1:] += odds[:, first, None] * sums[:, first + 1, :-1]
    return sums


def costs_of_operators(cost: Cost, supernet: BranchSupernet) -> tuple[float, npt.NDArray[np.float64]]:
    """What every network costs, and what an operator adds to it: of any cost that adds up over branches. Shape (layers, operators).

    Raises:
        UsageError: the cost does not add up.
    """
    laid_out, empty = supernet.laid_out, supernet.laid_out.may_be_empty(supernet.space)
    base = np.zeros((laid_out.layers, laid_out.operators), dtype=bool)
    base[~empty, 0] = True
    rows, first = [base], np.zeros(laid_out.layers)
    for layer in range(laid_out.layers):
        for operator in range(laid_out.operators):
            changed = base.copy()
            changed[layer] = np.arange(laid_out.operators) == operator
            rows.append(changed)
    found = cost(laid_out.population(np.stack(rows)))
    added = (found[1:] - found[0]).reshape(base.shape)
    if laid_out.branches > 1:  # what the first operator adds where it cannot be left out: from a pair; single ones differ by it alone
        for layer in np.flatnonzero(~empty).tolist():
            pair = base.copy()
            pair[layer, 1] = True
            first[layer] = float(cost(laid_out.population(pair[None]))[0]) - float(found[0]) - added[layer, 1]
    added += first[:, None]
    constant = float(found[0]) - float(first.sum())
    some = supernet.space.sample(20, np.random.default_rng(0))
    expected = constant + (laid_out.sets(some) * added).sum(axis=(1, 2))
    if not np.allclose(expected, cost(some), rtol=1e-6):
        raise UsageError("A cost that gates are to meet does not add up over operators; expected a table of blocks, or a count.")
    return constant, added


class GatedBranches(UniformPaths):
    """Sets of operators by chance train the weights, and gates learn from held-out images.

    Args:
        supernet: whose gates are learned.
        targets: what costs are to be, by name: the cost, and its target.
        weight: of a squared relative distance from a target, beside the cross-entropy.
        every: steps of the weights for one of the gates.
        lr: of Adam on the scalars.
        threshold: operators whose scalar is below are dropped.
        kept: operators that never are, shape (layers, operators).
        held_out: share of the training images that gates learn from.
        open_probability: of a gate where weights learn.
        label_smoothing: of the loss of the weights.
    """

    def __init__(
        self,
        supernet: BranchSupernet,
        targets: Mapping[str, tuple[Cost, float]] | None = None,
        *,
        weight: float = 0.9,
        every: int = 2,
        lr: float = 0.005,
        threshold: float = -2.0,
        kept: npt.NDArray[np.bool_] | None = None,
        held_out: float = 0.2,
        open_probability: float = 0.5,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(label_smoothing=label_smoothing)
        if every < 1 or weight < 0:
            raise UsageError(f"Got a step of the gates every {every} steps and a weight of {weight:g}; expected at least 1 and 0.")
        self.gates = Gates(supernet.space, supernet.laid_out)
        self.weight, self.every, self.threshold, self.held_out = weight, every, threshold, held_out
        self.open_probability = open_probability
        self.kept = np.zeros((supernet.laid_out.layers, supernet.laid_out.operators), dtype=bool) if kept is None else kept
        self._targets = {name: (*costs_of_operators(cost, supernet), target) for name, (cost, target) in (targets or {}).items()}
        self._optimizer = torch.optim.Adam(self.gates.parameters(), lr, (0.0, 0.999))

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """See `UniformPaths.paths`."""
        drawn = self.gates.draw(space, 1, rng, self.open_probability)
        return self.gates.laid_out.population(drawn)

    def after_step(self, network: Any, batch: Batch, held_out: Batch | None, moment: Moment, rng: np.random.Generator) -> None:
        """See `Way.after_step`."""
        if moment.step % self.every or held_out is None:
            return
        images, labels = held_out
        logits, expected = self.pair(network, images, rng)
        loss = cross_entropy(logits.float(), labels) + sum(self.distances(expected), torch.zeros((), device=logits.device))
        learn(loss, self._optimizer)

    def pair(self, network: BranchSupernet, images: Tensor, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits of one of two networks whose layers are drawn from the gates, and the expected costs, with gradients for the gates.

        Returns:
            Logits of the first, shape (n, classes), and by name the expectation over both of every layer.
        """
        space, allowed = network.space, self.gates.laid_out.allowed(network.space)
        first, second = self._two(space, rng)
        likelihood = torch.stack([self.gates.log_likelihood(sets, allowed) for sets in (first, second)])
        q = torch.softmax(likelihood, 0)  # shape (2, layers)
        value, layer = images, 0
        for block in network.chain:
            if not isinstance(block, BranchBlock):
                value = block(value)
                continue
            chosen, other = (block.of(np.flatnonzero(sets[layer]).tolist()) for sets in (first, second))
            with torch.no_grad():
                unseen = other(value)
            share = q[:, layer] - q[:, layer].detach()  # 0 with a gradient
            value = chosen(value) * (1 + share[0]) + unseen * share[1]
            layer += 1
        expected = {}
        for name, (constant, added, _) in self._targets.items():
            of_sets = np.stack([(sets * added).sum(axis=1) for sets in (first, second)])
            expected[name] = constant + (q * torch.from_numpy(of_sets).to(q)).sum()
        return value, expected

    def distances(self, expected: Mapping[str, Tensor]) -> list[Tensor]:
        """The weighed squares of the relative distances from the targets."""
        return [self.weight * (value / self._targets[name][2] - 1) ** 2 for name, value in expected.items()]

    def end_of_epoch(self, network: Any, held_out: Part | None, moment: Moment) -> SearchSpace | None:
        """The space without the operators whose gates are nearly closed; see `Way.end_of_epoch`."""
        laid_out, space = self.gates.laid_out, network.space
        allowed, least = laid_out.allowed(space), np.where(laid_out.may_be_empty(space), 1, 2)
        scalars = self.gates.indicators.detach().cpu().numpy()
        for layer in range(laid_out.layers):
            for operator in np.argsort(scalars[layer]).tolist():
                closed = scalars[layer, operator] < self.threshold and not self.kept[layer, operator]
                if allowed[layer, operator] and closed and allowed[layer].sum() > least[layer]:
                    allowed[layer, operator] = False
        return None if (allowed == laid_out.allowed(space)).all() else laid_out.narrowed(space, allowed)

    def record(self, network: Any, held_out: Part | None, moment: Moment) -> Record | None:
        """The likeliest network, its accuracy on held-out images, and the gates."""
        assert held_out is not None
        laid_out, device = self.gates.laid_out, next(network.parameters()).device
        row = laid_out.population(self.gates.most_likely(network.space))
        images, calibration = held_out.head(RECORD_IMAGES), held_out.head(RECORD_CALIBRATION)
        with left_as_it_was(network):
            score = float(InheritedFitness(network, images, calibration, device=device)(row)[0])
        return Record(tuple(row[0].tolist()), score, {"distribution": self.told(network.space)})

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's, beside the scalars."""
        return {"optimizer": self._optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See `get_extra_state`."""
        self._optimizer.load_state_dict(state["optimizer"])

    def told(self, space: SearchSpace) -> dict[str, dict[str, float]]:
        """How likely the operators that are left are open, by layer and operator."""
        laid_out, p = self.gates.laid_out, self.gates.probabilities().detach().cpu().numpy()
        found: dict[str, dict[str, float]] = {}
        for layer, allowed in enumerate(laid_out.allowed(space)):
            choice = space.choices[layer * laid_out.branches]
            name = choice.name.rsplit(".", 1)[0]
            found[name] = {choice.options[o]: round(float(p[layer, o]), 6) for o in np.flatnonzero(allowed)}
        return found

    def _two(self, space: SearchSpace, rng: np.random.Generator) -> tuple[Sets, Sets]:
        """Two sets a layer that differ, where there are two; each of shape (layers, operators)."""
        drawn = self.gates.draw(space, TRIED, rng)
        second = drawn[1].copy()
        for layer in range(len(second)):
            others = np.flatnonzero((drawn[:, layer] != drawn[0, layer]).any(axis=1))
            second[layer] = drawn[others[0] if len(others) else 0, layer]
        return drawn[0], second
