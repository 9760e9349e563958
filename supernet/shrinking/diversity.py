"""How different options are from those that could stand in their place.

Chen, Fu and Ling, "One-Shot Neural Ensemble Architecture Search", 2021, arXiv 2104.00597, drop operators that are neither good nor
different from their siblings, so that members of an ensemble have something to disagree about. How either is measured was never released;
here, as the paper's abstract allows: a random network is run with every option of a choice in turn, and an option is as different as its
predictions are from those of the other options: the mean Jensen-Shannon divergence in nats, over images, siblings and networks.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from evonas.space import Population, SearchSpace
from supernet.fitness import InheritedFitness
from supernet.shrinking.operators import Floats, Scores

UNLIKE = ("skip",)  # nothing is always different from something: it counts as different as its siblings are on average


def diversity_of_options(fitness: InheritedFitness, space: SearchSpace, rng: np.random.Generator, *, contexts: int = 8) -> Scores:
    """The diversity of every option of every choice, 0 to ln 2; NaN where it is not allowed. Choices that are alike have one mean.

    Args:
        fitness: runs paths on the images that predictions are compared on.
        space: of the options.
        rng: draws the networks.
        contexts: networks that an option is tried in, a choice.
    """
    found = [np.zeros(0)] * len(space)
    for columns in space.groups:
        allowed = list(space.allowed[columns[0]])
        means = np.full(len(space.choices[columns[0]].options), np.nan)
        each = [_of_choice(fitness, space.sample(contexts, rng), column, allowed) for column in columns if len(allowed) > 1]
        values = np.mean(each, axis=0) if each else np.zeros(1)
        compared = [i for i, option in enumerate(allowed) if space.choices[columns[0]].options[option] not in UNLIKE]
        means[allowed] = values[compared].mean() if len(compared) else values.mean()
        means[np.array(allowed)[compared]] = values[compared]
        for column in columns:
            found[column] = means
    return found


def _of_choice(fitness: InheritedFitness, networks: Population, column: int, allowed: list[int]) -> Floats:
    """The diversity of the options of one choice: shape (options,)."""
    rows = np.repeat(networks[:, None], len(allowed), axis=1)
    rows[:, :, column] = allowed
    said = fitness.logits(rows.reshape(-1, rows.shape[2])).log_softmax(-1).double()
    said = said.reshape(len(networks), len(allowed), *said.shape[1:])
    names = [fitness.supernet.space.choices[column].options[option] for option in allowed]
    sums, counts = np.zeros(len(allowed)), np.zeros(len(allowed))
    for one, other in itertools.permutations(range(len(allowed)), 2):
        if names[other] not in UNLIKE:
            sums[one] += float(jensen_shannon(said[:, one], said[:, other]).mean())
            counts[one] += 1
    return sums / np.maximum(counts, 1)


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    """The Jensen-Shannon divergence of distributions in nats, 0 to ln 2.

    Args:
        one, other: logarithms of probabilities, shape (..., classes).
    """
    middle = torch.logaddexp(one, other) - np.log(2)
    return ((one.exp() * (one - middle)).sum(-1) + (other.exp() * (other - middle)).sum(-1)) / 2


def sum_of_standardised(*scores: Scores) -> Scores:
    """Scores of options added up, each in standard deviations of its choice; an option that nothing holds stays minus infinity."""
    return [np.sum([_standardised(values) for values in choice], axis=0) for choice in zip(*scores, strict=True)]


def _standardised(values: Floats) -> Floats:
    finite = values[np.isfinite(values)]
    spread = finite.std() if len(finite) else 0.0
    return np.asarray((values - finite.mean()) / spread) if spread > 0 else np.where(np.isfinite(values), 0.0, values)
